// Activations to int8 with NEON; the rule is in activations.h. Compiled with its own flags, so
// everything here but the two named kernels has internal linkage.
#include "engine/kernels/neon_internal.h"

namespace tandem::kernels {
namespace {

// *sum += all lanes; *offset = -8 x the sums of the lanes of codes 0 and 1 of a chunk, and of 2 and
// 3.
TANDEM_INLINE void AddOffset(int32x4_t lanes, int32_t* sum, int32_t* offset) {
  const int first = vgetq_lane_s32(lanes, 0) + vgetq_lane_s32(lanes, 1);
  const int second = vgetq_lane_s32(lanes, 2) + vgetq_lane_s32(lanes, 3);
  *sum += first + second;
  *offset = static_cast<int32_t>((static_cast<uint32_t>(-8 * first) & 0xFFFF) |
                                 static_cast<uint32_t>(-8 * second) << 16);
}

// Codes, scale and sums of one group, which stands as floats in x.
template <int kGroup>
TANDEM_INLINE void QuantizeGroup(const float* x, int block_tokens, int32_t* chunks, float* scale,
                                 int32_t* sum, int32_t* offsets) {
  // Magnitudes as integers: a NaN is above all.
  uint32x4_t largest = vdupq_n_u32(0);
  for (int i = 0; i < kGroup; i += 4) {
    const uint32x4_t bits = vreinterpretq_u32_f32(vld1q_f32(x + i));
    largest = vmaxq_u32(largest, vandq_u32(bits, vdupq_n_u32(0x7FFFFFFF)));
  }
  const float magnitude = __builtin_bit_cast(float, vmaxvq_u32(largest));
  const bool finite = magnitude <= 3.40282347e38F;
  const bool tiny = magnitude < kTinyActivation;
  const float factor = finite && !tiny ? 127.0F / magnitude : 0.0F;
  *scale = !finite ? __builtin_nanf("") : tiny ? 0.0F : magnitude / 127.0F;
  *sum = 0;
  constexpr int kSpan = SpanCols(kGroup);
  // Zero where the group is not finite: infinity times zero is not zero.
  const int32x4_t keep = vdupq_n_s32(finite ? -1 : 0);
  for (int begin = 0; begin < kGroup; begin += kSpan) {
    int32x4_t total = vdupq_n_s32(0);
    for (int i = begin; i < begin + kSpan; i += 4) {
      const int32x4_t rounded = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i), factor));
      const int32x4_t codes = vandq_s32(rounded, keep);
      total = vaddq_s32(total, codes);
      const int16x4_t half = vmovn_s32(codes);
      const int8x8_t chunk = vmovn_s16(vcombine_s16(half, half));
      chunks[i / 4 * block_tokens] = vget_lane_s32(vreinterpret_s32_s8(chunk), 0);
    }
    AddOffset(total, sum, offsets + begin / kSpan * block_tokens);
  }
}

// values[i] = x[i] * scale * weight[i] for i < n, or x[i] where weight is null; then zeros.
template <int kGroup>
TANDEM_INLINE void NormalizeGroup(const float* x, const float* weight, float scale, int64_t n,
                                  float* values) {
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) {
    float32x4_t value = vld1q_f32(x + i);
    if (weight != nullptr) value = vmulq_f32(vmulq_n_f32(value, scale), vld1q_f32(weight + i));
    vst1q_f32(values + i, value);
  }
  for (; i < n; ++i) values[i] = weight != nullptr ? x[i] * scale * weight[i] : x[i];
  for (; i < kGroup; ++i) values[i] = 0;
}

template <int kGroup>
TANDEM_INLINE void QuantizeToken(const float* x, const float* weight, float scale, int64_t n_cols,
                                 int block_tokens, int slot, std::byte* block) {
  const int64_t n_tiles = TileCount(n_cols);
  auto* chunks = reinterpret_cast<int32_t*>(block) + slot;
  auto* scales = const_cast<float*>(BlockScales(block, n_tiles, block_tokens)) + slot;
  auto* sums = const_cast<int32_t*>(BlockSums(block, n_tiles, kGroup, block_tokens)) + slot;
  auto* offsets = const_cast<int32_t*>(BlockOffsets(block, n_tiles, kGroup, block_tokens)) + slot;
  for (int64_t begin = 0; begin < n_tiles * kTileCols; begin += kGroup) {
    const int64_t n = n_cols < begin ? 0 : Min(kGroup, n_cols - begin);
    const float* group = x + begin;
    float values[kGroup];
    if (weight != nullptr || n < kGroup) {
      NormalizeGroup<kGroup>(group, weight == nullptr ? nullptr : weight + begin, scale, n, values);
      group = values;
    }
    QuantizeGroup<kGroup>(group, block_tokens, chunks, scales, sums, offsets);
    chunks += kGroup / 4 * block_tokens;
    scales += block_tokens;
    sums += block_tokens;
    offsets += kGroup / SpanCols(kGroup) * block_tokens;
  }
}

}  // namespace

void quantize_q8_f32_1x4_neon_dotprod(const float* x, int64_t n_cols, int group, int block_tokens,
                                      int slot, std::byte* block) {
  if (group == 128) {
    QuantizeToken<128>(x, nullptr, 0, n_cols, block_tokens, slot, block);
  } else {
    QuantizeToken<32>(x, nullptr, 0, n_cols, block_tokens, slot, block);
  }
}

void norm_quantize_q8_f32_1x4_neon_dotprod(const float* x, const float* weight, double eps,
                                           int64_t n_cols, int group, int block_tokens, int slot,
                                           std::byte* block) {
  float32x4_t lanes[4] = {};
  int64_t i = 0;
  for (; i + 16 <= n_cols; i += 16) {
    for (int l = 0; l < 4; ++l) {
      const float32x4_t value = vld1q_f32(x + i + 4 * l);
      lanes[l] = vfmaq_f32(lanes[l], value, value);
    }
  }
  float last[16] = {};
  for (int l = 0; i + l < n_cols; ++l) last[l] = x[i + l];
  for (int l = 0; l < 4; ++l) {
    const float32x4_t value = vld1q_f32(last + 4 * l);
    lanes[l] = vfmaq_f32(lanes[l], value, value);
  }
  const float32x4_t quads = vaddq_f32(vaddq_f32(lanes[0], lanes[2]), vaddq_f32(lanes[1], lanes[3]));
  const float32x2_t pairs = vadd_f32(vget_low_f32(quads), vget_high_f32(quads));
  const float sum = vget_lane_f32(pairs, 0) + vget_lane_f32(pairs, 1);
  const double mean = double{sum} / static_cast<double>(n_cols);
  const auto scale = static_cast<float>(1.0 / __builtin_sqrt(mean + eps));
  if (group == 128) {
    QuantizeToken<128>(x, weight, scale, n_cols, block_tokens, slot, block);
  } else {
    QuantizeToken<32>(x, weight, scale, n_cols, block_tokens, slot, block);
  }
}

}  // namespace tandem::kernels
