#include "engine/ops/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace tandem::ops {
namespace {

constexpr int kHeadDim = 32;
constexpr size_t kRowBytes = kHeadDim * sizeof(float);

struct Past {
  std::vector<float> keys;    // [n_positions, kHeadDim]
  std::vector<float> values;  // [n_positions, kHeadDim]

  const std::byte* key_bytes() const { return reinterpret_cast<const std::byte*>(keys.data()); }
  const std::byte* value_bytes() const { return reinterpret_cast<const std::byte*>(values.data()); }
};

std::vector<float> Normal(std::mt19937* random, int64_t n, float scale = 1.0F) {
  std::normal_distribution<float> normal(0.0F, scale);
  std::vector<float> values(n);
  for (float& value : values) value = normal(*random);
  return values;
}

std::vector<float> AttendOver(const Past& past, const std::vector<float>& queries, int n_positions,
                              float scale) {
  const kernels::KernelSet& kernels = **kernels::Active();
  const int n_queries = static_cast<int>(queries.size()) / kHeadDim;
  std::vector<float> out(queries.size() + 1, 123.0F);
  Attend(kernels, kernels.attention_f32, queries.data(), n_queries, past.key_bytes(),
         past.value_bytes(), kRowBytes, n_positions, kHeadDim, scale, out.data());
  EXPECT_EQ(out.back(), 123.0F);
  out.pop_back();
  return out;
}

// Positions below, at and beyond a tile; head counts below, at and beyond what a kernel takes.
TEST(AttendTest, IsSoftmaxAttention) {
  std::mt19937 random(1);
  const float scale = 1.0F / std::sqrt(static_cast<float>(kHeadDim));
  for (const int n_positions : {1, 5, 63, 64, 65, 200}) {
    const Past past{Normal(&random, int64_t{n_positions} * kHeadDim),
                    Normal(&random, int64_t{n_positions} * kHeadDim)};
    for (const int n_queries : {1, 3, 4, 6}) {
      const auto queries = Normal(&random, int64_t{n_queries} * kHeadDim, 2.0F);
      const auto out = AttendOver(past, queries, n_positions, scale);
      for (int q = 0; q < n_queries; ++q) {
        std::vector<double> weights(n_positions);
        double sum = 0;
        for (int p = 0; p < n_positions; ++p) {
          double score = 0;
          for (int d = 0; d < kHeadDim; ++d) {
            score += double{queries[q * kHeadDim + d]} * past.keys[p * kHeadDim + d];
          }
          weights[p] = std::exp(score * scale);
          sum += weights[p];
        }
        for (int d = 0; d < kHeadDim; ++d) {
          double exact = 0;
          double magnitude = 0;
          for (int p = 0; p < n_positions; ++p) {
            const double term = weights[p] / sum * past.values[p * kHeadDim + d];
            exact += term;
            magnitude += std::fabs(term);
          }
          // Scores up to about 10 with an error of (K / 4) u each, exp's 4e-7, and n sums.
          const double tolerance =
              (10 * 8 * 0x1p-24 + 8e-7 + 2 * n_positions * 0x1p-24) * magnitude;
          EXPECT_NEAR(out[q * kHeadDim + d], exact, tolerance);
        }
      }
    }
  }
}

TEST(AttendTest, ScoresThatOverflowAnExponentialDoNot) {
  std::mt19937 random(2);
  Past past{Normal(&random, 130 * kHeadDim), Normal(&random, 130 * kHeadDim)};
  // The largest score comes in the last tile, hundreds above the others.
  std::vector<float> queries(kHeadDim, 100.0F);
  std::fill_n(past.keys.begin() + 129 * kHeadDim, kHeadDim, 5.0F);
  const auto out = AttendOver(past, queries, 130, 1.0F);
  for (int d = 0; d < kHeadDim; ++d) EXPECT_EQ(out[d], past.values[129 * kHeadDim + d]);
}

TEST(AttendTest, LaterPositionsAreNotRead) {
  std::mt19937 random(3);
  Past past{Normal(&random, 70 * kHeadDim), Normal(&random, 70 * kHeadDim)};
  const auto queries = Normal(&random, 2 * kHeadDim);
  const auto before = AttendOver(past, queries, 66, 0.2F);
  std::fill(past.keys.begin() + 66 * kHeadDim, past.keys.end(), NAN);
  std::fill(past.values.begin() + 66 * kHeadDim, past.values.end(), NAN);
  EXPECT_EQ(AttendOver(past, queries, 66, 0.2F), before);
}

TEST(AttendTest, HeadsThatShareAKeyGetTheBitsThatTheyWouldGetAlone) {
  std::mt19937 random(4);
  const Past past{Normal(&random, 100 * kHeadDim), Normal(&random, 100 * kHeadDim)};
  const auto queries = Normal(&random, 7 * kHeadDim);
  const auto together = AttendOver(past, queries, 100, 0.2F);
  for (int q = 0; q < 7; ++q) {
    const std::vector<float> one(queries.begin() + q * kHeadDim,
                                 queries.begin() + (q + 1) * kHeadDim);
    const auto alone = AttendOver(past, one, 100, 0.2F);
    EXPECT_EQ(std::memcmp(alone.data(), together.data() + q * kHeadDim, kRowBytes), 0);
  }
}

}  // namespace
}  // namespace tandem::ops
