#include "engine/kernels/activations.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>

#include "base/check.h"
#include "engine/kernels/tile_internal.h"

namespace tandem::kernels {

int BlockTokens(const TileSet& set, int64_t n_tokens) {
  const auto* size = std::ranges::lower_bound(kGemvTokens, n_tokens);
  return size == std::end(kGemvTokens) ? set.panel_tokens : *size;
}

int64_t ActivationBytes(const TileSet& set, int64_t n_tokens, int64_t n_cols, int group) {
  const int block_tokens = BlockTokens(set, n_tokens);
  const int64_t n_blocks = (n_tokens + block_tokens - 1) / block_tokens;
  return n_blocks * BlockBytes(TileCount(n_cols), group, block_tokens);
}

void QuantizeTokens(const TileSet& set, const float* x, int64_t x_stride, const float* weight,
                    double eps, int64_t begin, int64_t end, int64_t n_tokens, int64_t n_cols,
                    int group, std::byte* dst) {
  TANDEM_CHECK(group == 32 || group == 128);
  TANDEM_CHECK(0 <= begin && end <= n_tokens);
  const int block_tokens = BlockTokens(set, n_tokens);
  const int64_t block_bytes = BlockBytes(TileCount(n_cols), group, block_tokens);
  for (int64_t t = begin; t < end; ++t) {
    std::byte* block = dst + t / block_tokens * block_bytes;
    const int slot = static_cast<int>(t % block_tokens);
    if (weight == nullptr) {
      set.quantize(x + t * x_stride, n_cols, group, block_tokens, slot, block);
    } else {
      set.norm_quantize(x + t * x_stride, weight, eps, n_cols, group, block_tokens, slot, block);
    }
  }
}

void CopyToken(const TileSet& set, const std::byte* activations, int64_t t, int64_t n_tokens,
               int64_t n_cols, int group, std::byte* block) {
  TANDEM_CHECK(0 <= t && t < n_tokens);
  const int block_tokens = BlockTokens(set, n_tokens);
  const int64_t n_tiles = TileCount(n_cols);
  const std::byte* from = activations + t / block_tokens * BlockBytes(n_tiles, group, block_tokens);
  const int64_t slot = t % block_tokens;
  constexpr int64_t kChunkBytes = 4;
  for (int64_t chunk = 0; chunk < n_tiles * kTileCols / kChunkBytes; ++chunk) {
    std::memcpy(block + chunk * kChunkBytes, from + (chunk * block_tokens + slot) * kChunkBytes,
                kChunkBytes);
  }
  const float* from_scales = BlockScales(from, n_tiles, block_tokens) + slot;
  auto* scales = const_cast<float*>(BlockScales(block, n_tiles, 1));
  for (int64_t g = 0; g < n_tiles * kTileCols / group; ++g) {
    scales[g] = from_scales[g * block_tokens];
  }
}

double TokenNorm(const std::byte* block, int64_t n_cols, int group) {
  const int64_t n_tiles = TileCount(n_cols);
  const auto* codes = reinterpret_cast<const int8_t*>(block);
  const float* scales = BlockScales(block, n_tiles, 1);
  double squares = 0;
  for (int64_t g = 0; g < n_tiles * kTileCols / group; ++g, codes += group) {
    int32_t sum = 0;
    for (int i = 0; i < group; ++i) sum += codes[i] * codes[i];
    squares += double{scales[g]} * scales[g] * sum;
  }
  return std::sqrt(squares);
}

void MultiplyStrips(const TileSet& set, Scheme scheme, const std::byte* strips, int64_t n_rows,
                    int64_t n_cols, const std::byte* activations, int64_t n_tokens, float* y,
                    int64_t y_stride) {
  const TileKernels& kernels = set.ForScheme(scheme);
  const int64_t n_tiles = TileCount(n_cols);
  if (n_tokens > *std::rbegin(kGemvTokens)) {
    kernels.gemm(strips, n_rows, n_tiles, activations, n_tokens, y, y_stride);
  } else if (n_tokens > 0) {
    kernels.gemv(strips, n_rows, n_tiles, activations, BlockTokens(set, n_tokens),
                 static_cast<int>(n_tokens), y, y_stride);
  }
}

}  // namespace tandem::kernels
