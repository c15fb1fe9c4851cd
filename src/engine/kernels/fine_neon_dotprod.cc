// Rows of a fine plane with NEON; the rule is at TileSet::fine_dot. Compiled with its own flags, so
// everything here but the named kernel has internal linkage.
#include "engine/kernels/neon_internal.h"

namespace tandem::kernels {
namespace {

// The fine codes of a tile, 16 columns a vector.
TANDEM_INLINE void UnpackNibbles(const std::byte* codes, int8x16_t (&fine)[8]) {
  const int8x16_t zero = vdupq_n_s8(8);
#pragma clang loop unroll(full)
  for (int v = 0; v < 4; ++v) {
    const int8x16_t both = LoadQuad(codes + 16 * v);
    fine[v / 2 * 4 + v % 2] = vsubq_s8(LowNibbles(both), zero);
    fine[v / 2 * 4 + 2 + v % 2] = vsubq_s8(HighNibbles(both), zero);
  }
}

TANDEM_INLINE void UnpackThreeBits(const std::byte* codes, int8x16_t (&fine)[8]) {
  static constexpr uint8_t kBitOf[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
  const uint8x16_t bit_of = vld1q_u8(kBitOf);
  const auto* bytes = reinterpret_cast<const uint8_t*>(codes);
#pragma clang loop unroll(full)
  for (int v = 0; v < 8; ++v) {
    // Columns 16 v .. 16 v + 15: byte i of the low bits' half, shifted by twice the block of 32.
    const uint8x16_t low = vandq_u8(
        vshlq_u8(vld1q_u8(bytes + 16 * (v % 2)), vdupq_n_s8(static_cast<int8_t>(-2 * (v / 2)))),
        vdupq_n_u8(3));
    const uint8x16_t word =
        vcombine_u8(vdup_n_u8(bytes[32 + 2 * v]), vdup_n_u8(bytes[32 + 2 * v + 1]));
    // 4 where the third bit is set.
    const uint8x16_t high = vandq_u8(vtstq_u8(word, bit_of), vdupq_n_u8(4));
    fine[v] = vsubq_s8(vreinterpretq_s8_u8(vorrq_u8(low, high)), vdupq_n_s8(4));
  }
}

template <int kBits, int kGroup>
TANDEM_INLINE float Multiply(const std::byte* codes, const std::byte* scales, int64_t n_tiles,
                             const std::byte* block) {
  const float* x_scales = BlockScales(block, n_tiles, 1);
  float32x4_t low_acc = vdupq_n_f32(0);   // lanes 0..3
  float32x4_t high_acc = vdupq_n_f32(0);  // lanes 4..7
  for (int64_t tile = 0; tile < n_tiles; ++tile) {
    int8x16_t fine[8];
    if constexpr (kBits == 4) {
      UnpackNibbles(codes, fine);
    } else {
      UnpackThreeBits(codes, fine);
    }
    constexpr int kVectors = kGroup / 16;
#pragma clang loop unroll(full)
    for (int begin = 0; begin < 8; begin += kVectors) {
      int32x4_t low = vdupq_n_s32(0);
      int32x4_t high = vdupq_n_s32(0);
#pragma clang loop unroll(full)
      for (int v = begin; v < begin + kVectors; v += 2) {
        low = vdotq_s32(low, fine[v], LoadQuad(block + 16 * v));
        high = vdotq_s32(high, fine[v + 1], LoadQuad(block + 16 * v + 16));
      }
      float16_t half;
      __builtin_memcpy(&half, scales, sizeof half);
      scales += kStripRows * 2;
      const float scale = static_cast<float>(half) * (1.0F / (1 << kBits)) * *x_scales++;
      low_acc = vfmaq_f32(low_acc, vcvtq_f32_s32(low), vdupq_n_f32(scale));
      high_acc = vfmaq_f32(high_acc, vcvtq_f32_s32(high), vdupq_n_f32(scale));
    }
    codes += kTileCols / 8 * kBits;
    block += kTileCols;
  }
  const float32x4_t quads = vaddq_f32(low_acc, high_acc);
  const float32x2_t pairs = vadd_f32(vget_low_f32(quads), vget_high_f32(quads));
  return vget_lane_f32(pairs, 0) + vget_lane_f32(pairs, 1);
}

}  // namespace

float fine_dot_f32_q8_qf_1x1_neon_dotprod(const std::byte* codes, const std::byte* scales, int bits,
                                          int group, int64_t n_tiles, const std::byte* block) {
  if (bits == 4) {
    return group == 128 ? Multiply<4, 128>(codes, scales, n_tiles, block)
                        : Multiply<4, 32>(codes, scales, n_tiles, block);
  }
  return group == 128 ? Multiply<3, 128>(codes, scales, n_tiles, block)
                      : Multiply<3, 32>(codes, scales, n_tiles, block);
}

}  // namespace tandem::kernels
