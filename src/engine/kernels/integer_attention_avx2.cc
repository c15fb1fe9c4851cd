// AVX2 + FMA: attention over int8 tiles. Compiled with its own flags: everything but the table has
// internal linkage.
#include <immintrin.h>

#include "engine/kernels/avx2_internal.h"
#include "engine/kernels/kernel_set.h"

namespace tandem::kernels {
namespace {

// x[i] and x[i ^ kHalf] become their sum and difference, within a vector.
template <int kHalf>
TANDEM_INLINE __m256 Butterfly(__m256 x) {
  // The upper of a pair is negated: swapped - x is what the lower minus the upper is.
  __m256 swapped;
  __m256 sign;
  if constexpr (kHalf == 1) {
    swapped = _mm256_permute_ps(x, 0xB1);
    sign = _mm256_setr_ps(0.0F, -0.0F, 0.0F, -0.0F, 0.0F, -0.0F, 0.0F, -0.0F);
  } else if constexpr (kHalf == 2) {
    swapped = _mm256_permute_ps(x, 0x4E);
    sign = _mm256_setr_ps(0.0F, 0.0F, -0.0F, -0.0F, 0.0F, 0.0F, -0.0F, -0.0F);
  } else {
    swapped = _mm256_permute2f128_ps(x, x, 1);
    sign = _mm256_setr_ps(0.0F, 0.0F, 0.0F, 0.0F, -0.0F, -0.0F, -0.0F, -0.0F);
  }
  return _mm256_add_ps(swapped, _mm256_xor_ps(x, sign));
}

void hadamard_f32_1x8_avx2(float* x, int n, int block) {
  for (int i = 0; i < n; i += 8) {
    __m256 v = Butterfly<1>(_mm256_loadu_ps(x + i));
    v = Butterfly<2>(v);
    _mm256_storeu_ps(x + i, Butterfly<4>(v));
  }
  for (int half = 8; half < block; half *= 2) {
    for (int begin = 0; begin < n; begin += 2 * half) {
      for (int i = begin; i < begin + half; i += 8) {
        const __m256 a = _mm256_loadu_ps(x + i);
        const __m256 b = _mm256_loadu_ps(x + i + half);
        _mm256_storeu_ps(x + i, _mm256_add_ps(a, b));
        _mm256_storeu_ps(x + i + half, _mm256_sub_ps(a, b));
      }
    }
  }
}

TANDEM_INLINE int32_t LargestOf(__m256i v) {
  __m128i m = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4E));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xB1));
  return _mm_cvtsi128_si32(m);
}

constexpr int32_t kInfinityBits = 0x7F800000;

TANDEM_INLINE float FloatOf(int32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

// The bits of max |x|: as integers they are ordered as the magnitudes are, NaN above infinity.
TANDEM_INLINE int32_t MaxMagnitudeBits(const float* x, int n) {
  __m256i max = _mm256_setzero_si256();
  const __m256i mask = _mm256_set1_epi32(0x7FFFFFFF);
  for (int i = 0; i < n; i += 8) {
    max = _mm256_max_epi32(
        max, _mm256_and_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i)), mask));
  }
  return LargestOf(max);
}

TANDEM_INLINE __m256i Round8(const float* x, __m256 inverse) {
  return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), inverse));
}

TANDEM_INLINE void Store8(__m256i codes, int8_t* dst) {
  const __m128i words =
      _mm_packs_epi32(_mm256_castsi256_si128(codes), _mm256_extracti128_si256(codes, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(dst), _mm_packs_epi16(words, words));
}

TANDEM_INLINE void Store8(__m256i codes, int16_t* dst) {
  _mm_storeu_si128(
      reinterpret_cast<__m128i*>(dst),
      _mm_packs_epi32(_mm256_castsi256_si128(codes), _mm256_extracti128_si256(codes, 1)));
}

template <typename Code>
TANDEM_INLINE float Quantize(const float* x, int n, float limit, Code* codes) {
  const int32_t bits = MaxMagnitudeBits(x, n);
  const float max = FloatOf(bits);
  if (bits >= kInfinityBits || max < kTinyCode) {
    for (int i = 0; i < n; i += 8) Store8(_mm256_setzero_si256(), codes + i);
    return bits >= kInfinityBits ? __builtin_nanf("") : 0.0F;
  }
  const __m256 inverse = _mm256_set1_ps(limit / max);
  for (int i = 0; i < n; i += 8) Store8(Round8(x + i, inverse), codes + i);
  return max / limit;
}

float quantize_s8_f32_1x8_avx2(const float* x, int n, int8_t* codes) {
  return Quantize(x, n, 127.0F, codes);
}

float quantize_s16_f32_1x8_avx2(const float* x, int n, float limit, int16_t* codes) {
  return Quantize(x, n, limit, codes);
}

TANDEM_INLINE __m256i LoadPair(const int16_t* a) {
  int32_t pair;
  __builtin_memcpy(&pair, a, sizeof pair);
  return _mm256_set1_epi32(pair);
}

// kRows x 8 kVectors sums.
template <int kRows, int kVectors>
TANDEM_INLINE void MultiplyTile(const int16_t* a, int a_stride, const int8_t* b, int b_stride,
                                int n_k, int32_t* c, int c_stride) {
  __m256i sum[kRows][kVectors];
#pragma clang loop unroll(full)
  for (int r = 0; r < kRows; ++r) {
#pragma clang loop unroll(full)
    for (int v = 0; v < kVectors; ++v) sum[r][v] = _mm256_setzero_si256();
  }
  for (int k = 0; k < n_k; k += 2, b += 2 * b_stride) {
    __m256i pairs[kVectors];
#pragma clang loop unroll(full)
    for (int v = 0; v < kVectors; ++v) {
      pairs[v] =
          _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(b + 16 * v)));
    }
#pragma clang loop unroll(full)
    for (int r = 0; r < kRows; ++r) {
      const __m256i left = LoadPair(a + r * a_stride + k);
#pragma clang loop unroll(full)
      for (int v = 0; v < kVectors; ++v) {
        sum[r][v] = _mm256_add_epi32(sum[r][v], _mm256_madd_epi16(pairs[v], left));
      }
    }
  }
#pragma clang loop unroll(full)
  for (int r = 0; r < kRows; ++r) {
#pragma clang loop unroll(full)
    for (int v = 0; v < kVectors; ++v) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(c + r * c_stride + 8 * v), sum[r][v]);
    }
  }
}

template <int kRows>
TANDEM_INLINE void Multiply(const int16_t* a, int a_stride, const int8_t* b, int b_stride, int n,
                            int n_k, int32_t* c, int c_stride) {
  int j = 0;
  for (; j + 16 <= n; j += 16) {
    MultiplyTile<kRows, 2>(a, a_stride, b + 2 * j, b_stride, n_k, c + j, c_stride);
  }
  if (j < n) MultiplyTile<kRows, 1>(a, a_stride, b + 2 * j, b_stride, n_k, c + j, c_stride);
}

void multiply_s32_s16_s8_4x16_avx2(const int16_t* a, int a_stride, int n_rows, const int8_t* b,
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

TANDEM_INLINE __m256 LargestLane(__m256 v) {
  v = _mm256_max_ps(v, _mm256_permute2f128_ps(v, v, 1));
  v = _mm256_max_ps(v, _mm256_permute_ps(v, 0x4E));
  return _mm256_max_ps(v, _mm256_permute_ps(v, 0xB1));
}

void softmax_s16_s32_1x8_avx2(const int32_t* dots, int n, float query_scale,
                              const float* key_scales, const float* value_scales, SoftmaxRow* row,
                              int16_t* weights) {
  constexpr int kVectors = kTilePositions / 8;
  float scores[kTilePositions];
  const int n_vectors = (n + 7) / 8;
  const __m256 scale = _mm256_set1_ps(query_scale);
  const __m256i last = TailMask(n - 8 * (n_vectors - 1));
  const __m256i whole = _mm256_set1_epi32(-1);
  const __m256 lowest = _mm256_set1_ps(-__builtin_inff());
  __m256 max = _mm256_set1_ps(row->max);
  for (int v = 0; v < n_vectors; ++v) {
    const __m256 dot =
        _mm256_cvtepi32_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(dots + 8 * v)));
    __m256 score = _mm256_mul_ps(dot, _mm256_mul_ps(scale, _mm256_loadu_ps(key_scales + 8 * v)));
    if (v == n_vectors - 1) score = _mm256_blendv_ps(lowest, score, _mm256_castsi256_ps(last));
    _mm256_storeu_ps(scores + 8 * v, score);
    max = _mm256_max_ps(score, max);  // of a NaN and max it gives max
  }
  max = LargestLane(max);
  const float correction =
      _mm256_cvtss_f32(ExpOrZero(_mm256_sub_ps(_mm256_set1_ps(row->max), max)));
  __m256 sum = _mm256_setzero_ps();
  __m256i largest = _mm256_setzero_si256();
  for (int v = 0; v < n_vectors; ++v) {
    const __m256i mask = v == n_vectors - 1 ? last : whole;
    const __m256 e = ExpOrZero(_mm256_sub_ps(_mm256_loadu_ps(scores + 8 * v), max));
    sum = _mm256_add_ps(sum, e);
    const __m256 weight = _mm256_and_ps(_mm256_castsi256_ps(mask),
                                        _mm256_mul_ps(e, _mm256_loadu_ps(value_scales + 8 * v)));
    _mm256_storeu_ps(scores + 8 * v, weight);
    // None is negative, but for a NaN's sign.
    largest = _mm256_max_epi32(
        largest, _mm256_and_si256(_mm256_castps_si256(weight), _mm256_set1_epi32(0x7FFFFFFF)));
  }
  row->correction = correction;
  row->sum = row->sum * correction + SumLanes(sum);
  row->max = _mm256_cvtss_f32(max);
  const int32_t bits = LargestOf(largest);
  const float largest_weight = FloatOf(bits);
  int v = 0;
  if (bits >= kInfinityBits || largest_weight < kTinyCode) {
    row->weight_scale = bits >= kInfinityBits ? __builtin_nanf("") : 0.0F;
  } else {
    const __m256 inverse = _mm256_set1_ps(kWeightLimit / largest_weight);
    for (; v < n_vectors; ++v) Store8(Round8(scores + 8 * v, inverse), weights + 8 * v);
    row->weight_scale = largest_weight / kWeightLimit;
  }
  for (; v < kVectors; ++v) Store8(_mm256_setzero_si256(), weights + 8 * v);
}

void accumulate_f32_s32_1x8_avx2(const int32_t* c, float correction, float scale, int n,
                                 float* out) {
  const __m256 old = _mm256_set1_ps(correction);
  const __m256 factor = _mm256_set1_ps(scale);
  for (int i = 0; i < n; i += 8) {
    const __m256 sum =
        _mm256_cvtepi32_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(c + i)));
    _mm256_storeu_ps(out + i, _mm256_add_ps(_mm256_mul_ps(_mm256_loadu_ps(out + i), old),
                                            _mm256_mul_ps(sum, factor)));
  }
}

}  // namespace

const IntegerAttention kIntegerAttentionAvx2 = {
    .hadamard = hadamard_f32_1x8_avx2,
    .quantize_s8 = quantize_s8_f32_1x8_avx2,
    .quantize_s16 = quantize_s16_f32_1x8_avx2,
    .multiply = multiply_s32_s16_s8_4x16_avx2,
    .softmax = softmax_s16_s32_1x8_avx2,
    .accumulate = accumulate_f32_s32_1x8_avx2,
};

}  // namespace tandem::kernels
