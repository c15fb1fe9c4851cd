// What the tile kernels share: where things stand in a strip and in a block of activations.
// Everything here has internal linkage, for it is compiled with the flags of each instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/kernels/kernel_set.h"
#include "engine/kernels/layout.h"

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

}  // namespace tandem::kernels
