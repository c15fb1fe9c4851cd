// NEON: the product of attention over int8 tiles. Everything but the kernel has internal linkage.
#include <arm_neon.h>

#include "engine/kernels/integer_attention_internal.h"
#include "engine/kernels/tile_internal.h"

namespace tandem::kernels {
namespace {

// kRows x 8 sums.
template <int kRows>
TANDEM_INLINE void MultiplyTile(const int16_t* a, int a_stride, const int8_t* b, int b_stride,
                                int n_k, int32_t* c, int c_stride) {
  int32x4_t low[kRows];
  int32x4_t high[kRows];
#pragma clang loop unroll(full)
  for (int r = 0; r < kRows; ++r) low[r] = high[r] = vdupq_n_s32(0);
  for (int k = 0; k < n_k; k += 2, b += 2 * b_stride) {
    const int8x8x2_t pairs = vld2_s8(b);
    const int16x8_t first = vmovl_s8(pairs.val[0]);
    const int16x8_t second = vmovl_s8(pairs.val[1]);
#pragma clang loop unroll(full)
    for (int r = 0; r < kRows; ++r) {
      const int16_t* left = a + r * a_stride + k;
      low[r] = vmlal_n_s16(low[r], vget_low_s16(first), left[0]);
      high[r] = vmlal_high_n_s16(high[r], first, left[0]);
      low[r] = vmlal_n_s16(low[r], vget_low_s16(second), left[1]);
      high[r] = vmlal_high_n_s16(high[r], second, left[1]);
    }
  }
#pragma clang loop unroll(full)
  for (int r = 0; r < kRows; ++r) {
    vst1q_s32(c + r * c_stride, low[r]);
    vst1q_s32(c + r * c_stride + 4, high[r]);
  }
}

template <int kRows>
TANDEM_INLINE void Multiply(const int16_t* a, int a_stride, const int8_t* b, int b_stride, int n,
                            int n_k, int32_t* c, int c_stride) {
  for (int j = 0; j < n; j += 8) {
    MultiplyTile<kRows>(a, a_stride, b + 2 * j, b_stride, n_k, c + j, c_stride);
  }
}

}  // namespace

void multiply_s32_s16_s8_4x8_neon(const int16_t* a, int a_stride, int n_rows, const int8_t* b,
                                  int b_stride, int n, int n_k, int32_t* c, int c_stride) {
  switch (n_rows) {
    case 1:
      return Multiply<1>(a, a_stride, b, b_stride, n, n_k, c, c_stride);
    case 2:
      return Multiply<2>(a, a_stride, b, b_stride, n, n_k, c, c_stride);
    case 3:
      return Multiply<3>(a, a_stride, b, b_stride, n, n_k, c, c_stride);
    default:
      return Multiply<4>(a, a_stride, b, b_stride, n, n_k, c, c_stride);
  }
}

}  // namespace tandem::kernels
