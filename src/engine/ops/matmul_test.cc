#include "engine/ops/matmul.h"

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "engine/quant/codec.h"

namespace tandem::ops {
namespace {

using quant::Type;

// A matrix with its bytes and its values.
struct Weights {
  std::vector<float> storage;  // floats, for their alignment
  std::vector<float> values;   // [n_rows, n_cols]
  Matrix matrix;
};

Weights RandomWeights(std::mt19937* random, Type type, int64_t n_rows, int64_t n_cols) {
  std::normal_distribution<float> normal;
  std::vector<float> values(n_rows * n_cols);
  for (float& value : values) value = normal(*random);
  Weights weights;
  const int64_t row_bytes = quant::RowBytes(type, n_cols);
  weights.storage.resize((n_rows * row_bytes + 3) / 4);
  auto* bytes = reinterpret_cast<std::byte*>(weights.storage.data());
  EXPECT_TRUE(quant::QuantizeRow(type, values.data(), bytes, n_rows * n_cols));
  weights.values.resize(values.size());
  quant::DequantizeRow(type, bytes, weights.values.data(), n_rows * n_cols);
  weights.matrix = {.type = type,
                    .data = bytes,
                    .n_rows = n_rows,
                    .n_cols = n_cols,
                    .row_bytes = static_cast<size_t>(row_bytes)};
  return weights;
}

std::vector<float> RandomTokens(std::mt19937* random, int64_t n) {
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (float& value : x) value = normal(*random);
  return x;
}

std::vector<float> Multiply(int n_threads, std::span<const Matrix> parts,
                            const std::vector<float>& x, int64_t n_tokens) {
  const auto kernels = kernels::Active();
  EXPECT_TRUE(kernels);
  auto pool = ThreadPool::Create(n_threads, 2);
  EXPECT_TRUE(pool);
  int64_t n_rows = 0;
  for (const Matrix& part : parts) n_rows += part.n_rows;
  std::vector<float> panels(n_threads * PanelFloats(parts[0].n_cols));
  std::vector<float> y(n_tokens * n_rows + 1, 123.0F);
  MatMul(**kernels, **pool, parts, x.data(), n_tokens, y.data(), panels);
  EXPECT_EQ(y.back(), 123.0F) << "wrote beyond the end";
  y.pop_back();
  return y;
}

TEST(MatMulTest, PartsSideBySideAreTheProductsOfTheirRows) {
  std::mt19937 random(1);
  constexpr int64_t kCols = 96;
  // Rows that are no multiple of a strip or a tile, and three types.
  const Weights weights[] = {RandomWeights(&random, Type::kQ4_0, 37, kCols),
                             RandomWeights(&random, Type::kF32, 2, kCols),
                             RandomWeights(&random, Type::kQ8_0, 130, kCols)};
  const Matrix parts[] = {weights[0].matrix, weights[1].matrix, weights[2].matrix};
  constexpr int64_t kRows = 37 + 2 + 130;
  for (const int64_t n_tokens : {1, 2, 5}) {
    const std::vector<float> x = RandomTokens(&random, n_tokens * kCols);
    const std::vector<float> y = Multiply(2, parts, x, n_tokens);
    for (int64_t t = 0; t < n_tokens; ++t) {
      int64_t column = 0;
      for (const Weights& part : weights) {
        for (int64_t r = 0; r < part.matrix.n_rows; ++r, ++column) {
          double exact = 0;
          double magnitude = 0;
          for (int64_t i = 0; i < kCols; ++i) {
            const double term = double{part.values[r * kCols + i]} * x[t * kCols + i];
            exact += term;
            magnitude += std::fabs(term);
          }
          // As kernels_test.cc derives it.
          EXPECT_NEAR(y[t * kRows + column], exact, (kCols / 4.0 + 4) * 0x1p-24 * magnitude);
        }
      }
    }
  }
}

TEST(MatMulTest, NeitherThreadsNorOtherTokensChangeABit) {
  std::mt19937 random(2);
  for (const Type type : {Type::kF32, Type::kF16, Type::kQ4_K, Type::kQ6_K}) {
    constexpr int64_t kCols = 768;  // three blocks of 256; more rows than one chunk
    const Weights weights = RandomWeights(&random, type, 203, kCols);
    constexpr int64_t kTokens = 9;
    const std::vector<float> x = RandomTokens(&random, kTokens * kCols);
    const std::vector<float> together = Multiply(1, {&weights.matrix, 1}, x, kTokens);
    for (const int n_threads : {2, 3, 4}) {
      EXPECT_EQ(Multiply(n_threads, {&weights.matrix, 1}, x, kTokens), together);
    }
    for (int64_t t = 0; t < kTokens; ++t) {
      const std::vector<float> token(x.begin() + t * kCols, x.begin() + (t + 1) * kCols);
      const std::vector<float> alone = Multiply(2, {&weights.matrix, 1}, token, 1);
      EXPECT_EQ(std::memcmp(alone.data(), together.data() + t * 203, 203 * sizeof(float)), 0);
    }
  }
}

TEST(MatMulTest, LongRowsFitTheirPanel) {
  std::mt19937 random(3);
  constexpr int64_t kCols = 20480;  // four rows already exceed the panel's aim
  const Weights weights = RandomWeights(&random, Type::kQ4_0, 6, kCols);
  const std::vector<float> x = RandomTokens(&random, 2 * kCols);
  const std::vector<float> y = Multiply(1, {&weights.matrix, 1}, x, 2);
  const std::vector<float> second(x.begin() + kCols, x.end());
  const std::vector<float> alone = Multiply(1, {&weights.matrix, 1}, second, 1);
  EXPECT_EQ(std::vector<float>(y.begin() + 6, y.end()), alone);
}

}  // namespace
}  // namespace tandem::ops
