// Speed of the kernels that this machine would use, at Phi-4-mini's shapes, on one core. Rates are
// per second of CPU time: other processes on a busy machine disturb them little.
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "engine/kernels/kernels.h"
#include "engine/quant/codec.h"

namespace tandem::kernels {
namespace {

using quant::Type;

constexpr int64_t kColumns = 3072;  // d_model

std::vector<float> Normal(int64_t n) {
  std::mt19937 generator(1);
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (float& value : values) value = normal(generator);
  return values;
}

const KernelSet& Kernels() { return *Active().value(); }

// One token times a matrix larger than any cache: what decoding does. Bytes are bytes of weights.
void Gemv(benchmark::State& state, Type type) {
  constexpr int64_t kRows = 16384;  // gate and up
  const int64_t row_bytes = quant::RowBytes(type, kColumns);
  const std::vector<float> x = Normal(kColumns);
  std::vector<float> storage(kRows * row_bytes / 4);
  auto* weights = reinterpret_cast<std::byte*>(storage.data());
  if (!quant::QuantizeRow(type, x.data(), weights, kColumns)) state.SkipWithError("quantise");
  for (int64_t r = 1; r < kRows; ++r) std::memcpy(weights + r * row_bytes, weights, row_bytes);
  std::vector<float> y(kRows);
  for (auto _ : state) {
    Kernels().ForType(type).gemv(weights, row_bytes, kRows, kColumns, x.data(), y.data());
    benchmark::DoNotOptimize(y.data());
  }
  state.SetBytesProcessed(state.iterations() * kRows * row_bytes);
}

// A dequantised strip of 16 rows times so many tokens: what prefill does. Items are products.
void Gemm(benchmark::State& state) {
  const int64_t n_tokens = state.range(0);
  constexpr int64_t kRows = 16;
  const std::vector<float> panel = Normal(kRows * kColumns);
  const std::vector<float> x = Normal(n_tokens * kColumns);
  std::vector<float> y(n_tokens * kRows);
  for (auto _ : state) {
    Kernels().gemm(panel.data(), kColumns, kRows, kColumns, x.data(), kColumns, n_tokens, y.data(),
                   kRows);
    benchmark::DoNotOptimize(y.data());
  }
  state.SetItemsProcessed(state.iterations() * kRows * kColumns * n_tokens);
}

// Scores and weighted values of 2,048 positions for the three query heads of a KV head. Bytes are
// bytes of cache.
void Attention(benchmark::State& state, bool half) {
  constexpr int kHeadDim = 128;
  constexpr int kPositions = 2048;
  constexpr int kQueries = 3;
  const size_t row_bytes = kHeadDim * (half ? 2 : 4);
  const std::vector<std::byte> plane(kPositions * row_bytes);
  const std::vector<float> queries = Normal(kQueries * kHeadDim);
  const AttentionKernels& kernels = half ? Kernels().attention_f16 : Kernels().attention_f32;
  float scores[kMaxQueries * kTilePositions];
  float out[kQueries * kHeadDim] = {};
  for (auto _ : state) {
    for (int begin = 0; begin < kPositions; begin += kTilePositions) {
      const std::byte* tile = plane.data() + begin * row_bytes;
      kernels.qk(queries.data(), kQueries, tile, kTilePositions, kHeadDim, 0.1F, scores);
      for (int q = 0; q < kQueries; ++q) {
        Kernels().exp_sum(scores + q * kTilePositions, kTilePositions, 0.0F);
      }
      kernels.av(scores, kQueries, tile, kTilePositions, kHeadDim, out);
    }
    benchmark::DoNotOptimize(out);
  }
  state.SetBytesProcessed(state.iterations() * 2 * kPositions * static_cast<int64_t>(row_bytes));
}

BENCHMARK_CAPTURE(Gemv, F32, Type::kF32);
BENCHMARK_CAPTURE(Gemv, F16, Type::kF16);
BENCHMARK_CAPTURE(Gemv, Q8_0, Type::kQ8_0);
BENCHMARK_CAPTURE(Gemv, Q4_0, Type::kQ4_0);
BENCHMARK_CAPTURE(Gemv, Q4_K, Type::kQ4_K);
BENCHMARK_CAPTURE(Gemv, Q5_K, Type::kQ5_K);
BENCHMARK_CAPTURE(Gemv, Q6_K, Type::kQ6_K);
BENCHMARK_CAPTURE(Gemv, IQ4_NL, Type::kIQ4_NL);
BENCHMARK(Gemm)->Arg(3)->Arg(8)->Arg(64);
BENCHMARK_CAPTURE(Attention, F32, false);
BENCHMARK_CAPTURE(Attention, F16, true);

}  // namespace
}  // namespace tandem::kernels
