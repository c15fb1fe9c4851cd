#include "app/byte_size.h"

#include <gtest/gtest.h>

namespace tandem::app {
namespace {

TEST(ByteSizeTest, SizesAreParsedWithTheirUnits) {
  EXPECT_EQ(ParseByteSize("512").value(), 512u);
  EXPECT_EQ(ParseByteSize("2.1GB").value(), 2'100'000'000u);
  EXPECT_EQ(ParseByteSize("2 GiB").value(), uint64_t{2} << 30);
  EXPECT_EQ(ParseByteSize("1.5MiB").value(), 1'572'864u);
  for (const char* wrong : {"", "GB", "-1GB", "0", "1XB", "1e300GB", "nan"}) {
    EXPECT_EQ(ParseByteSize(wrong).error().code, ErrorCode::kInvalidArgument) << wrong;
  }
}

TEST(ByteSizeTest, SizesAreShownShort) {
  EXPECT_EQ(FormatByteSize(0), "0 B");
  EXPECT_EQ(FormatByteSize(999), "999 B");
  EXPECT_EQ(FormatByteSize(1'011'808), "1.0 MB");
  EXPECT_EQ(FormatByteSize(2'400'000'000), "2.4 GB");
  EXPECT_EQ(FormatByteSize(999'999), "1.0 MB");
  EXPECT_EQ(FormatByteSize(23'400), "23 kB");
}

}  // namespace
}  // namespace tandem::app
