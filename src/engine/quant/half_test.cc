#include "engine/quant/half.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include <gtest/gtest.h>

// The compiler's own _Float16 and, for bfloat16, double arithmetic are the judges here.

namespace tandem::quant {
namespace {

TEST(HalfTest, EveryHalfDecodesAsTheCompilerDoes) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const auto expected = static_cast<float>(std::bit_cast<_Float16>(half));
    const float actual = HalfToFloat(half);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(actual)) << bits;
    } else {
      ASSERT_EQ(std::bit_cast<uint32_t>(actual), std::bit_cast<uint32_t>(expected)) << bits;
    }
  }
}

TEST(HalfTest, EveryHalfSurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const bool nan = (bits & 0x7C00) == 0x7C00 && (bits & 0x3FF) != 0;
    const auto expected = static_cast<uint16_t>(nan ? bits | 0x200 : bits);  // NaNs become quiet
    ASSERT_EQ(FloatToHalf(HalfToFloat(half)), expected) << bits;
  }
}

// Both neighbours of every midpoint, and the midpoint itself, where ties go to even.
TEST(HalfTest, RoundsAsTheCompilerDoesAroundEveryMidpoint) {
  for (uint32_t bits = 0; bits < 0x7C00; ++bits) {
    const double low = HalfToFloat(static_cast<uint16_t>(bits));
    const double high = bits + 1 == 0x7C00 ? 65536.0 : HalfToFloat(static_cast<uint16_t>(bits + 1));
    const auto middle = static_cast<float>((low + high) / 2);
    for (const float value :
         {middle, std::nextafter(middle, 0.0F), std::nextafter(middle, 1e9F), -middle}) {
      const auto expected = std::bit_cast<uint16_t>(static_cast<_Float16>(value));
      ASSERT_EQ(FloatToHalf(value), expected) << value;
    }
  }
}

TEST(HalfTest, ExtremesBecomeInfinityZeroOrQuietNan) {
  EXPECT_EQ(FloatToHalf(65519.996F), 0x7BFF);
  EXPECT_EQ(FloatToHalf(65520.0F), 0x7C00);
  EXPECT_EQ(FloatToHalf(-std::numeric_limits<float>::max()), 0xFC00);
  EXPECT_EQ(FloatToHalf(std::numeric_limits<float>::infinity()), 0x7C00);
  EXPECT_EQ(FloatToHalf(0x1p-25F), 0);  // a tie between 0 and the least subnormal
  EXPECT_EQ(FloatToHalf(std::nextafter(0x1p-25F, 1.0F)), 1);
  EXPECT_EQ(FloatToHalf(-std::numeric_limits<float>::denorm_min()), 0x8000);
  // A NaN whose payload lies only in the bits that are cut off must not become infinity.
  EXPECT_EQ(FloatToHalf(std::bit_cast<float>(0x7F800001U)), 0x7E00);
}

TEST(BFloat16Test, RoundsToNearestWithTiesToEven) {
  for (uint32_t bits = 0; bits < 0x7F80; ++bits) {
    const auto value = static_cast<uint16_t>(bits);
    const float low = BFloat16ToFloat(value);
    ASSERT_EQ(FloatToBFloat16(low), value);
    const float middle = std::bit_cast<float>((bits << 16) | 0x8000);
    const auto even = static_cast<uint16_t>(bits + (bits & 1));
    ASSERT_EQ(FloatToBFloat16(middle), even) << bits;
    ASSERT_EQ(FloatToBFloat16(-middle), even | 0x8000) << bits;
    ASSERT_EQ(FloatToBFloat16(std::nextafter(middle, 0.0F)), value) << bits;
    ASSERT_EQ(FloatToBFloat16(std::bit_cast<float>((bits << 16) | 0x8001)), value + 1) << bits;
  }
}

TEST(BFloat16Test, NanStaysNan) {
  EXPECT_EQ(FloatToBFloat16(std::bit_cast<float>(0x7F800001U)), 0x7FC0);
  EXPECT_EQ(FloatToBFloat16(std::bit_cast<float>(0xFFFFFFFFU)), 0xFFFF);
  EXPECT_EQ(FloatToBFloat16(std::numeric_limits<float>::infinity()), 0x7F80);
}

}  // namespace
}  // namespace tandem::quant
