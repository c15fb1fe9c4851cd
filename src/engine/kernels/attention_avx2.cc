// AVX2 + FMA + F16C: attention over a KV cache, and the exponentials around it.
#include <immintrin.h>

#include "engine/kernels/avx2_internal.h"
#include "engine/kernels/kernel_set.h"

namespace tandem::kernels {
namespace {

struct FloatElement {
  static constexpr int kBytes = 4;
  static TANDEM_INLINE __m256 Load(const std::byte* p) {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(p));
  }
};

struct HalfElement {
  static constexpr int kBytes = 2;
  static TANDEM_INLINE __m256 Load(const std::byte* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
};

template <typename Element, int kQueries, int kPositions>
TANDEM_INLINE void QkTile(const float* queries, const std::byte* keys, int head_dim, float scale,
                          float* scores) {
  __m256 sum[kPositions][kQueries];
#pragma clang loop unroll(full)
  for (int p = 0; p < kPositions; ++p) {
#pragma clang loop unroll(full)
    for (int q = 0; q < kQueries; ++q) sum[p][q] = _mm256_setzero_ps();
  }
  const size_t row_bytes = static_cast<size_t>(head_dim) * Element::kBytes;
  for (int d = 0; d < head_dim; d += 8) {
    __m256 query[kQueries];
#pragma clang loop unroll(full)
    for (int q = 0; q < kQueries; ++q) query[q] = _mm256_loadu_ps(queries + q * head_dim + d);
#pragma clang loop unroll(full)
    for (int p = 0; p < kPositions; ++p) {
      const __m256 key = Element::Load(keys + p * row_bytes + d * Element::kBytes);
#pragma clang loop unroll(full)
      for (int q = 0; q < kQueries; ++q) sum[p][q] = _mm256_fmadd_ps(query[q], key, sum[p][q]);
    }
  }
#pragma clang loop unroll(full)
  for (int p = 0; p < kPositions; ++p) {
#pragma clang loop unroll(full)
    for (int q = 0; q < kQueries; ++q) {
      scores[q * kTilePositions + p] = SumLanes(sum[p][q]) * scale;
    }
  }
}

template <typename Element, int kQueries>
TANDEM_INLINE void QkQueries(const float* queries, const std::byte* keys, int n_positions,
                             int head_dim, float scale, float* scores) {
  const size_t row_bytes = static_cast<size_t>(head_dim) * Element::kBytes;
  int p = 0;
  for (; p + 2 <= n_positions; p += 2) {
    QkTile<Element, kQueries, 2>(queries, keys + p * row_bytes, head_dim, scale, scores + p);
  }
  if (p < n_positions) {
    QkTile<Element, kQueries, 1>(queries, keys + p * row_bytes, head_dim, scale, scores + p);
  }
}

template <typename Element>
TANDEM_INLINE void Qk(const float* queries, int n_queries, const std::byte* keys, int n_positions,
                      int head_dim, float scale, float* scores) {
  switch (n_queries) {
    case 1:
      return QkQueries<Element, 1>(queries, keys, n_positions, head_dim, scale, scores);
    case 2:
      return QkQueries<Element, 2>(queries, keys, n_positions, head_dim, scale, scores);
    case 3:
      return QkQueries<Element, 3>(queries, keys, n_positions, head_dim, scale, scores);
    default:
      return QkQueries<Element, 4>(queries, keys, n_positions, head_dim, scale, scores);
  }
}

// 8 * kVectors columns of the values, all positions.
template <typename Element, int kQueries, int kVectors>
TANDEM_INLINE void AvTile(const float* weights, const std::byte* values, int n_positions,
                          int head_dim, float* out) {
  __m256 sum[kQueries][kVectors];
#pragma clang loop unroll(full)
  for (int q = 0; q < kQueries; ++q) {
#pragma clang loop unroll(full)
    for (int v = 0; v < kVectors; ++v) sum[q][v] = _mm256_loadu_ps(out + q * head_dim + 8 * v);
  }
  const size_t row_bytes = static_cast<size_t>(head_dim) * Element::kBytes;
  for (int p = 0; p < n_positions; ++p) {
    __m256 value[kVectors];
#pragma clang loop unroll(full)
    for (int v = 0; v < kVectors; ++v) {
      value[v] = Element::Load(values + p * row_bytes + 8 * v * Element::kBytes);
    }
#pragma clang loop unroll(full)
    for (int q = 0; q < kQueries; ++q) {
      const __m256 weight = _mm256_broadcast_ss(weights + q * kTilePositions + p);
#pragma clang loop unroll(full)
      for (int v = 0; v < kVectors; ++v) {
        sum[q][v] = _mm256_fmadd_ps(weight, value[v], sum[q][v]);
      }
    }
  }
#pragma clang loop unroll(full)
  for (int q = 0; q < kQueries; ++q) {
#pragma clang loop unroll(full)
    for (int v = 0; v < kVectors; ++v) _mm256_storeu_ps(out + q * head_dim + 8 * v, sum[q][v]);
  }
}

template <typename Element, int kQueries>
TANDEM_INLINE void AvQueries(const float* weights, const std::byte* values, int n_positions,
                             int head_dim, float* out) {
  int d = 0;
  for (; d + 16 <= head_dim; d += 16) {
    AvTile<Element, kQueries, 2>(weights, values + d * Element::kBytes, n_positions, head_dim,
                                 out + d);
  }
  if (d < head_dim) {
    AvTile<Element, kQueries, 1>(weights, values + d * Element::kBytes, n_positions, head_dim,
                                 out + d);
  }
}

template <typename Element>
TANDEM_INLINE void Av(const float* weights, int n_queries, const std::byte* values, int n_positions,
                      int head_dim, float* out) {
  switch (n_queries) {
    case 1:
      return AvQueries<Element, 1>(weights, values, n_positions, head_dim, out);
    case 2:
      return AvQueries<Element, 2>(weights, values, n_positions, head_dim, out);
    case 3:
      return AvQueries<Element, 3>(weights, values, n_positions, head_dim, out);
    default:
      return AvQueries<Element, 4>(weights, values, n_positions, head_dim, out);
  }
}

TANDEM_INLINE __m256 SiluMul(__m256 gate, __m256 up) {
  const __m256 one = _mm256_set1_ps(1.0F);
  __m256 negated = _mm256_sub_ps(_mm256_setzero_ps(), gate);
  negated = _mm256_max_ps(negated, _mm256_set1_ps(kExpZeroBelow));
  negated = _mm256_min_ps(negated, _mm256_set1_ps(kExpLargest));
  return _mm256_mul_ps(_mm256_div_ps(gate, _mm256_add_ps(one, Exp(negated))), up);
}

}  // namespace

void qk_f32_f32_f32_4x1_avx2(const float* queries, int n_queries, const std::byte* keys,
                             int n_positions, int head_dim, float scale, float* scores) {
  Qk<FloatElement>(queries, n_queries, keys, n_positions, head_dim, scale, scores);
}

void qk_f32_f32_f16_4x1_avx2(const float* queries, int n_queries, const std::byte* keys,
                             int n_positions, int head_dim, float scale, float* scores) {
  Qk<HalfElement>(queries, n_queries, keys, n_positions, head_dim, scale, scores);
}

void av_f32_f32_f32_4x8_avx2(const float* weights, int n_queries, const std::byte* values,
                             int n_positions, int head_dim, float* out) {
  Av<FloatElement>(weights, n_queries, values, n_positions, head_dim, out);
}

void av_f32_f32_f16_4x8_avx2(const float* weights, int n_queries, const std::byte* values,
                             int n_positions, int head_dim, float* out) {
  Av<HalfElement>(weights, n_queries, values, n_positions, head_dim, out);
}

float exp_sum_f32_1x8_avx2(float* x, int64_t n, float max) {
  const __m256 shift = _mm256_set1_ps(max);
  __m256 sum = _mm256_setzero_ps();
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256 e = ExpOrZero(_mm256_sub_ps(_mm256_loadu_ps(x + i), shift));
    _mm256_storeu_ps(x + i, e);
    sum = _mm256_add_ps(sum, e);
  }
  if (i < n) {
    const __m256i mask = TailMask(static_cast<int>(n - i));
    const __m256 e =
        _mm256_and_ps(_mm256_castsi256_ps(mask),
                      ExpOrZero(_mm256_sub_ps(_mm256_maskload_ps(x + i, mask), shift)));
    _mm256_maskstore_ps(x + i, mask, e);
    sum = _mm256_add_ps(sum, e);
  }
  return SumLanes(sum);
}

void silu_mul_f32_1x8_avx2(const float* gate, const float* up, int64_t n, float* out) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm256_storeu_ps(out + i, SiluMul(_mm256_loadu_ps(gate + i), _mm256_loadu_ps(up + i)));
  }
  if (i < n) {
    const __m256i mask = TailMask(static_cast<int>(n - i));
    _mm256_maskstore_ps(
        out + i, mask,
        SiluMul(_mm256_maskload_ps(gate + i, mask), _mm256_maskload_ps(up + i, mask)));
  }
}

void half_from_float_1x8_avx2(const float* src, int64_t n, uint16_t* dst) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm_storeu_si128(
        reinterpret_cast<__m128i*>(dst + i),
        _mm256_cvtps_ph(_mm256_loadu_ps(src + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  for (; i < n; ++i) dst[i] = _cvtss_sh(src[i], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

}  // namespace tandem::kernels
