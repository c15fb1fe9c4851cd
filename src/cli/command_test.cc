#include "cli/command.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>

#include <gtest/gtest.h>

namespace tandem::cli {
namespace {

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
