#include "engine/package/quantize.h"

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "engine/quant/half.h"

namespace tandem::package {
namespace {

using kernels::Scheme;

struct Quantized {
  std::vector<int8_t> codes;
  std::vector<uint16_t> scales;
  QuantizationError error;

  double Value(size_t i, int group) const {
    return codes[i] * static_cast<double>(quant::HalfToFloat(scales[i / group]));
  }
};

Quantized Quantize(Scheme scheme, const std::vector<float>& row,
                   const std::vector<float>& importance = {}) {
  const int group = kernels::GetScheme(scheme).group;
  Quantized q{
      std::vector<int8_t>(row.size()), std::vector<uint16_t>((row.size() + group - 1) / group), {}};
  const auto error = QuantizeRow(scheme, row, importance, q.codes.data(), q.scales.data());
  EXPECT_TRUE(error) << error.error().message;
  q.error = *error;
  return q;
}

std::vector<float> Normal(size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, 0.02F);
  std::vector<float> row(n);
  for (float& value : row) value = normal(random);
  return row;
}

double Squares(const Quantized& q, const std::vector<float>& row, int group,
               const std::vector<float>& importance = {}) {
  double sum = 0;
  for (size_t i = 0; i < row.size(); ++i) {
    const double difference = q.Value(i, group) - row[i];
    sum += difference * difference * (importance.empty() ? 1.0 : importance[i]);
  }
  return sum;
}

class EverySchemeTest : public ::testing::TestWithParam<Scheme> {};
INSTANTIATE_TEST_SUITE_P(Schemes, EverySchemeTest,
                         ::testing::Values(Scheme::kInt4G128, Scheme::kInt4G32, Scheme::kInt8G128,
                                           Scheme::kInt8G32),
                         [](const auto& instance) {
                           return std::string(kernels::GetScheme(instance.param).name);
                         });

TEST_P(EverySchemeTest, MultiplesOfAScaleComeBackExactly) {
  const auto& info = kernels::GetScheme(GetParam());
  std::vector<float> row(200);  // the last group is not whole
  for (size_t i = 0; i < row.size(); ++i) {
    const int code =
        info.bits == 4 ? static_cast<int>(i % 16) - 8 : static_cast<int>(i % 255) - 127;
    row[i] = 0.125F * static_cast<float>(code);
  }
  if (info.bits == 8) {  // every group holds its largest code
    for (size_t i = 0; i < row.size(); i += info.group) row[i] = 0.125F * 127;
  }
  const Quantized q = Quantize(GetParam(), row);
  for (size_t i = 0; i < row.size(); ++i) EXPECT_EQ(q.Value(i, info.group), row[i]) << i;
  EXPECT_EQ(q.error.relative(), 0);
}

TEST_P(EverySchemeTest, StatesTheErrorThatItMakes) {
  const auto& info = kernels::GetScheme(GetParam());
  const std::vector<float> row = Normal(1000, 3);
  const Quantized q = Quantize(GetParam(), row);
  EXPECT_NEAR(q.error.squares, Squares(q, row, info.group), 1e-12);
  for (const int8_t code : q.codes) {
    EXPECT_GE(code, info.min_code);
    EXPECT_LE(code, info.max_code);
  }
  // A uniform quantiser of step d has an error of d / sqrt(12); steps are the extreme of a group,
  // 2.7 (of 128) or 2.1 (of 32) standard deviations, over 8 or 127.
  const double step = (info.group == 128 ? 2.7 : 2.1) / (info.bits == 4 ? 8 : 127);
  EXPECT_LT(q.error.relative(), 1.15 * step / std::sqrt(12.0));
  EXPECT_GT(q.error.relative(), 0.7 * step / std::sqrt(12.0));
}

TEST_P(EverySchemeTest, ZerosAndTinyValuesGiveZeros) {
  std::vector<float> row(256, 0.0F);
  row[200] = 1e-20F;
  const Quantized q = Quantize(GetParam(), row);
  for (size_t i = 0; i < row.size(); ++i) EXPECT_EQ(q.codes[i], 0);
  for (const uint16_t scale : q.scales) EXPECT_EQ(scale, 0);
}

TEST_P(EverySchemeTest, ValuesThatHaveNoScaleAreAnError) {
  std::vector<int8_t> codes(128);
  std::vector<uint16_t> scales(4);
  for (const float bad :
       {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN(), 1e30F}) {
    std::vector<float> row = Normal(128, 1);
    row[77] = bad;
    const auto error = QuantizeRow(GetParam(), row, {}, codes.data(), scales.data());
    ASSERT_FALSE(error) << bad;
    EXPECT_EQ(error.error().code, ErrorCode::kCorrupt);
  }
  // The largest that fits, and all of one sign.
  const std::vector<float> large(128, 400'000.0F);
  const Quantized q = Quantize(GetParam(), large);
  EXPECT_LT(q.error.relative(), 0.001);
}

// Rounding to nearest with the obvious scale, extreme / -8.
Quantized RoundToNearest(const std::vector<float>& row, int group) {
  Quantized q{std::vector<int8_t>(row.size()), std::vector<uint16_t>(row.size() / group), {}};
  for (size_t g = 0; g < q.scales.size(); ++g) {
    float extreme = 0;
    for (int i = 0; i < group; ++i) {
      const float value = row[g * group + i];
      if (std::fabs(value) > std::fabs(extreme)) extreme = value;
    }
    q.scales[g] = quant::FloatToHalf(extreme / -8);
    const float scale = quant::HalfToFloat(q.scales[g]);
    for (int i = 0; i < group; ++i) {
      q.codes[g * group + i] =
          static_cast<int8_t>(std::clamp(std::nearbyint(row[g * group + i] / scale), -8.0F, 7.0F));
    }
  }
  return q;
}

TEST(QuantizeTest, TheSearchBeatsRoundingToNearestInNearlyEveryGroup) {
  for (const Scheme scheme : {Scheme::kInt4G128, Scheme::kInt4G32}) {
    const int group = kernels::GetScheme(scheme).group;
    int worse = 0;
    double searched = 0;
    double rounded = 0;
    constexpr int kGroups = 300;
    for (int i = 0; i < kGroups; ++i) {
      const std::vector<float> row = Normal(group, 100 + i);
      const double ours = Squares(Quantize(scheme, row), row, group);
      const double theirs = Squares(RoundToNearest(row, group), row, group);
      searched += ours;
      rounded += theirs;
      if (ours > theirs * 1.0001) ++worse;
    }
    EXPECT_LE(worse, kGroups / 100);
    EXPECT_LT(searched, 0.9 * rounded);
  }
}

TEST(QuantizeTest, ColumnsThatMatterMoreLoseLess) {
  const std::vector<float> row = Normal(128, 5);
  std::vector<float> importance(128, 0.01F);
  for (int i = 0; i < 16; ++i) importance[i] = 10.0F;
  const Quantized weighted = Quantize(Scheme::kInt4G128, row, importance);
  const Quantized plain = Quantize(Scheme::kInt4G128, row);
  EXPECT_LT(Squares(weighted, row, 128, importance), Squares(plain, row, 128, importance));
  EXPECT_GT(Squares(weighted, row, 128), Squares(plain, row, 128));
}

TEST(QuantizeTest, ImportanceOfZeroEverywhereStillGivesAScale) {
  const std::vector<float> row = Normal(128, 6);
  const Quantized q = Quantize(Scheme::kInt4G128, row, std::vector<float>(128, 0.0F));
  EXPECT_LT(q.error.relative(), 0.2);
}

struct InPlanes {
  std::vector<int8_t> codes;
  std::vector<int8_t> fine;
  std::vector<uint16_t> scales;
  PlaneErrors errors;

  double Value(size_t i, int group, int bits) const {
    return quant::HalfToFloat(scales[i / group]) * (codes[i] + std::ldexp(fine[i], -bits));
  }
};

InPlanes ToPlanes(Scheme scheme, int bits, const std::vector<float>& row) {
  const int group = kernels::GetScheme(scheme).group;
  InPlanes q{std::vector<int8_t>(row.size()),
             std::vector<int8_t>(row.size()),
             std::vector<uint16_t>((row.size() + group - 1) / group),
             {}};
  const auto errors =
      QuantizeRowInPlanes(scheme, bits, row, q.codes.data(), q.fine.data(), q.scales.data());
  EXPECT_TRUE(errors) << errors.error().message;
  q.errors = *errors;
  return q;
}

TEST(PlanesTest, EveryValueIsWithinHalfAStepOfEightOrSevenBits) {
  for (const Scheme scheme : {Scheme::kInt4G128, Scheme::kInt4G32}) {
    const auto group = static_cast<size_t>(kernels::GetScheme(scheme).group);
    for (const int bits : {3, 4}) {
      // Mostly negative, so that scales of both signs occur.
      std::vector<float> row = Normal(300, 7);
      for (size_t i = 0; i < 128; ++i) row[i] = -std::fabs(row[i]) * 3;
      const InPlanes q = ToPlanes(scheme, bits, row);
      double squares = 0;
      for (size_t i = 0; i < row.size(); ++i) {
        ASSERT_GE(q.codes[i], -8);
        ASSERT_LE(q.codes[i], 7);
        ASSERT_GE(q.fine[i], -(1 << (bits - 1)));
        ASSERT_LT(q.fine[i], 1 << (bits - 1));
        float largest = 0;
        for (size_t j = i / group * group; j < std::min(row.size(), (i / group + 1) * group); ++j) {
          largest = std::max(largest, std::fabs(row[j]));
        }
        const double difference = q.Value(i, static_cast<int>(group), bits) - row[i];
        // The smaller side of the range is 7 and a half of 16 or 8 parts; halves are rounded.
        ASSERT_LE(std::fabs(difference), largest / (7.4 * (1 << bits)) / 2 * 1.1) << i;
        squares += difference * difference;
      }
      EXPECT_NEAR(q.errors.both.squares, squares, 1e-9 * squares);
      EXPECT_LT(q.errors.both.relative(), bits == 4 ? 0.008 : 0.016);
      EXPECT_LT(q.errors.coarse.relative(), 0.13);
    }
  }
}

TEST(PlanesTest, ZerosAndTinyValuesHaveNoScale) {
  const InPlanes q = ToPlanes(Scheme::kInt4G32, 3, std::vector<float>(64, 1e-20F));
  EXPECT_EQ(q.scales, std::vector<uint16_t>(2, 0));
  EXPECT_EQ(q.codes, std::vector<int8_t>(64, 0));
  EXPECT_EQ(q.fine, std::vector<int8_t>(64, 0));
}

TEST(PlanesTest, ValuesThatAreNotFiniteOrTooLargeAreErrors) {
  for (const float bad : {std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN(), 1e6F, -1e6F}) {
    std::vector<float> row(64, 0.5F);
    row[40] = bad;
    int8_t codes[64];
    int8_t fine[64];
    uint16_t scales[2];
    const auto errors = QuantizeRowInPlanes(Scheme::kInt4G32, 4, row, codes, fine, scales);
    ASSERT_FALSE(errors);
    EXPECT_EQ(errors.error().code, ErrorCode::kCorrupt);
  }
}

TEST(PlanesTest, NormOfTheFineRowIsNoSmallerThanItIs) {
  for (const int bits : {3, 4}) {
    const std::vector<float> row = Normal(300, 11);
    const InPlanes q = ToPlanes(Scheme::kInt4G128, bits, row);
    double squares = 0;
    for (size_t i = 0; i < row.size(); ++i) {
      const double fine = quant::HalfToFloat(q.scales[i / 128]) * std::ldexp(q.fine[i], -bits);
      squares += fine * fine;
    }
    const float norm = FineNorm(Scheme::kInt4G128, bits, q.fine, q.scales);
    EXPECT_GE(double{norm} * norm, squares);
    EXPECT_LT(norm, std::sqrt(squares) * 1.00001);
  }
}

}  // namespace
}  // namespace tandem::package
