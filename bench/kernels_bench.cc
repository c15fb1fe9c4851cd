// Speed of the kernels that this machine would use, at Phi-4-mini's shapes, on one core. Rates are
// per second of CPU time: other processes on a busy machine disturb them little. `share` is of what
// the probes (probe/probe.h) measured in the same run: memory bandwidth for GEMV, the int8 peak for
// GEMM. To compare old and new kernels, interleave them: --benchmark_enable_random_interleaving
// --benchmark_repetitions=9.
#include <algorithm>
#include <cstring>
#include <random>
#include <span>
#include <vector>

#include <benchmark/benchmark.h>

#include "engine/kernels/activations.h"
#include "engine/kernels/kernels.h"
#include "engine/quant/codec.h"
#include "engine/quant/half.h"
#include "probe/probe.h"

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

// Several times the last cache.
constexpr int64_t kMatrixBytes = 128 << 20;

const KernelSet& Kernels() { return *Active().value(); }

// Repeats `run`, which reads the weights once; rates of reading, beside the probe's on the same
// bytes before and after. Returns seconds a run.
template <typename Run>
double MeasureReads(benchmark::State& state, std::span<const std::byte> weights, Run run) {
  const std::span<const uint64_t> words(reinterpret_cast<const uint64_t*>(weights.data()),
                                        weights.size() / 8);
  const double before = probe::CoreReadBandwidth(words, 2);
  const double begin = probe::CpuSeconds();
  for (auto _ : state) run();
  const double seconds =
      (probe::CpuSeconds() - begin) / static_cast<double>(std::max<int64_t>(1, state.iterations()));
  const double rate = static_cast<double>(weights.size()) / seconds;
  state.counters["GB/s"] = rate * 1e-9;
  state.counters["share"] = rate / std::max(before, probe::CoreReadBandwidth(words, 2));
  return seconds;
}

// One token times a matrix larger than any cache: what decoding does.
void Gemv(benchmark::State& state, Type type) {
  const int64_t row_bytes = quant::RowBytes(type, kColumns);
  const int64_t n_rows = kMatrixBytes / row_bytes;
  const std::vector<float> x = Normal(kColumns);
  std::vector<float> storage(n_rows * row_bytes / 4);
  auto* weights = reinterpret_cast<std::byte*>(storage.data());
  if (!quant::QuantizeRow(type, x.data(), weights, kColumns)) state.SkipWithError("quantise");
  for (int64_t r = 1; r < n_rows; ++r) std::memcpy(weights + r * row_bytes, weights, row_bytes);
  std::vector<float> y(n_rows);
  MeasureReads(state, {weights, static_cast<size_t>(n_rows * row_bytes)}, [&] {
    Kernels().ForType(type).gemv(weights, row_bytes, n_rows, kColumns, x.data(), y.data());
    benchmark::DoNotOptimize(y.data());
  });
}

// Rows, a multiple of a strip's.
int64_t TileRows(Scheme scheme) { return kMatrixBytes / StripBytes(scheme, kColumns) * kStripRows; }

// Weights of random codes.
std::span<std::byte> PackedWeights(Scheme scheme) {
  static std::vector<uint64_t> storage;
  const int64_t n_rows = TileRows(scheme);
  const int64_t bytes = PackedBytes(scheme, n_rows, kColumns).value();
  storage.resize(std::max<size_t>(storage.size(), bytes / 8 + 8));
  std::mt19937_64 generator(1);
  for (uint64_t& word : storage) word = generator();
  auto* begin = reinterpret_cast<std::byte*>(storage.data());
  begin += -reinterpret_cast<uintptr_t>(begin) % kStripAlignment;
  const int64_t strip_bytes = StripBytes(scheme, kColumns);
  const uint16_t scale = quant::FloatToHalf(0.01F);
  for (int64_t strip = 0; strip < StripCount(n_rows); ++strip) {
    for (int64_t i = 0; i < StripScaleBytes(scheme, kColumns); i += 2) {
      std::memcpy(begin + strip * strip_bytes + i, &scale, 2);
    }
  }
  return {begin, static_cast<size_t>(bytes)};
}

std::vector<std::byte> Activations(Scheme scheme, int64_t n_tokens, std::byte** aligned) {
  const std::vector<float> x = Normal(n_tokens * kColumns);
  const TileSet& tiles = *Kernels().tiles;
  const int group = GetScheme(scheme).group;
  std::vector<std::byte> blocks(ActivationBytes(tiles, n_tokens, kColumns, group) + 64);
  *aligned = blocks.data() + -reinterpret_cast<uintptr_t>(blocks.data()) % 64;
  QuantizeTokens(tiles, x.data(), kColumns, nullptr, 0, 0, n_tokens, n_tokens, kColumns, group,
                 *aligned);
  return blocks;
}

// The integer kernels on a matrix larger than any cache: decoding a batch of so many.
void TileGemv(benchmark::State& state, Scheme scheme) {
  const int64_t n_tokens = state.range(0);
  const int64_t n_rows = TileRows(scheme);
  const std::span<std::byte> weights = PackedWeights(scheme);
  std::byte* blocks = nullptr;
  const auto storage = Activations(scheme, n_tokens, &blocks);
  std::vector<float> y(n_tokens * n_rows);
  const double seconds = MeasureReads(state, weights, [&] {
    MultiplyStrips(*Kernels().tiles, scheme, weights.data(), n_rows, kColumns, blocks, n_tokens,
                   y.data(), n_rows);
    benchmark::DoNotOptimize(y.data());
  });
  state.counters["GMAC/s"] = static_cast<double>(n_tokens * n_rows * kColumns) / seconds * 1e-9;
}

// The same for a chunk of a prompt. Items are products.
void TileGemm(benchmark::State& state, Scheme scheme) {
  constexpr int64_t kRows = 1024;
  const int64_t n_tokens = state.range(0);
  const std::span<std::byte> weights = PackedWeights(scheme);
  std::byte* blocks = nullptr;
  const auto storage = Activations(scheme, n_tokens, &blocks);
  std::vector<float> y(n_tokens * kRows);
  static const double peak = probe::Int8Peak();
  const double begin = probe::CpuSeconds();
  for (auto _ : state) {
    MultiplyStrips(*Kernels().tiles, scheme, weights.data(), kRows, kColumns, blocks, n_tokens,
                   y.data(), kRows);
    benchmark::DoNotOptimize(y.data());
  }
  const double rate = static_cast<double>(state.iterations() * n_tokens) * kRows * kColumns /
                      (probe::CpuSeconds() - begin);
  state.SetLabel(probe::Int8PeakInstructions());
  state.counters["GMAC/s"] = rate * 1e-9;
  state.counters["share"] = peak > 0 ? rate / peak : 0;
}

// RMSNorm and quantising of one token. Items are columns.
void NormQuantize(benchmark::State& state) {
  const std::vector<float> x = Normal(kColumns);
  std::vector<std::byte> block(2 * kColumns);
  for (auto _ : state) {
    Kernels().tiles->norm_quantize(x.data(), x.data(), 1e-5, kColumns,
                                   static_cast<int>(state.range(0)), 1, 0, block.data());
    benchmark::DoNotOptimize(block.data());
  }
  state.SetItemsProcessed(state.iterations() * kColumns);
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
#define TANDEM_TILE_BENCHMARKS(name, scheme)                                                 \
  BENCHMARK_CAPTURE(TileGemv, name, scheme)->Arg(1)->Arg(2)->Arg(3)->Arg(4)->Arg(6)->Arg(8); \
  BENCHMARK_CAPTURE(TileGemm, name, scheme)->Arg(12)->Arg(64)->Arg(384)
TANDEM_TILE_BENCHMARKS(int4g128, Scheme::kInt4G128);
TANDEM_TILE_BENCHMARKS(int4g32, Scheme::kInt4G32);
TANDEM_TILE_BENCHMARKS(int8g128, Scheme::kInt8G128);
TANDEM_TILE_BENCHMARKS(int8g32, Scheme::kInt8G32);
BENCHMARK(NormQuantize)->Arg(32)->Arg(128);
BENCHMARK(Gemm)->Arg(3)->Arg(8)->Arg(64);
BENCHMARK_CAPTURE(Attention, F32, false);
BENCHMARK_CAPTURE(Attention, F16, true);

}  // namespace
}  // namespace tandem::kernels
