// What the AVX2 files share. Included only by them: everything inline here has internal linkage,
// for it is compiled with flags that the rest of the program is not.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "engine/kernels/kernel_set.h"

#define TANDEM_INLINE inline __attribute__((always_inline))
#define TANDEM_LAMBDA_INLINE __attribute__((always_inline))

namespace tandem::kernels {

// attention_avx2.cc; the contracts are those of KernelSet's members.
void qk_f32_f32_f32_4x1_avx2(const float* queries, int n_queries, const std::byte* keys,
                             int n_positions, int head_dim, float scale, float* scores);
void qk_f32_f32_f16_4x1_avx2(const float* queries, int n_queries, const std::byte* keys,
                             int n_positions, int head_dim, float scale, float* scores);
void av_f32_f32_f32_4x8_avx2(const float* weights, int n_queries, const std::byte* values,
                             int n_positions, int head_dim, float* out);
void av_f32_f32_f16_4x8_avx2(const float* weights, int n_queries, const std::byte* values,
                             int n_positions, int head_dim, float* out);
float exp_sum_f32_1x8_avx2(float* x, int64_t n, float max);
void silu_mul_f32_1x8_avx2(const float* gate, const float* up, int64_t n, float* out);
void half_from_float_1x8_avx2(const float* src, int64_t n, uint16_t* dst);

// quantize_avx2.cc; the contracts are those of TileSet's members.
void quantize_q8_f32_1x8_avx2(const float* x, int64_t n_cols, int group, int block_tokens, int slot,
                              std::byte* block);
void norm_quantize_q8_f32_1x8_avx2(const float* x, const float* weight, double eps, int64_t n_cols,
                                   int group, int block_tokens, int slot, std::byte* block);

// fine_avx2.cc; likewise.
float fine_dot_f32_q8_qf_1x1_avx2(const std::byte* codes, const std::byte* scales, int bits,
                                  int group, int64_t n_tiles, const std::byte* block);

namespace {

// ((0+4)+(2+6)) + ((1+5)+(3+7)): the order that kernels.h promises.
TANDEM_INLINE float SumLanes(__m256 v) {
  const __m128 quads = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 pairs = _mm_add_ps(quads, _mm_movehl_ps(quads, quads));
  return _mm_cvtss_f32(_mm_add_ss(pairs, _mm_movehdup_ps(pairs)));
}

// All ones in the first n of eight lanes.
TANDEM_INLINE __m256i TailMask(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

// As scalar.cc's Exp, eight at a time; x in [kExpZeroBelow, kExpLargest].
TANDEM_INLINE __m256 Exp(__m256 x) {
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504F)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375F), x);
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4F), r);
  __m256 e = _mm256_set1_ps(1.0F / 5040);
  e = _mm256_fmadd_ps(e, r, _mm256_set1_ps(1.0F / 720));
  e = _mm256_fmadd_ps(e, r, _mm256_set1_ps(1.0F / 120));
  e = _mm256_fmadd_ps(e, r, _mm256_set1_ps(1.0F / 24));
  e = _mm256_fmadd_ps(e, r, _mm256_set1_ps(1.0F / 6));
  e = _mm256_fmadd_ps(e, r, _mm256_set1_ps(0.5F));
  e = _mm256_fmadd_ps(e, r, _mm256_set1_ps(1.0F));
  e = _mm256_fmadd_ps(e, r, _mm256_set1_ps(1.0F));
  // 2^n by its bits: n is in [-126, 127].
  const __m256i power =
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_mul_ps(e, _mm256_castsi256_ps(power));
}

TANDEM_INLINE __m256 ExpOrZero(__m256 x) {
  const __m256 limit = _mm256_set1_ps(kExpZeroBelow);
  const __m256 is_zero = _mm256_cmp_ps(x, limit, _CMP_LT_OQ);
  return _mm256_andnot_ps(is_zero, Exp(x));
}

}  // namespace
}  // namespace tandem::kernels
