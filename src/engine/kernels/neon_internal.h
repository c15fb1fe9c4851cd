// What the NEON files share. Included only by them: everything here has internal linkage.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "engine/kernels/kernel_set.h"
#include "engine/kernels/tile_internal.h"

namespace tandem::kernels {

// quantize_neon_dotprod.cc; the contracts are those of TileSet's members.
void quantize_q8_f32_1x4_neon_dotprod(const float* x, int64_t n_cols, int group, int block_tokens,
                                      int slot, std::byte* block);
void norm_quantize_q8_f32_1x4_neon_dotprod(const float* x, const float* weight, double eps,
                                           int64_t n_cols, int group, int block_tokens, int slot,
                                           std::byte* block);

// fine_neon_dotprod.cc; likewise.
float fine_dot_f32_q8_qf_1x1_neon_dotprod(const std::byte* codes, const std::byte* scales, int bits,
                                          int group, int64_t n_tiles, const std::byte* block);

namespace {

constexpr int kNeonPanelTokens = 8;
constexpr int kNeonPrefetchBytes = 1024;

// Four rows of a vector of the layout.
TANDEM_INLINE int8x16_t LoadQuad(const std::byte* p) {
  return vld1q_s8(reinterpret_cast<const int8_t*>(p));
}
// Nibbles 0..15 are valid signed bytes.
TANDEM_INLINE int8x16_t LowNibbles(int8x16_t both) { return vandq_s8(both, vdupq_n_s8(15)); }
TANDEM_INLINE int8x16_t HighNibbles(int8x16_t both) {
  return vreinterpretq_s8_u8(vshrq_n_u8(vreinterpretq_u8_s8(both), 4));
}

// acc[0..3] += product * row scales * token scale, of four rows; the zero point of nibbles is taken
// off first.
template <bool int4>
TANDEM_INLINE void AddScaled(int32x4_t product, float32x4_t row_scales, float x_scale,
                             int32_t x_sum, float* acc) {
  if constexpr (int4) product = vsubq_s32(product, vdupq_n_s32(8 * x_sum));
  vst1q_f32(acc,
            vfmaq_f32(vld1q_f32(acc), vcvtq_f32_s32(product), vmulq_n_f32(row_scales, x_scale)));
}
TANDEM_INLINE float32x4_t LoadScales(const std::byte* p) {
  return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(reinterpret_cast<const uint16_t*>(p))));
}

// The calls that TileKernels offers, over a kernel for one strip:
//   Strip::Multiply<scheme, kBlock>(tile, n_tiles, &sums)
template <typename Strip, Scheme scheme, int kBlock>
TANDEM_INLINE void MultiplyBlock(const std::byte* strips, int64_t n_rows, int64_t n_tiles,
                                 const std::byte* block, int64_t n_tokens, float* y,
                                 int64_t y_stride) {
  for (int64_t row = 0; row < n_rows; row += kStripRows, strips += StripBytesOf<scheme>(n_tiles)) {
    StripSums sums = {};
    Strip::template Multiply<scheme, kBlock>(
        TileView::First<scheme>(strips, n_tiles, block, kBlock), n_tiles, &sums);
    StoreSums(sums, Min(n_rows - row, kStripRows), n_tokens, y + row, y_stride);
  }
}

template <typename Strip, Scheme scheme>
TANDEM_INLINE void MultiplyAnyBlock(const std::byte* strips, int64_t n_rows, int64_t n_tiles,
                                    const std::byte* block, int block_tokens, int n_tokens,
                                    float* y, int64_t y_stride) {
  switch (block_tokens) {
    case 1:
      return MultiplyBlock<Strip, scheme, 1>(strips, n_rows, n_tiles, block, n_tokens, y, y_stride);
    case 2:
      return MultiplyBlock<Strip, scheme, 2>(strips, n_rows, n_tiles, block, n_tokens, y, y_stride);
    case 3:
      return MultiplyBlock<Strip, scheme, 3>(strips, n_rows, n_tiles, block, n_tokens, y, y_stride);
    case 4:
      return MultiplyBlock<Strip, scheme, 4>(strips, n_rows, n_tiles, block, n_tokens, y, y_stride);
    case 6:
      return MultiplyBlock<Strip, scheme, 6>(strips, n_rows, n_tiles, block, n_tokens, y, y_stride);
    default:
      return MultiplyBlock<Strip, scheme, 8>(strips, n_rows, n_tiles, block, n_tokens, y, y_stride);
  }
}

// Strip by strip, so that a strip is read from memory once for all blocks of tokens.
template <typename Strip, Scheme scheme>
TANDEM_INLINE void MultiplyBlocks(const std::byte* strips, int64_t n_rows, int64_t n_tiles,
                                  const std::byte* blocks, int64_t n_tokens, float* y,
                                  int64_t y_stride) {
  const int64_t block_bytes = BlockBytes(n_tiles, SchemeTraits<scheme>::kGroup, kNeonPanelTokens);
  for (int64_t row = 0; row < n_rows; row += kStripRows, strips += StripBytesOf<scheme>(n_tiles)) {
    const std::byte* block = blocks;
    for (int64_t t = 0; t < n_tokens; t += kNeonPanelTokens, block += block_bytes) {
      MultiplyBlock<Strip, scheme, kNeonPanelTokens>(strips, Min(n_rows - row, kStripRows), n_tiles,
                                                     block, Min(kNeonPanelTokens, n_tokens - t),
                                                     y + t * y_stride + row, y_stride);
    }
  }
}

}  // namespace
}  // namespace tandem::kernels
