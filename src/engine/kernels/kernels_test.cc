// Every kernel of every set that this machine has, against double precision.
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "engine/kernels/kernels.h"
#include "engine/quant/codec.h"

namespace tandem::kernels {
namespace {

using quant::Type;

std::string SetName(const ::testing::TestParamInfo<const KernelSet*>& instance) {
  return std::string(IsaName(instance.param->isa));
}

std::vector<float> Normal(std::mt19937* generator, int64_t n) {
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (float& value : values) value = normal(*generator);
  return values;
}

constexpr Type kTypes[] = {Type::kF32,  Type::kF16,  Type::kBF16,  Type::kQ8_0,
                           Type::kQ4_0, Type::kQ4_1, Type::kQ5_0,  Type::kQ4_K,
                           Type::kQ5_K, Type::kQ6_K, Type::kIQ4_NL};

// Rows of random blocks: every bit pattern but scales that are infinite or NaN, which would make
// any comparison void.
std::vector<std::byte> RandomRows(std::mt19937* generator, Type type, int64_t n_rows, int64_t k) {
  const int64_t row_bytes = quant::RowBytes(type, k);
  std::vector<std::byte> rows(n_rows * row_bytes);
  if (quant::GetType(type).block_elements == 1) {
    const std::vector<float> values = Normal(generator, n_rows * k);
    EXPECT_TRUE(quant::QuantizeRow(type, values.data(), rows.data(), n_rows * k));
    return rows;
  }
  for (std::byte& byte : rows) byte = static_cast<std::byte>((*generator)() >> 24);
  // Where the f16 scales stand in a block.
  std::vector<int> scale_offsets = {0};
  if (type == Type::kQ4_1 || type == Type::kQ4_K || type == Type::kQ5_K) scale_offsets.push_back(2);
  if (type == Type::kQ6_K) scale_offsets = {208};
  const int block_bytes = quant::GetType(type).block_bytes;
  for (size_t block = 0; block < rows.size(); block += block_bytes) {
    for (const int offset : scale_offsets) {
      const uint16_t half = quant::FloatToHalf(Normal(generator, 1)[0]);
      std::memcpy(rows.data() + block + offset, &half, 2);
    }
  }
  return rows;
}

class KernelsTest : public ::testing::TestWithParam<const KernelSet*> {};

INSTANTIATE_TEST_SUITE_P(Sets, KernelsTest, ::testing::ValuesIn(UsableSets(os::HostCpu())),
                         SetName);

TEST_P(KernelsTest, SelfTestPasses) {
  const Status status = SelfTest(*GetParam());
  EXPECT_TRUE(status) << status.error().message;
}

TEST_P(KernelsTest, UnpackEqualsTheCodecBitForBit) {
  std::mt19937 generator(1);
  for (const Type type : kTypes) {
    const quant::TypeInfo& info = quant::GetType(type);
    for (const int64_t blocks : {1, 2, 5, 8, 11}) {
      const int64_t k = blocks * info.block_elements;
      const auto row = RandomRows(&generator, type, 1, k);
      std::vector<float> got(k + 1, 123.0F);
      std::vector<float> want(k);
      GetParam()->ForType(type).unpack(row.data(), k, got.data());
      quant::DequantizeRow(type, row.data(), want.data(), k);
      EXPECT_EQ(std::memcmp(got.data(), want.data(), k * sizeof(float)), 0)
          << info.name << " of " << k;
      EXPECT_EQ(got[k], 123.0F) << info.name << " wrote beyond its row";
    }
  }
}

// K terms in 8 lanes, one rounding for a fused step or two otherwise, then three additions: the
// result is within (2 K / 8 + 3) u sum|w x| of the exact one, plus second-order terms (Higham,
// Accuracy and Stability of Numerical Algorithms, 3.1).
TEST_P(KernelsTest, GemvIsWithinItsDerivedErrorOfDoublePrecision) {
  std::mt19937 generator(2);
  for (const Type type : kTypes) {
    const quant::TypeInfo& info = quant::GetType(type);
    for (const int64_t n_rows : {1, 3, 4, 9}) {
      for (const int64_t length : {1, 3, 7, 33}) {
        const int64_t k = length * info.block_elements;
        const int64_t row_bytes = quant::RowBytes(type, k);
        const auto rows = RandomRows(&generator, type, n_rows, k);
        const auto x = Normal(&generator, k);
        std::vector<float> y(n_rows + 1, 123.0F);
        GetParam()->ForType(type).gemv(rows.data(), row_bytes, n_rows, k, x.data(), y.data());
        EXPECT_EQ(y[n_rows], 123.0F);
        std::vector<float> values(k);
        for (int64_t r = 0; r < n_rows; ++r) {
          quant::DequantizeRow(type, rows.data() + r * row_bytes, values.data(), k);
          double exact = 0;
          double magnitude = 0;
          for (int64_t i = 0; i < k; ++i) {
            exact += double{values[i]} * x[i];
            magnitude += std::fabs(double{values[i]} * x[i]);
          }
          const double tolerance = (static_cast<double>(k) / 4 + 4) * 0x1p-24 * magnitude;
          EXPECT_NEAR(y[r], exact, tolerance)
              << info.name << " row " << r << " of " << n_rows << ", k " << k;
        }
      }
    }
  }
}

// The promise that everything above stands on: tokens together, rows in any tile, the same bits.
TEST_P(KernelsTest, ManyTokensGiveTheBitsOfOne) {
  std::mt19937 generator(3);
  constexpr int64_t kRows = 11;
  for (const Type type : kTypes) {
    const quant::TypeInfo& info = quant::GetType(type);
    const int64_t k = info.block_elements == 1 ? 77 : 3 * info.block_elements;
    const int64_t row_bytes = quant::RowBytes(type, k);
    const auto rows = RandomRows(&generator, type, kRows, k);
    std::vector<float> panel(kRows * k);
    for (int64_t r = 0; r < kRows; ++r) {
      GetParam()->ForType(type).unpack(rows.data() + r * row_bytes, k, panel.data() + r * k);
    }
    for (int64_t n_tokens = 1; n_tokens <= 8; ++n_tokens) {
      const auto x = Normal(&generator, n_tokens * k);
      std::vector<float> together(n_tokens * kRows);
      GetParam()->gemm(panel.data(), k, kRows, k, x.data(), k, n_tokens, together.data(), kRows);
      for (int64_t t = 0; t < n_tokens; ++t) {
        float alone[kRows];
        GetParam()->ForType(type).gemv(rows.data(), row_bytes, kRows, k, x.data() + t * k, alone);
        EXPECT_EQ(std::memcmp(alone, together.data() + t * kRows, sizeof alone), 0)
            << info.name << ", token " << t << " of " << n_tokens;
        for (int64_t r = 0; r < kRows; ++r) {
          float single;
          GetParam()->ForType(type).gemv(rows.data() + r * row_bytes, row_bytes, 1, k,
                                         x.data() + t * k, &single);
          EXPECT_EQ(single, alone[r]) << info.name << ", row " << r;
        }
      }
    }
  }
}

TEST_P(KernelsTest, ExpSumIsWithinFourTenMillionthsOfDoublePrecision) {
  std::vector<float> x;
  for (float value = 0.0F; value > -87.0F; value -= 0.0137F) x.push_back(value);
  std::vector<float> got = x;
  const float sum = GetParam()->exp_sum(got.data(), static_cast<int64_t>(x.size()), 0.0F);
  double exact_sum = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double exact = std::exp(double{x[i]});
    exact_sum += exact;
    ASSERT_NEAR(got[i], exact, 4e-7 * exact) << x[i];
  }
  EXPECT_NEAR(sum, exact_sum, 1e-5 * exact_sum);
}

TEST_P(KernelsTest, ExpSumOfFarSmallerInputsIsZeroAndOfTheMaximumOne) {
  float x[] = {5.0F, -90.0F, -1e30F, -INFINITY};
  EXPECT_EQ(GetParam()->exp_sum(x, 4, 5.0F), 1.0F);
  EXPECT_EQ(x[0], 1.0F);
  EXPECT_EQ(x[1], 0.0F);
  EXPECT_EQ(x[2], 0.0F);
  EXPECT_EQ(x[3], 0.0F);
}

TEST_P(KernelsTest, NotANumberComesOutAsOne) {
  float x[] = {1.0F, NAN, 0.0F};
  EXPECT_TRUE(std::isnan(GetParam()->exp_sum(x, 3, 1.0F)));
  float gate[] = {NAN};
  const float up[] = {1.0F};
  GetParam()->silu_mul(gate, up, 1, gate);
  EXPECT_TRUE(std::isnan(gate[0]));
}

TEST_P(KernelsTest, SiluMulIsCloseToDoublePrecisionEverywhere) {
  std::vector<float> gate;
  for (float value = -100.0F; value < 100.0F; value += 0.0731F) gate.push_back(value);
  gate.push_back(3e38F);
  gate.push_back(-3e38F);
  std::vector<float> up(gate.size(), 0.75F);
  std::vector<float> out(gate.size());
  GetParam()->silu_mul(gate.data(), up.data(), static_cast<int64_t>(gate.size()), out.data());
  for (size_t i = 0; i < gate.size(); ++i) {
    const double g = gate[i];
    const double exact = g / (1 + std::exp(-g)) * 0.75;
    // Below -87 the sigmoid is held at exp(-87.3) > 0: at most |g| 1.2e-38, nothing for a sum.
    if (g < -87) {
      EXPECT_LE(std::fabs(out[i]), std::fabs(g) * 1.3e-38) << g;
    } else {
      ASSERT_NEAR(out[i], exact, 1e-6 * std::fabs(exact)) << g;
    }
  }
}

TEST_P(KernelsTest, AttentionKernelsAreWithinTheirErrorOfDoublePrecision) {
  std::mt19937 generator(4);
  for (const int head_dim : {8, 24, 64, 96, 128}) {
    for (const int n_positions : {1, 2, 7, 64}) {
      const auto keys = Normal(&generator, int64_t{n_positions} * head_dim);
      std::vector<uint16_t> half_keys(keys.size());
      GetParam()->half_from_float(keys.data(), static_cast<int64_t>(keys.size()), half_keys.data());
      for (int n_queries = 1; n_queries <= kMaxQueries; ++n_queries) {
        const auto queries = Normal(&generator, int64_t{n_queries} * head_dim);
        for (const bool half : {false, true}) {
          const AttentionKernels& kernels =
              half ? GetParam()->attention_f16 : GetParam()->attention_f32;
          const auto* plane = half ? reinterpret_cast<const std::byte*>(half_keys.data())
                                   : reinterpret_cast<const std::byte*>(keys.data());
          const auto element = [&](int p, int d) {
            return half ? double{quant::HalfToFloat(half_keys[p * head_dim + d])}
                        : double{keys[p * head_dim + d]};
          };
          std::vector<float> scores(n_queries * kTilePositions, 0.0F);
          kernels.qk(queries.data(), n_queries, plane, n_positions, head_dim, 0.125F,
                     scores.data());
          std::vector<float> out = Normal(&generator, int64_t{n_queries} * head_dim);
          const std::vector<float> before = out;
          kernels.av(scores.data(), n_queries, plane, n_positions, head_dim, out.data());
          for (int q = 0; q < n_queries; ++q) {
            for (int p = 0; p < n_positions; ++p) {
              double exact = 0;
              double magnitude = 0;
              for (int d = 0; d < head_dim; ++d) {
                const double term = queries[q * head_dim + d] * element(p, d) * 0.125;
                exact += term;
                magnitude += std::fabs(term);
              }
              EXPECT_NEAR(scores[q * kTilePositions + p], exact,
                          (head_dim / 4.0 + 5) * 0x1p-24 * magnitude);
            }
            for (int d = 0; d < head_dim; ++d) {
              double exact = before[q * head_dim + d];
              double magnitude = std::fabs(exact);
              for (int p = 0; p < n_positions; ++p) {
                const double term = double{scores[q * kTilePositions + p]} * element(p, d);
                exact += term;
                magnitude += std::fabs(term);
              }
              EXPECT_NEAR(out[q * head_dim + d], exact,
                          2 * (n_positions + 1) * 0x1p-24 * magnitude);
            }
          }
        }
      }
    }
  }
}

TEST_P(KernelsTest, HeadsTogetherGiveTheBitsOfEachAlone) {
  std::mt19937 generator(5);
  constexpr int kHeadDim = 40;
  constexpr int kPositions = 7;
  const auto keys = Normal(&generator, kPositions * kHeadDim);
  const auto queries = Normal(&generator, kMaxQueries * kHeadDim);
  const auto* plane = reinterpret_cast<const std::byte*>(keys.data());
  const AttentionKernels& kernels = GetParam()->attention_f32;
  std::vector<float> together(kMaxQueries * kTilePositions);
  kernels.qk(queries.data(), kMaxQueries, plane, kPositions, kHeadDim, 1.0F, together.data());
  std::vector<float> out(kMaxQueries * kHeadDim, 0.0F);
  kernels.av(together.data(), kMaxQueries, plane, kPositions, kHeadDim, out.data());
  for (int q = 0; q < kMaxQueries; ++q) {
    float alone[kTilePositions];
    kernels.qk(queries.data() + q * kHeadDim, 1, plane, kPositions, kHeadDim, 1.0F, alone);
    float out_alone[kHeadDim] = {};
    kernels.av(alone, 1, plane, kPositions, kHeadDim, out_alone);
    for (int p = 0; p < kPositions; ++p) EXPECT_EQ(alone[p], together[q * kTilePositions + p]);
    for (int d = 0; d < kHeadDim; ++d) EXPECT_EQ(out_alone[d], out[q * kHeadDim + d]);
  }
}

TEST_P(KernelsTest, HalfFromFloatRoundsAsTheCodec) {
  std::mt19937 generator(6);
  std::vector<float> src = {0.0F, -0.0F, 65504.0F, 65520.0F, 1e30F, -1e30F, 6e-8F, 2.9e-8F, 1e-10F};
  for (int i = 0; i < 5000; ++i) {
    uint32_t bits = static_cast<uint32_t>(generator());
    float value;
    std::memcpy(&value, &bits, 4);
    if (!std::isnan(value)) src.push_back(value);
  }
  std::vector<uint16_t> dst(src.size());
  GetParam()->half_from_float(src.data(), static_cast<int64_t>(src.size()), dst.data());
  for (size_t i = 0; i < src.size(); ++i) {
    ASSERT_EQ(dst[i], quant::FloatToHalf(src[i])) << src[i];
  }
}

}  // namespace
}  // namespace tandem::kernels
