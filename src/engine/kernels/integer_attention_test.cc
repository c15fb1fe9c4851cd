// Attention over int8 tiles: every kernel of every set that this machine has, against its
// definition in wider arithmetic.
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "engine/kernels/kernels.h"
#include "engine/kernels/testing/emulated_avx512vnni.h"

namespace tandem::kernels {
namespace {

struct Set {
  std::string name;
  IntegerAttention kernels;
};

std::vector<Set> Sets() {
  std::vector<Set> sets;
  for (const KernelSet* set : UsableSets(os::HostCpu())) {
    sets.push_back({std::string(IsaName(set->isa)), *set->attention_int8});
  }
  sets.push_back({"avx512vnni_emulated", kIntegerAttentionScalar});
  sets.back().kernels.multiply = kMultiplyEmulatedAvx512Vnni;
  return sets;
}

class IntegerAttentionTest : public ::testing::TestWithParam<Set> {
 protected:
  static const IntegerAttention& kernels() { return GetParam().kernels; }
};
INSTANTIATE_TEST_SUITE_P(Sets, IntegerAttentionTest, ::testing::ValuesIn(Sets()),
                         [](const auto& instance) { return instance.param.name; });

TEST_P(IntegerAttentionTest, ProductIsExactAndWritesNothingElse) {
  std::mt19937 random(1);
  std::uniform_int_distribution<int> codes(-127, 127);
  std::uniform_int_distribution<int> words(-32767, 32767);
  constexpr int kStrideB = 152;
  constexpr int kStrideC = 160;
  for (const int n_k : {2, 64, 128}) {
    const int stride_a = n_k + 6;
    std::vector<int16_t> a(kMaxQueries * stride_a);
    std::vector<int8_t> b(n_k * kStrideB);
    for (int16_t& value : a) value = static_cast<int16_t>(words(random));
    for (int8_t& value : b) value = static_cast<int8_t>(codes(random));
    // The widest sums that there can be.
    for (int k = 0; k < n_k; ++k) {
      a[k] = 32767;
      b[k / 2 * 2 * kStrideB + k % 2] = -127;
    }
    for (int n_rows = 1; n_rows <= kMaxQueries; ++n_rows) {
      for (int n = 8; n <= kStrideB; n += 8) {
        std::vector<int32_t> c(kMaxQueries * kStrideC, 7);
        kernels().multiply(a.data(), stride_a, n_rows, b.data(), kStrideB, n, n_k, c.data(),
                           kStrideC);
        for (int r = 0; r < kMaxQueries; ++r) {
          for (int j = 0; j < kStrideC; ++j) {
            int64_t sum = 0;
            for (int k = 0; k < n_k; ++k) {
              sum += int64_t{a[r * stride_a + k]} *
                     b[k / 2 * 2 * kStrideB + 2 * j % (2 * kStrideB) + k % 2];
            }
            ASSERT_EQ(c[r * kStrideC + j], r < n_rows && j < n ? sum : 7)
                << n_rows << " x " << n << " x " << n_k;
          }
        }
      }
    }
  }
}

TEST_P(IntegerAttentionTest, HadamardTwiceMultipliesWithItsBlock) {
  std::mt19937 random(2);
  std::uniform_int_distribution<int> small(-1000, 1000);
  for (const auto& [n, block] : {std::pair(8, 8), {96, 32}, {128, 128}, {256, 256}}) {
    std::vector<float> x(n);
    for (float& value : x) value = static_cast<float>(small(random));  // sums are exact
    std::vector<float> y = x;
    kernels().hadamard(y.data(), n, block);
    // Entry (i, j) is -1 to the number of ones in i & j.
    for (int i = 0; i < n; ++i) {
      double sum = 0;
      for (int j = i / block * block; j < (i / block + 1) * block; ++j) {
        const bool odd = __builtin_parity(static_cast<unsigned>(i % block) & (j % block)) != 0;
        sum += odd ? -x[j] : x[j];
      }
      EXPECT_EQ(y[i], sum) << i;
    }
    kernels().hadamard(y.data(), n, block);
    for (int i = 0; i < n; ++i) EXPECT_EQ(y[i], x[i] * static_cast<float>(block));
  }
}

TEST_P(IntegerAttentionTest, CodesAreTheNearestAndTheLargestIsTheLimit) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  for (const int n : {8, 24, 128}) {
    std::vector<float> x(n);
    for (float& value : x) value = normal(random);
    x[n / 2] = -9.0F;
    std::vector<int8_t> bytes(n);
    const float scale8 = kernels().quantize_s8(x.data(), n, bytes.data());
    std::vector<int16_t> words(n);
    const float scale16 = kernels().quantize_s16(x.data(), n, 32767.0F, words.data());
    EXPECT_EQ(scale8, 9.0F / 127);
    EXPECT_EQ(scale16, 9.0F / 32767);
    EXPECT_EQ(bytes[n / 2], -127);
    EXPECT_EQ(words[n / 2], -32767);
    for (int i = 0; i < n; ++i) {
      EXPECT_NEAR(bytes[i] * scale8, x[i], 0.5001 * scale8);
      EXPECT_NEAR(words[i] * scale16, x[i], 0.502 * scale16);  // the product rounds, too
    }
  }
}

TEST_P(IntegerAttentionTest, CodesOfWhatIsNoNumberAreNoneAndTheScaleSaysSo) {
  for (const float bad : {INFINITY, -INFINITY, std::nanf("")}) {
    std::vector<float> x(16, 1.0F);
    x[11] = bad;
    std::vector<int8_t> bytes(16, 5);
    std::vector<int16_t> words(16, 5);
    EXPECT_TRUE(std::isnan(kernels().quantize_s8(x.data(), 16, bytes.data())));
    EXPECT_TRUE(std::isnan(kernels().quantize_s16(x.data(), 16, 32767.0F, words.data())));
    EXPECT_EQ(bytes, std::vector<int8_t>(16, 0));
    EXPECT_EQ(words, std::vector<int16_t>(16, 0));
  }
  const std::vector<float> tiny(8, 1e-38F);
  std::vector<int8_t> bytes(8, 5);
  EXPECT_EQ(kernels().quantize_s8(tiny.data(), 8, bytes.data()), 0.0F);
  EXPECT_EQ(bytes, std::vector<int8_t>(8, 0));
}

TEST_P(IntegerAttentionTest, SoftmaxOverTilesIsTheSoftmaxOverAll) {
  std::mt19937 random(4);
  std::uniform_int_distribution<int32_t> dot(-2'000'000, 2'000'000);
  std::uniform_real_distribution<float> scale(0.5F, 2.0F);
  constexpr float kQueryScale = 4e-6F;
  const int sizes[] = {64, 64, 64, 13};
  std::vector<double> scores;
  std::vector<double> value_scales;
  std::vector<double> got;  // weights, scaled by what was corrected since
  SoftmaxRow row{.max = -INFINITY};
  for (const int n : sizes) {
    int32_t dots[kTilePositions];
    float keys[kTilePositions];
    float values[kTilePositions];
    int16_t weights[kTilePositions];
    for (int p = 0; p < kTilePositions; ++p) {
      dots[p] = dot(random);
      keys[p] = p < n ? scale(random) : std::nanf("");  // what is beyond does not count
      values[p] = p < n ? scale(random) : std::nanf("");
    }
    kernels().softmax(dots, n, kQueryScale, keys, values, &row, weights);
    for (double& weight : got) weight *= row.correction;
    for (int p = 0; p < kTilePositions; ++p) {
      if (p >= n) {
        EXPECT_EQ(weights[p], 0);
        continue;
      }
      scores.push_back(double{kQueryScale} * keys[p] * dots[p]);
      value_scales.push_back(values[p]);
      got.push_back(static_cast<double>(weights[p]) * row.weight_scale);
    }
  }
  const double max = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (const double score : scores) sum += std::exp(score - max);
  EXPECT_NEAR(row.max, max, 1e-6 * std::fabs(max));
  EXPECT_NEAR(row.sum, sum, 1e-5 * sum);
  for (size_t i = 0; i < scores.size(); ++i) {
    // Half a code of the tile's largest weight, which is at most 2, and float scores around 16.
    EXPECT_NEAR(got[i], std::exp(scores[i] - max) * value_scales[i],
                0.5 * 2.0 / 32767 + 2 * 16 * 0x1p-22)
        << i;
  }
}

TEST_P(IntegerAttentionTest, SoftmaxOfScalesThatAreNoNumbersIsNone) {
  int32_t dots[kTilePositions] = {1, 2, 3};
  float keys[kTilePositions] = {1.0F, std::nanf(""), 1.0F};
  float values[kTilePositions] = {1.0F, 1.0F, 1.0F};
  int16_t weights[kTilePositions];
  SoftmaxRow row{.max = -INFINITY};
  kernels().softmax(dots, 3, 1.0F, keys, values, &row, weights);
  EXPECT_TRUE(std::isnan(row.sum));
  keys[1] = 1.0F;
  values[2] = std::nanf("");
  row = {.max = -INFINITY};
  kernels().softmax(dots, 3, 1.0F, keys, values, &row, weights);
  EXPECT_TRUE(std::isnan(row.weight_scale));
}

TEST_P(IntegerAttentionTest, AccumulateRoundsEachProduct) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  std::vector<float> out(40);
  std::vector<int32_t> c(40);
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = normal(random);
    c[i] = static_cast<int32_t>(normal(random) * 1e8F);
  }
  const std::vector<float> before = out;
  kernels().accumulate(c.data(), 0.3F, 1e-8F, 32, out.data());
  for (size_t i = 0; i < out.size(); ++i) {
    const double exact = before[i] * double{0.3F} + static_cast<double>(c[i]) * double{1e-8F};
    EXPECT_NEAR(out[i], i < 32 ? exact : before[i], i < 32 ? 4e-7 * 4 : 0);
  }
}

}  // namespace
}  // namespace tandem::kernels
