#include "engine/sampling/philox.h"

#include <gtest/gtest.h>

namespace tandem::sampling {
namespace {

// The known-answer vectors of the authors' Random123 distribution (philox4x32, 10 rounds).
TEST(PhiloxTest, KnownAnswersMatch) {
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({~0U, ~0U, ~0U, ~0U}, {~0U, ~0U}),
            (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (std::array<uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(PhiloxTest, UniformDrawIsTheDocumentedFunctionOfSeedAndIndex) {
  // From the first vector: words 0xe169c58d'6627e8d5, upper 53 bits.
  EXPECT_EQ(UniformDraw(0, 0), static_cast<double>(0xe169c58d6627e8d5 >> 11) / 9007199254740992.0);
  EXPECT_NE(UniformDraw(0, 1), UniformDraw(1, 0));
  // Both halves of seed and index matter.
  EXPECT_NE(UniformDraw(uint64_t{1} << 32, 0), UniformDraw(0, 0));
  EXPECT_NE(UniformDraw(0, uint64_t{1} << 32), UniformDraw(0, 0));
}

TEST(PhiloxTest, DrawsAreUniform) {
  constexpr int kBuckets = 16;
  constexpr int kDraws = 64'000;
  std::array<int, kBuckets> counts{};
  for (int i = 0; i < kDraws; ++i) {
    const double u = UniformDraw(42, static_cast<uint64_t>(i));
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    ++counts[static_cast<size_t>(u * kBuckets)];
  }
  double chi_square = 0;
  for (int count : counts) {
    const double expected = static_cast<double>(kDraws) / kBuckets;
    chi_square += (count - expected) * (count - expected) / expected;
  }
  EXPECT_LT(chi_square, 37.7);  // 15 degrees of freedom, p = 0.001
}

}  // namespace
}  // namespace tandem::sampling
