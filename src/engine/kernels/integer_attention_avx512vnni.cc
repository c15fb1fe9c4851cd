// AVX-512 VNNI: the product of attention over int8 tiles, 64 columns at a time. Compiled with its
// own flags: everything but the kernel has internal linkage.
#if defined(TANDEM_EMULATE_AVX512VNNI)
#include "engine/kernels/testing/avx512_emulation.h"
#else
#include <immintrin.h>
#endif

#include "engine/kernels/integer_attention_internal.h"
#include "engine/kernels/tile_internal.h"

namespace tandem::kernels {
namespace {

TANDEM_INLINE __m512i LoadPair(const int16_t* a) {
  int32_t pair;
  __builtin_memcpy(&pair, a, sizeof pair);
  return _mm512_set1_epi32(pair);
}

// kRows x 16 kVectors sums; of the last vector there is all or, with a mask of 0xFF, half.
template <int kRows, int kVectors>
TANDEM_INLINE void MultiplyTile(const int16_t* a, int a_stride, const int8_t* b, int b_stride,
                                int n_k, __mmask16 last, int32_t* c, int c_stride) {
  __m512i sum[kRows][kVectors];
#pragma clang loop unroll(full)
  for (int r = 0; r < kRows; ++r) {
#pragma clang loop unroll(full)
    for (int v = 0; v < kVectors; ++v) sum[r][v] = _mm512_setzero_si512();
  }
  const __mmask32 last_bytes = last == 0xFFFF ? ~0U : 0xFFFF;
  for (int k = 0; k < n_k; k += 2, b += 2 * b_stride) {
    __m512i pairs[kVectors];
#pragma clang loop unroll(full)
    for (int v = 0; v < kVectors; ++v) {
      pairs[v] = _mm512_cvtepi8_epi16(
          v == kVectors - 1 ? _mm256_maskz_loadu_epi8(last_bytes, b + 32 * v)
                            : _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + 32 * v)));
    }
#pragma clang loop unroll(full)
    for (int r = 0; r < kRows; ++r) {
      const __m512i left = LoadPair(a + r * a_stride + k);
#pragma clang loop unroll(full)
      for (int v = 0; v < kVectors; ++v) {
        sum[r][v] = _mm512_dpwssd_epi32(sum[r][v], pairs[v], left);
      }
    }
  }
#pragma clang loop unroll(full)
  for (int r = 0; r < kRows; ++r) {
#pragma clang loop unroll(full)
    for (int v = 0; v < kVectors; ++v) {
      _mm512_mask_storeu_epi32(c + r * c_stride + 16 * v, v == kVectors - 1 ? last : 0xFFFF,
                               sum[r][v]);
    }
  }
}

template <int kRows>
TANDEM_INLINE void Multiply(const int16_t* a, int a_stride, const int8_t* b, int b_stride, int n,
                            int n_k, int32_t* c, int c_stride) {
  int j = 0;
  for (; j + 64 <= n; j += 64) {
    MultiplyTile<kRows, 4>(a, a_stride, b + 2 * j, b_stride, n_k, 0xFFFF, c + j, c_stride);
  }
  for (; j < n; j += 16) {
    const __mmask16 mask = n - j >= 16 ? 0xFFFF : 0xFF;
    MultiplyTile<kRows, 1>(a, a_stride, b + 2 * j, b_stride, n_k, mask, c + j, c_stride);
  }
}

}  // namespace

void multiply_s32_s16_s8_4x64_avx512vnni(const int16_t* a, int a_stride, int n_rows,
                                         const int8_t* b, int b_stride, int n, int n_k, int32_t* c,
                                         int c_stride) {
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
