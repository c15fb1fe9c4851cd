#include "cli/command.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>

#include <gtest/gtest.h>

namespace tandem::cli {
namespace {

TEST(CommandTest, SizesAreParsedWithTheirUnits) {
  EXPECT_EQ(ParseByteSize("512").value(), 512u);
  EXPECT_EQ(ParseByteSize("2.1GB").value(), 2'100'000'000u);
  EXPECT_EQ(ParseByteSize("2 GiB").value(), uint64_t{2} << 30);
  EXPECT_EQ(ParseByteSize("1.5MiB").value(), 1'572'864u);
  for (const char* wrong : {"", "GB", "-1GB", "0", "1XB", "1e300GB", "nan"}) {
    EXPECT_EQ(ParseByteSize(wrong).error().code, ErrorCode::kInvalidArgument) << wrong;
  }
}

TEST(CommandTest, SizesAreShownShort) {
  EXPECT_EQ(FormatByteSize(0), "0 B");
  EXPECT_EQ(FormatByteSize(999), "999 B");
  EXPECT_EQ(FormatByteSize(1'011'808), "1.0 MB");
  EXPECT_EQ(FormatByteSize(2'400'000'000), "2.4 GB");
  EXPECT_EQ(FormatByteSize(999'999), "1.0 MB");
  EXPECT_EQ(FormatByteSize(23'400), "23 kB");
}

// Points a standard stream at a full disk for as long as it lives.
class FullDisk {
 public:
  explicit FullDisk(FILE* stream) : stream_(stream), kept_(::dup(::fileno(stream))) {
    std::fflush(stream_);
    const int full = ::open("/dev/full", O_WRONLY);
    ::dup2(full, ::fileno(stream_));
    ::close(full);
  }
  ~FullDisk() {
    std::fflush(stream_);
    std::clearerr(stream_);
    ::dup2(kept_, ::fileno(stream_));
    ::close(kept_);
  }

 private:
  FILE* stream_;
  int kept_;
};

TEST(CommandTest, AFullDiskUnderStandardOutputIsAnError) {
  const FullDisk full(stdout);
  EXPECT_FALSE(Print("x\n"));
  EXPECT_FALSE(PrintTable({"NAME", "SIZE"}, {{"demo", "1 MB"}}));
}

TEST(CommandTest, AFullDiskUnderStandardErrorEndsNothing) {
  const FullDisk full(stderr);
  EXPECT_NO_THROW(PrintError("x\n"));
}

}  // namespace
}  // namespace tandem::cli
