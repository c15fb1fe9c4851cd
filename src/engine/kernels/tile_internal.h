// What the tile kernels share: where things stand in a strip and in a block of activations.
// Everything here has internal linkage, for it is compiled with the flags of each instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/kernels/kernel_set.h"
#include "engine/kernels/layout.h"

#define TANDEM_INLINE inline __attribute__((always_inline))
#define TANDEM_NOINLINE __attribute__((noinline))

namespace tandem::kernels {

// Largest magnitude of a group that is quantised as zeros: 127 / m must stay finite.
inline constexpr float kTinyActivation = 1e-30F;

// A scheme as constants.
template <Scheme scheme>
struct SchemeTraits {
  static constexpr bool kInt4 = scheme == Scheme::kInt4G128 || scheme == Scheme::kInt4G32;
  static constexpr int kGroup =
      scheme == Scheme::kInt4G128 || scheme == Scheme::kInt8G128 ? 128 : 32;
  static constexpr int kGroupsPerTile = kTileCols / kGroup;
  static constexpr int kTileBytes = kInt4 ? 1024 : 2048;
  static constexpr int kSpan = kGroup < 64 ? kGroup : 64;
  static constexpr int kSpansPerTile = kTileCols / kSpan;
  static constexpr int kTileScaleBytes = kGroupsPerTile * kStripRows * 2;
};

static constexpr int64_t RoundUp64(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// A block of activations; see activations.h.
static constexpr int SpanCols(int group) { return group < 64 ? group : 64; }
static constexpr int64_t BlockBytes(int64_t n_tiles, int group, int block_tokens) {
  return RoundUp64(n_tiles * block_tokens *
                   (kTileCols + kTileCols / group * 8 + kTileCols / SpanCols(group) * 4));
}
// From these, [group][slot]; and last, [span][slot].
static inline const float* BlockScales(const std::byte* block, int64_t n_tiles, int block_tokens) {
  return reinterpret_cast<const float*>(block + n_tiles * kTileCols * block_tokens);
}
static inline const int32_t* BlockSums(const std::byte* block, int64_t n_tiles, int group,
                                       int block_tokens) {
  return reinterpret_cast<const int32_t*>(block + n_tiles * block_tokens *
                                                      (kTileCols + kTileCols / group * 4));
}
static inline const int32_t* BlockOffsets(const std::byte* block, int64_t n_tiles, int group,
                                          int block_tokens) {
  return reinterpret_cast<const int32_t*>(block + n_tiles * block_tokens *
                                                      (kTileCols + kTileCols / group * 8));
}

namespace {

// Not std::min: an out-of-line copy of it would be everybody's.
TANDEM_INLINE int64_t Min(int64_t a, int64_t b) { return a < b ? a : b; }

// Tokens of the largest block of any set.
constexpr int kMaxBlockTokens = 12;

// Where a tile of weights and its activations stand.
struct TileView {
  const std::byte* codes;
  const std::byte* scales;
  const int32_t* x;
  const float* x_scales;
  const int32_t* x_sums;
  const int32_t* x_offsets;

  template <Scheme scheme>
  static TANDEM_INLINE TileView First(const std::byte* strip, int64_t n_tiles,
                                      const std::byte* block, int block_tokens) {
    using Traits = SchemeTraits<scheme>;
    return {.codes = strip + RoundUp64(n_tiles * Traits::kTileScaleBytes),
            .scales = strip,
            .x = reinterpret_cast<const int32_t*>(block),
            .x_scales = BlockScales(block, n_tiles, block_tokens),
            .x_sums = BlockSums(block, n_tiles, Traits::kGroup, block_tokens),
            .x_offsets = BlockOffsets(block, n_tiles, Traits::kGroup, block_tokens)};
  }
  // `n` tiles on.
  template <Scheme scheme>
  TANDEM_INLINE void Advance(int64_t n, int block_tokens) {
    using Traits = SchemeTraits<scheme>;
    codes += n * Traits::kTileBytes;
    scales += n * Traits::kTileScaleBytes;
    x += n * (kTileCols / 4) * block_tokens;
    x_scales += n * Traits::kGroupsPerTile * block_tokens;
    x_sums += n * Traits::kGroupsPerTile * block_tokens;
    x_offsets += n * Traits::kSpansPerTile * block_tokens;
  }
};

template <Scheme scheme>
constexpr int64_t StripBytesOf(int64_t n_tiles) {
  using Traits = SchemeTraits<scheme>;
  return RoundUp64(n_tiles * Traits::kTileScaleBytes) + n_tiles * Traits::kTileBytes;
}

// The sums of a strip and a block of tokens.
struct alignas(64) StripSums {
  float acc[kMaxBlockTokens][kStripRows];
};

// Rows of a strip that exist and tokens that are wanted go to y.
TANDEM_INLINE void StoreSums(const StripSums& sums, int64_t n_rows, int64_t n_tokens, float* y,
                             int64_t y_stride) {
  for (int64_t m = 0; m < n_tokens; ++m) {
    float* dst = y + m * y_stride;
    if (n_rows >= kStripRows) {  // a size that the compiler knows
      __builtin_memcpy(dst, sums.acc[m], sizeof sums.acc[m]);
    } else {
      for (int64_t r = 0; r < n_rows; ++r) dst[r] = sums.acc[m][r];
    }
  }
}

// The inverse, where sums go on.
TANDEM_INLINE void LoadSums(const float* y, int64_t y_stride, int64_t n_rows, int64_t n_tokens,
                            StripSums* sums) {
  for (int64_t m = 0; m < n_tokens; ++m) {
    const float* src = y + m * y_stride;
    if (n_rows >= kStripRows) {
      __builtin_memcpy(sums->acc[m], src, sizeof sums->acc[m]);
    } else {
      for (int64_t r = 0; r < n_rows; ++r) sums->acc[m][r] = src[r];
    }
  }
}

}  // namespace
}  // namespace tandem::kernels
