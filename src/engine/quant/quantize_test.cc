#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "engine/quant/blocks.h"
#include "engine/quant/codec.h"

namespace tandem::quant {
namespace {

const std::vector<Type> kBlockTypes = {Type::kQ4_0, Type::kQ4_1, Type::kQ5_0, Type::kQ8_0,
                                       Type::kQ4_K, Type::kQ5_K, Type::kQ6_K, Type::kIQ4_NL};

std::vector<float> Gaussian(int64_t n, float deviation, uint32_t seed) {
  std::mt19937 generator(seed);
  std::vector<float> values(static_cast<size_t>(n));
  // Box-Muller by hand: std::normal_distribution differs between libraries.
  for (float& value : values) {
    const double u = (generator() + 1.0) / 4294967297.0;
    const double v = generator() / 4294967296.0;
    value = deviation * static_cast<float>(std::sqrt(-2 * std::log(u)) * std::cos(6.283185307 * v));
  }
  return values;
}

std::vector<std::byte> Encode(Type type, const std::vector<float>& values,
                              const float* importance = nullptr) {
  const auto n = static_cast<int64_t>(values.size());
  std::vector<std::byte> blocks(static_cast<size_t>(RowBytes(type, n)));
  const Status status = QuantizeRow(type, values.data(), blocks.data(), n, importance);
  EXPECT_TRUE(status.has_value()) << status.error().message;
  return blocks;
}

std::vector<float> RoundTrip(Type type, const std::vector<float>& values,
                             const float* importance = nullptr) {
  const std::vector<std::byte> blocks = Encode(type, values, importance);
  std::vector<float> decoded(values.size());
  DequantizeRow(type, blocks.data(), decoded.data(), static_cast<int64_t>(values.size()));
  return decoded;
}

double RelativeRms(const std::vector<float>& a, const std::vector<float>& b) {
  double error = 0;
  double norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    error += (a[i] - b[i]) * static_cast<double>(a[i] - b[i]);
    norm += a[i] * static_cast<double>(a[i]);
  }
  return std::sqrt(error / norm);
}

// What rounding to an even grid gives on normal values: the step is a group's extreme, divided by
// the levels that reach it, and an error that is uniform within a step has rms step / sqrt(12). The
// rms of the extreme, in deviations: 2.39 for |x| of 32 values, 2.14 of 16, 4.20 for max - min
// of 32. A search must gain at least four per cent on that; Q8_0, which has none, must reach it.
TEST(QuantizeTest, NormalValuesKeepTheErrorOfAnEvenGridOrLess) {
  struct Bound {
    Type type;
    double step;
    double gain;
  };
  const std::vector<float> values = Gaussian(64 * 1024, 0.02F, 1);
  for (const Bound bound :
       {Bound{Type::kQ4_0, 2.39 / 8, 0.96}, Bound{Type::kQ4_1, 4.20 / 15, 0.96},
        Bound{Type::kQ5_0, 2.39 / 16, 0.96}, Bound{Type::kQ8_0, 2.39 / 127, 1.01},
        Bound{Type::kQ4_K, 4.20 / 15, 0.96}, Bound{Type::kQ5_K, 4.20 / 31, 0.96},
        Bound{Type::kQ6_K, 2.14 / 32, 0.96}}) {
    const double even_grid = bound.step / std::sqrt(12.0);
    const double actual = RelativeRms(values, RoundTrip(bound.type, values));
    EXPECT_LT(actual, bound.gain * even_grid) << GetType(bound.type).name;
    EXPECT_GT(actual, 0.7 * even_grid) << GetType(bound.type).name << ": too good to be true";
  }
  // IQ4_NL spends its levels where normal values are: better than Q4_0.
  EXPECT_LT(RelativeRms(values, RoundTrip(Type::kIQ4_NL, values)),
            RelativeRms(values, RoundTrip(Type::kQ4_0, values)));
}

// Q8_0 does not search: no element may be off by more than half a step, and the step is amax / 127
// rounded to half (2^-11 relative).
TEST(QuantizeTest, Q8ErrorStaysWithinHalfAStepForEachElement) {
  const std::vector<float> values = Gaussian(4096, 1.0F, 2);
  const std::vector<float> decoded = RoundTrip(Type::kQ8_0, values);
  for (size_t b = 0; b < values.size(); b += 32) {
    float amax = 0;
    for (size_t i = b; i < b + 32; ++i) amax = std::max(amax, std::fabs(values[i]));
    for (size_t i = b; i < b + 32; ++i) {
      EXPECT_LE(std::fabs(values[i] - decoded[i]), amax / 127 * (0.5F + 0x1p-10F)) << i;
    }
  }
}

// A row that the format can hold exactly, and that uses the whole range of its levels, must come
// back exactly: the search may not trade it away.
TEST(QuantizeTest, RepresentableRowsComeBackExactly) {
  std::mt19937 generator(3);
  const auto level = [&](int low, int high) {
    return static_cast<float>(low + static_cast<int>(generator() % (high - low + 1)));
  };
  for (int round = 0; round < 200; ++round) {
    const float d = HalfToFloat(static_cast<uint16_t>(0x2000 + generator() % 0x1000));
    const float m = HalfToFloat(static_cast<uint16_t>(0xB000 + generator() % 0x400));
    struct Case {
      Type type;
      int low;
      int high;
      float offset;
    };
    for (const Case& test : {Case{Type::kQ4_0, -8, 7, 0}, Case{Type::kQ5_0, -16, 15, 0},
                             Case{Type::kQ8_0, -127, 127, 0}, Case{Type::kQ4_1, 0, 15, m}}) {
      std::vector<float> values(32);
      for (float& value : values) value = level(test.low, test.high) * d + test.offset;
      values[5] = static_cast<float>(test.low) * d + test.offset;
      values[29] = static_cast<float>(test.high) * d + test.offset;
      const std::vector<float> decoded = RoundTrip(test.type, values);
      for (size_t i = 0; i < values.size(); ++i) {
        // Q4_1's sum rounds in float, so that its fit may end one unit in the last place off.
        ASSERT_NEAR(decoded[i], values[i], test.offset != 0 ? 1e-3F * d : 0)
            << GetType(test.type).name << " element " << i << " d " << d;
      }
    }
    std::vector<float> values(32);
    for (float& value : values) value = d * kIq4NlLevels[generator() % 16];
    values[7] = d * kIq4NlLevels[round % 2 == 0 ? 0 : 15];
    values[8] = d * kIq4NlLevels[0];
    ASSERT_EQ(RoundTrip(Type::kIQ4_NL, values), values);
  }
}

// The same for the K types, whose sub-block scales are integers under a common scale. Sub-block 0
// has the largest scale and min, so that all others are multiples of what is derived from it.
TEST(QuantizeTest, RepresentableKRowsComeBackExactly) {
  std::mt19937 generator(4);
  for (int round = 0; round < 50; ++round) {
    for (const int max_level : {15, 31}) {
      std::vector<float> values(256);
      for (size_t s = 0; s < 8; ++s) {
        const auto scale = static_cast<float>(s == 0 ? 63 : 1 + generator() % 63);
        const auto min = static_cast<float>(s == 0 ? 63 : generator() % 64);
        for (size_t l = 0; l < 32; ++l) {
          auto q = static_cast<float>(generator() % static_cast<uint32_t>(max_level + 1));
          if (l == 3) q = 0;
          if (l == 17) q = static_cast<float>(max_level);
          values[32 * s + l] = 0x1p-10F * scale * q - 0x1p-9F * min;
        }
      }
      const Type type = max_level == 15 ? Type::kQ4_K : Type::kQ5_K;
      const std::vector<float> decoded = RoundTrip(type, values);
      for (size_t i = 0; i < values.size(); ++i) {
        ASSERT_EQ(decoded[i], values[i]) << GetType(type).name << " element " << i;
      }
    }
    std::vector<float> values(256);
    for (size_t s = 0; s < 16; ++s) {
      const auto scale =
          static_cast<float>(s == 9 ? -128 : static_cast<int>(generator() % 255) - 127);
      for (size_t l = 0; l < 16; ++l) {
        auto q = static_cast<float>(static_cast<int>(generator() % 64) - 32);
        if (l == 11) q = -32;
        values[16 * s + l] = 0x1p-12F * scale * q;
      }
    }
    ASSERT_EQ(RoundTrip(Type::kQ6_K, values), values);
  }
}

TEST(QuantizeTest, ZeroAndConstantRowsComeBackAsTheyAre) {
  const std::vector<float> zeros(256, 0.0F);
  for (const Type type : kBlockTypes) {
    EXPECT_EQ(RoundTrip(type, zeros), zeros) << GetType(type).name;
    for (const float constant : {1.0F, -1.0F}) {
      for (const float value : RoundTrip(type, std::vector<float>(256, constant))) {
        EXPECT_NEAR(value, constant, 1e-3F) << GetType(type).name;
      }
    }
  }
}

// Eight values share a block with one that is ten times larger. With all the weight on those eight,
// their error must fall well below that of equal weights.
TEST(QuantizeTest, ImportanceMovesTheErrorToWhereItMattersLess) {
  const std::vector<float> values = Gaussian(256 * 64, 1.0F, 5);
  std::vector<float> importance(values.size(), 0.001F);
  for (size_t i = 0; i < values.size(); i += 4) importance[i] = 1;
  const auto error_of_important = [&](const std::vector<float>& decoded) {
    double error = 0;
    for (size_t i = 0; i < values.size(); i += 4) {
      error += (values[i] - decoded[i]) * static_cast<double>(values[i] - decoded[i]);
    }
    return error;
  };
  for (const Type type : kBlockTypes) {
    if (type == Type::kQ8_0) continue;
    const double equal = error_of_important(RoundTrip(type, values));
    const double weighted = error_of_important(RoundTrip(type, values, importance.data()));
    EXPECT_LT(weighted, 0.95 * equal) << GetType(type).name;
  }
}

TEST(QuantizeTest, ImportanceOfZeroEverywhereMeansEqualWeights) {
  const std::vector<float> values = Gaussian(256, 1.0F, 6);
  const std::vector<float> none(values.size(), 0.0F);
  for (const Type type : kBlockTypes) {
    EXPECT_EQ(RoundTrip(type, values, none.data()), RoundTrip(type, values)) << GetType(type).name;
  }
}

TEST(QuantizeTest, WhatCannotBeEncodedIsAnError) {
  std::vector<std::byte> blocks(1024);
  for (const Type type : kBlockTypes) {
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 1e9F,
          -std::numeric_limits<float>::max()}) {
      std::vector<float> values(256, 0.5F);
      values[200] = bad;
      const Status status = QuantizeRow(type, values.data(), blocks.data(), 256);
      ASSERT_FALSE(status.has_value()) << GetType(type).name << " " << bad;
      EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
    }
    const std::vector<float> values(256, 0.5F);
    std::vector<float> importance(256, 1.0F);
    importance[3] = -1;
    EXPECT_FALSE(
        QuantizeRow(type, values.data(), blocks.data(), 256, importance.data()).has_value());
    EXPECT_FALSE(QuantizeRow(type, values.data(), blocks.data(), 255).has_value());
    EXPECT_FALSE(QuantizeRow(type, values.data(), blocks.data(), -256).has_value());
  }
}

TEST(QuantizeTest, FloatTypesRoundEachElementByItself) {
  const std::vector<float> values = {1.0F, -2.5F, 1e6F, 0x1p-24F, 3.14159274F};
  EXPECT_EQ(RoundTrip(Type::kF32, values), values);
  EXPECT_EQ(RoundTrip(Type::kF16, values),
            (std::vector<float>{1.0F, -2.5F, std::numeric_limits<float>::infinity(), 0x1p-24F,
                                3.140625F}));
  EXPECT_EQ(RoundTrip(Type::kBF16, values),
            (std::vector<float>{1.0F, -2.5F, 999424.0F, 0x1p-24F, 3.140625F}));
}

}  // namespace
}  // namespace tandem::quant
