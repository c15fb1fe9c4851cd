#include "engine/ops/packed_matmul.h"

#include <algorithm>

#include "base/check.h"
#include "engine/kernels/activations.h"

namespace tandem::ops {
namespace {

using kernels::kStripRows;

// Products of a chunk of work: about 10 us, a hundred times the cost of handing it out.
constexpr int64_t kChunkProducts = 512 * 1024;
// Pairs of strips that GatedMatMul takes at once at most; their outputs stay in the first-level
// cache.
constexpr int64_t kMaxPairs = 8;
constexpr int64_t kPairRows = 2 * kStripRows;
// Values that a chunk of quantisation takes: about 10 us.
constexpr int64_t kChunkValues = 16 * 1024;

int64_t ChunkStrips(int64_t n_cols, int64_t n_tokens) {
  return std::max<int64_t>(1, kChunkProducts / (kStripRows * n_cols * n_tokens));
}

int64_t PairsAtOnce(int64_t n_tokens) {
  return std::clamp<int64_t>(kMaxPairs / n_tokens, 1, kMaxPairs);
}

}  // namespace

int64_t ActivationBytes(const kernels::KernelSet& kernels, int64_t max_tokens, int64_t n_cols) {
  // Groups of 32 have the most scales; small batches may be padded to larger blocks than large
  // ones.
  int64_t bytes = kernels::ActivationBytes(*kernels.tiles, max_tokens, n_cols, 32);
  for (const int n_tokens : kernels::kGemvTokens) {
    if (n_tokens > max_tokens) break;
    bytes = std::max(bytes, kernels::ActivationBytes(*kernels.tiles, n_tokens, n_cols, 32));
  }
  return bytes;
}

void QuantizeTokens(const kernels::KernelSet& kernels, ThreadPool& pool, const float* x,
                    const float* weight, double eps, int64_t n_tokens, int64_t n_cols, int group,
                    std::span<std::byte> activations) {
  TANDEM_CHECK(static_cast<int64_t>(activations.size()) >=
               kernels::ActivationBytes(*kernels.tiles, n_tokens, n_cols, group));
  // Whole blocks, so that no two threads write into one cache line.
  const int64_t block_tokens = kernels::BlockTokens(*kernels.tiles, n_tokens);
  const int64_t n_blocks = std::max<int64_t>(1, kChunkValues / (block_tokens * n_cols));
  pool.ParallelFor(n_tokens, n_blocks * block_tokens, [&](int, int64_t begin, int64_t end) {
    kernels::QuantizeTokens(*kernels.tiles, x, n_cols, weight, eps, begin, end, n_tokens, n_cols,
                            group, activations.data());
  });
}

void MatMul(const kernels::KernelSet& kernels, ThreadPool& pool,
            std::span<const PackedMatrix> parts, std::span<const std::byte> activations,
            int64_t n_tokens, float* y) {
  if (parts.empty() || n_tokens == 0) return;
  const int64_t n_cols = parts[0].n_cols;
  int64_t n_strips = 0;
  int64_t y_stride = 0;
  for (const PackedMatrix& part : parts) {
    TANDEM_CHECK(part.n_cols == n_cols && part.group() == parts[0].group());
    n_strips += kernels::StripCount(part.n_rows);
    y_stride += part.n_rows;
  }
  pool.ParallelFor(n_strips, ChunkStrips(n_cols, n_tokens), [&](int, int64_t begin, int64_t end) {
    int64_t column = 0;       // of y, where the part starts
    int64_t first_strip = 0;  // of the part
    for (const PackedMatrix& part : parts) {
      const int64_t part_strips = kernels::StripCount(part.n_rows);
      const int64_t from = std::max(begin - first_strip, int64_t{0});
      const int64_t to = std::min(end - first_strip, part_strips);
      if (from < to) {
        const int64_t row = from * kStripRows;
        const int64_t n_rows = std::min(to * kStripRows, part.n_rows) - row;
        kernels::MultiplyStrips(*kernels.tiles, part.scheme,
                                part.data + from * kernels::StripBytes(part.scheme, n_cols), n_rows,
                                n_cols, activations.data(), n_tokens, y + column + row, y_stride);
      }
      column += part.n_rows;
      first_strip += part_strips;
    }
  });
}

int64_t GateFloats(int64_t max_tokens) {
  // One pair for many tokens, or several pairs for few.
  return kPairRows * std::max(max_tokens, kMaxPairs);
}

void GatedMatMul(const kernels::KernelSet& kernels, ThreadPool& pool, const PackedMatrix& gate_up,
                 std::span<const std::byte> activations, int64_t n_tokens, int64_t width,
                 float* out, std::span<float> scratch) {
  const int64_t n_pairs = (width + kStripRows - 1) / kStripRows;
  TANDEM_CHECK(gate_up.n_rows == n_pairs * kPairRows);
  TANDEM_CHECK(static_cast<int64_t>(scratch.size()) >= pool.n_threads() * GateFloats(n_tokens));
  const int64_t pair_bytes = 2 * kernels::StripBytes(gate_up.scheme, gate_up.n_cols);
  const int64_t at_once = PairsAtOnce(n_tokens);
  const int64_t chunk = std::max<int64_t>(1, ChunkStrips(gate_up.n_cols, n_tokens) / 2);
  pool.ParallelFor(n_pairs, chunk, [&](int worker, int64_t begin, int64_t end) {
    float* products = scratch.data() + worker * GateFloats(n_tokens);
    for (int64_t pair = begin; pair < end; pair += at_once) {
      const int64_t n = std::min(at_once, end - pair);
      kernels::MultiplyStrips(*kernels.tiles, gate_up.scheme, gate_up.data + pair * pair_bytes,
                              n * kPairRows, gate_up.n_cols, activations.data(), n_tokens, products,
                              n * kPairRows);
      for (int64_t t = 0; t < n_tokens; ++t) {
        for (int64_t i = 0; i < n; ++i) {
          const float* gate = products + t * n * kPairRows + i * kPairRows;
          const int64_t column = (pair + i) * kStripRows;
          kernels.silu_mul(gate, gate + kStripRows, std::min<int64_t>(kStripRows, width - column),
                           out + t * width + column);
        }
      }
    }
  });
}

}  // namespace tandem::ops
