// AVX2 + FMA + F16C: dot products with quantised rows. Compiled with its own flags, so everything
// here but Avx2Kernels() has internal linkage.
#include <immintrin.h>

#include <cstring>

#include "engine/kernels/avx2_internal.h"
#include "engine/kernels/kernel_set.h"

namespace tandem::kernels {
namespace {

using quant::Type;

#define TANDEM_INLINE inline __attribute__((always_inline))

TANDEM_INLINE float LoadHalf(const uint8_t* p) {
  uint16_t bits;
  __builtin_memcpy(&bits, p, sizeof bits);
  return _cvtsh_ss(bits);
}

TANDEM_INLINE uint32_t LoadU32(const uint8_t* p) {
  uint32_t bits;
  __builtin_memcpy(&bits, p, sizeof bits);
  return bits;
}

TANDEM_INLINE __m128i Load8(const uint8_t* p) {
  return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
}
TANDEM_INLINE __m128i Load16(const uint8_t* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
TANDEM_INLINE __m256i Load32(const uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
// Eight bytes as eight 32-bit lanes.
TANDEM_INLINE __m256i WidenUnsigned(const uint8_t* p) { return _mm256_cvtepu8_epi32(Load8(p)); }

// A format says how a block becomes vectors of eight consecutive values. Read() takes what is
// common to the block; Group() hands vector i of group g to `use`, in order. Groups are short, so
// that the rows of a tile interleave within the reorder window.

template <int kBytesPerElement>
struct DenseFormat {
  static constexpr int kElements = 8;
  static constexpr int kBytes = 8 * kBytesPerElement;
  static constexpr int kGroups = 1;
  struct Head {};
  static TANDEM_INLINE Head Read(const uint8_t*) { return {}; }
};

struct F32 : DenseFormat<4> {
  template <typename Use>
  static TANDEM_INLINE void Group(const uint8_t* block, const Head&, int, Use use) {
    use(0, _mm256_castsi256_ps(Load32(block)));
  }
};

struct F16 : DenseFormat<2> {
  template <typename Use>
  static TANDEM_INLINE void Group(const uint8_t* block, const Head&, int, Use use) {
    use(0, _mm256_cvtph_ps(Load16(block)));
  }
};

struct BF16 : DenseFormat<2> {
  template <typename Use>
  static TANDEM_INLINE void Group(const uint8_t* block, const Head&, int, Use use) {
    use(0, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(Load16(block)), 16)));
  }
};

struct Q8_0 {
  static constexpr int kElements = 32;
  static constexpr int kBytes = 34;
  static constexpr int kGroups = 1;
  struct Head {
    __m256 d;
  };
  static TANDEM_INLINE Head Read(const uint8_t* block) { return {_mm256_set1_ps(LoadHalf(block))}; }
  template <typename Use>
  static TANDEM_INLINE void Group(const uint8_t* block, const Head& head, int, Use use) {
#pragma clang loop unroll(full)
    for (int i = 0; i < 4; ++i) {
      const __m256i q = _mm256_cvtepi8_epi32(Load8(block + 2 + 8 * i));
      use(i, _mm256_mul_ps(_mm256_cvtepi32_ps(q), head.d));
    }
  }
};

// The nibbles of 16 bytes as four vectors: low nibbles are elements 0..15, high ones 16..31.
struct Nibbles {
  __m256i q[4];
};
TANDEM_INLINE Nibbles SplitNibbles(const uint8_t* p) {
  const __m256i mask = _mm256_set1_epi32(15);
  const __m256i a = WidenUnsigned(p);
  const __m256i b = WidenUnsigned(p + 8);
  return {{_mm256_and_si256(a, mask), _mm256_and_si256(b, mask), _mm256_srli_epi32(a, 4),
           _mm256_srli_epi32(b, 4)}};
}

struct Q4_0 {
  static constexpr int kElements = 32;
  static constexpr int kBytes = 18;
  static constexpr int kGroups = 1;
  struct Head {
    __m256 d;
  };
  static TANDEM_INLINE Head Read(const uint8_t* block) { return {_mm256_set1_ps(LoadHalf(block))}; }
  template <typename Use>
  static TANDEM_INLINE void Group(const uint8_t* block, const Head& head, int, Use use) {
    const Nibbles nibbles = SplitNibbles(block + 2);
    const __m256i zero_point = _mm256_set1_epi32(8);
#pragma clang loop unroll(full)
    for (int i = 0; i < 4; ++i) {
      const __m256i q = _mm256_sub_epi32(nibbles.q[i], zero_point);
      use(i, _mm256_mul_ps(_mm256_cvtepi32_ps(q), head.d));
    }
  }
};

struct Q4_1 {
  static constexpr int kElements = 32;
  static constexpr int kBytes = 20;
  static constexpr int kGroups = 1;
  struct Head {
    __m256 d;
    __m256 m;
  };
  static TANDEM_INLINE Head Read(const uint8_t* block) {
    return {_mm256_set1_ps(LoadHalf(block)), _mm256_set1_ps(LoadHalf(block + 2))};
  }
  template <typename Use>
  static TANDEM_INLINE void Group(const uint8_t* block, const Head& head, int, Use use) {
    const Nibbles nibbles = SplitNibbles(block + 4);
#pragma clang loop unroll(full)
    for (int i = 0; i < 4; ++i) {
      const __m256 scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(nibbles.q[i]), head.d);
      use(i, _mm256_add_ps(scaled, head.m));
    }
  }
};

struct Q5_0 {
  static constexpr int kElements = 32;
  static constexpr int kBytes = 22;
  static constexpr int kGroups = 1;
  struct Head {
    __m256 d;
    __m256i high;  // the 32 fifth bits, in every lane
  };
  static TANDEM_INLINE Head Read(const uint8_t* block) {
    return {_mm256_set1_ps(LoadHalf(block)),
            _mm256_set1_epi32(static_cast<int>(LoadU32(block + 2)))};
  }
  template <typename Use>
  static TANDEM_INLINE void Group(const uint8_t* block, const Head& head, int, Use use) {
    const Nibbles nibbles = SplitNibbles(block + 6);
    // q - 16 where the fifth bit is clear, q where it is set.
    __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
#pragma clang loop unroll(full)
    for (int i = 0; i < 4; ++i) {
      const __m256i clear =
          _mm256_cmpeq_epi32(_mm256_and_si256(head.high, bit), _mm256_setzero_si256());
      const __m256i q = _mm256_add_epi32(nibbles.q[i], _mm256_slli_epi32(clear, 4));
      use(i, _mm256_mul_ps(_mm256_cvtepi32_ps(q), head.d));
      bit = _mm256_slli_epi32(bit, 8);
    }
  }
};

struct IQ4_NL {
  static constexpr int kElements = 32;
  static constexpr int kBytes = 18;
  static constexpr int kGroups = 1;
  struct Head {
    __m256 d;
  };
  static TANDEM_INLINE Head Read(const uint8_t* block) { return {_mm256_set1_ps(LoadHalf(block))}; }
  template <typename Use>
  static TANDEM_INLINE void Group(const uint8_t* block, const Head& head, int, Use use) {
    const __m128i values =
        _mm_setr_epi8(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);
    const __m128i mask = _mm_set1_epi8(15);
    const __m128i packed = Load16(block + 2);
    const __m128i low = _mm_shuffle_epi8(values, _mm_and_si128(packed, mask));
    const __m128i high = _mm_shuffle_epi8(values, _mm_and_si128(_mm_srli_epi16(packed, 4), mask));
    const __m128i eighths[4] = {low, _mm_srli_si128(low, 8), high, _mm_srli_si128(high, 8)};
#pragma clang loop unroll(full)
    for (int i = 0; i < 4; ++i) {
      use(i, _mm256_mul_ps(head.d, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eighths[i]))));
    }
  }
};

// The scales and minima of Q4_K and Q5_K: eight of each, 6 bits, in 12 bytes, times d and dmin.
struct KScales {
  float scale[8];
  float min[8];
};
TANDEM_INLINE KScales ReadKScales(const uint8_t* block) {
  const uint32_t a = LoadU32(block + 4);
  const uint32_t b = LoadU32(block + 8);
  const uint32_t c = LoadU32(block + 12);
  const uint32_t packed[4] = {
      a & 0x3F3F3F3FU,                                      // scales 0..3
      (c & 0x0F0F0F0FU) | ((a >> 2) & 0x30303030U),         // scales 4..7
      b & 0x3F3F3F3FU,                                      // minima 0..3
      ((c >> 4) & 0x0F0F0F0FU) | ((b >> 2) & 0x30303030U),  // minima 4..7
  };
  const __m128i bytes = _mm_set_epi32(static_cast<int>(packed[3]), static_cast<int>(packed[2]),
                                      static_cast<int>(packed[1]), static_cast<int>(packed[0]));
  const __m256 d = _mm256_set1_ps(LoadHalf(block));
  const __m256 dmin = _mm256_set1_ps(LoadHalf(block + 2));
  KScales scales;
  _mm256_storeu_ps(scales.scale, _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes))));
  _mm256_storeu_ps(
      scales.min,
      _mm256_mul_ps(dmin, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8)))));
  return scales;
}

struct Q4_K {
  static constexpr int kElements = 256;
  static constexpr int kBytes = 144;
  static constexpr int kGroups = 4;
  using Head = KScales;
  static TANDEM_INLINE Head Read(const uint8_t* block) { return ReadKScales(block); }
  template <typename Use>
  static TANDEM_INLINE void Group(const uint8_t* block, const Head& head, int g, Use use) {
    const __m256i mask = _mm256_set1_epi32(15);
    __m256i packed[4];
#pragma clang loop unroll(full)
    for (int i = 0; i < 4; ++i) packed[i] = WidenUnsigned(block + 16 + 32 * g + 8 * i);
#pragma clang loop unroll(full)
    for (int i = 0; i < 8; ++i) {
      const int s = 2 * g + i / 4;
      const __m256i q =
          i < 4 ? _mm256_and_si256(packed[i], mask) : _mm256_srli_epi32(packed[i - 4], 4);
      const __m256 scaled =
          _mm256_mul_ps(_mm256_broadcast_ss(head.scale + s), _mm256_cvtepi32_ps(q));
      use(i, _mm256_sub_ps(scaled, _mm256_broadcast_ss(head.min + s)));
    }
  }
};

struct Q5_K {
  static constexpr int kElements = 256;
  static constexpr int kBytes = 176;
  static constexpr int kGroups = 4;
  using Head = KScales;
  static TANDEM_INLINE Head Read(const uint8_t* block) { return ReadKScales(block); }
  template <typename Use>
  static TANDEM_INLINE void Group(const uint8_t* block, const Head& head, int g, Use use) {
    const __m256i mask = _mm256_set1_epi32(15);
    const __m256i sixteen = _mm256_set1_epi32(16);
    __m256i packed[4];
    __m256i high[4];
#pragma clang loop unroll(full)
    for (int i = 0; i < 4; ++i) {
      packed[i] = WidenUnsigned(block + 48 + 32 * g + 8 * i);
      high[i] = WidenUnsigned(block + 16 + 8 * i);
    }
#pragma clang loop unroll(full)
    for (int i = 0; i < 8; ++i) {
      const int s = 2 * g + i / 4;
      const __m256i low =
          i < 4 ? _mm256_and_si256(packed[i], mask) : _mm256_srli_epi32(packed[i - 4], 4);
      const __m256i bit = _mm256_set1_epi32(1 << s);
      const __m256i set = _mm256_cmpeq_epi32(_mm256_and_si256(high[i % 4], bit), bit);
      const __m256i q = _mm256_or_si256(low, _mm256_and_si256(set, sixteen));
      const __m256 scaled =
          _mm256_mul_ps(_mm256_broadcast_ss(head.scale + s), _mm256_cvtepi32_ps(q));
      use(i, _mm256_sub_ps(scaled, _mm256_broadcast_ss(head.min + s)));
    }
  }
};

struct Q6_K {
  static constexpr int kElements = 256;
  static constexpr int kBytes = 210;
  static constexpr int kGroups = 8;
  struct Head {
    float scale[16];  // d * scale, in the order of the elements
  };
  static TANDEM_INLINE Head Read(const uint8_t* block) {
    const __m256 d = _mm256_set1_ps(LoadHalf(block + 208));
    Head head;
#pragma clang loop unroll(full)
    for (int i = 0; i < 2; ++i) {
      const __m256i scales = _mm256_cvtepi8_epi32(Load8(block + 192 + 8 * i));
      _mm256_storeu_ps(head.scale + 8 * i, _mm256_mul_ps(d, _mm256_cvtepi32_ps(scales)));
    }
    return head;
  }
  // 32 elements: one of the four parts of one of the two halves.
  template <typename Use>
  static TANDEM_INLINE void Group(const uint8_t* block, const Head& head, int g, Use use) {
    const int half = g / 4;
    const int part = g % 4;
    __m256i low = Load32(block + 64 * half + 32 * (part % 2));
    if (part >= 2) low = _mm256_srli_epi16(low, 4);
    low = _mm256_and_si256(low, _mm256_set1_epi8(15));
    const __m256i high = _mm256_and_si256(
        _mm256_srl_epi16(Load32(block + 128 + 32 * half), _mm_cvtsi32_si128(2 * part)),
        _mm256_set1_epi8(3));
    const __m256i q =
        _mm256_sub_epi8(_mm256_or_si256(low, _mm256_slli_epi16(high, 4)), _mm256_set1_epi8(32));
    const __m128i lower = _mm256_castsi256_si128(q);
    const __m128i upper = _mm256_extracti128_si256(q, 1);
    const __m128i eighths[4] = {lower, _mm_srli_si128(lower, 8), upper, _mm_srli_si128(upper, 8)};
#pragma clang loop unroll(full)
    for (int i = 0; i < 4; ++i) {
      const __m256 scale = _mm256_broadcast_ss(head.scale + 2 * g + i / 2);
      use(i, _mm256_mul_ps(scale, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eighths[i]))));
    }
  }
};

// The elements of a dense row beyond its last whole vector, padded with zeros.
template <typename Format>
struct Tail {
  uint8_t block[Format::kBytes];
  float x[8];
};

// kRows rows at once: they share the loads of x, and their chains of additions hide each other's
// latency. Each row's result is what it would be alone.
template <typename Format, int kRows>
TANDEM_INLINE void GemvRows(const uint8_t* weights, size_t row_bytes, int64_t k, const float* x,
                            float* y) {
  constexpr int kGroupElements = Format::kElements / Format::kGroups;
  __m256 sum[kRows];
#pragma clang loop unroll(full)
  for (int r = 0; r < kRows; ++r) sum[r] = _mm256_setzero_ps();
  const int64_t n_blocks = k / Format::kElements;
  for (int64_t b = 0; b < n_blocks; ++b) {
    const uint8_t* block[kRows];
    typename Format::Head head[kRows];
#pragma clang loop unroll(full)
    for (int r = 0; r < kRows; ++r) {
      block[r] = weights + r * row_bytes + b * Format::kBytes;
      head[r] = Format::Read(block[r]);
    }
#pragma clang loop unroll(full)
    for (int g = 0; g < Format::kGroups; ++g) {
      const float* group_x = x + b * Format::kElements + g * kGroupElements;
#pragma clang loop unroll(full)
      for (int r = 0; r < kRows; ++r) {
        Format::Group(block[r], head[r], g, [&](int i, __m256 w) TANDEM_LAMBDA_INLINE {
          sum[r] = _mm256_fmadd_ps(w, _mm256_loadu_ps(group_x + 8 * i), sum[r]);
        });
      }
    }
  }
  if constexpr (Format::kElements == 8) {
    if (const int64_t rest = k % 8; rest != 0) {
      constexpr int kBytesPerElement = Format::kBytes / 8;
      float tail_x[8] = {};
      __builtin_memcpy(tail_x, x + k - rest, rest * sizeof(float));
#pragma clang loop unroll(full)
      for (int r = 0; r < kRows; ++r) {
        uint8_t tail[Format::kBytes] = {};
        __builtin_memcpy(tail, weights + r * row_bytes + (k - rest) * kBytesPerElement,
                         rest * kBytesPerElement);
        Format::Group(tail, {}, 0, [&](int, __m256 w) TANDEM_LAMBDA_INLINE {
          sum[r] = _mm256_fmadd_ps(w, _mm256_loadu_ps(tail_x), sum[r]);
        });
      }
    }
  }
#pragma clang loop unroll(full)
  for (int r = 0; r < kRows; ++r) y[r] = SumLanes(sum[r]);
}

template <typename Format>
TANDEM_INLINE void Gemv(const std::byte* weights, size_t row_bytes, int64_t n_rows, int64_t k,
                        const float* x, float* y) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(weights);
  int64_t r = 0;
  for (; r + 4 <= n_rows; r += 4) {
    GemvRows<Format, 4>(bytes + r * row_bytes, row_bytes, k, x, y + r);
  }
  for (; r < n_rows; ++r) GemvRows<Format, 1>(bytes + r * row_bytes, row_bytes, k, x, y + r);
}

template <typename Format>
TANDEM_INLINE void Unpack(const std::byte* weights, int64_t k, float* dst) {
  constexpr int kGroupElements = Format::kElements / Format::kGroups;
  const auto* block = reinterpret_cast<const uint8_t*>(weights);
  for (int64_t b = 0; b < k / Format::kElements; ++b, block += Format::kBytes) {
    const typename Format::Head head = Format::Read(block);
    for (int g = 0; g < Format::kGroups; ++g, dst += kGroupElements) {
      Format::Group(block, head, g, [&](int i, __m256 w) TANDEM_LAMBDA_INLINE {
        _mm256_storeu_ps(dst + 8 * i, w);
      });
    }
  }
  if constexpr (Format::kElements == 8) {
    if (const int64_t rest = k % 8; rest != 0) {
      uint8_t tail[Format::kBytes] = {};
      __builtin_memcpy(tail, block, rest * Format::kBytes / 8);
      float values[8];
      Format::Group(tail, {}, 0,
                    [&](int, __m256 w) TANDEM_LAMBDA_INLINE { _mm256_storeu_ps(values, w); });
      __builtin_memcpy(dst, values, rest * sizeof(float));
    }
  }
}

// Rows of a panel against tokens: kRows * kTokens sums stay in registers, every load of a row
// serves kTokens multiplications and every load of a token kRows.
template <int kRows, int kTokens>
TANDEM_INLINE void GemmTile(const float* panel, int64_t panel_stride, int64_t k, const float* x,
                            int64_t x_stride, float* y, int64_t y_stride) {
  __m256 sum[kRows][kTokens];
#pragma clang loop unroll(full)
  for (int r = 0; r < kRows; ++r) {
#pragma clang loop unroll(full)
    for (int t = 0; t < kTokens; ++t) sum[r][t] = _mm256_setzero_ps();
  }
  int64_t i = 0;
  for (; i + 8 <= k; i += 8) {
    __m256 token[kTokens];
#pragma clang loop unroll(full)
    for (int t = 0; t < kTokens; ++t) token[t] = _mm256_loadu_ps(x + t * x_stride + i);
#pragma clang loop unroll(full)
    for (int r = 0; r < kRows; ++r) {
      const __m256 row = _mm256_loadu_ps(panel + r * panel_stride + i);
#pragma clang loop unroll(full)
      for (int t = 0; t < kTokens; ++t) sum[r][t] = _mm256_fmadd_ps(row, token[t], sum[r][t]);
    }
  }
  if (i < k) {
    const __m256i mask = TailMask(static_cast<int>(k - i));
#pragma clang loop unroll(full)
    for (int r = 0; r < kRows; ++r) {
      const __m256 row = _mm256_maskload_ps(panel + r * panel_stride + i, mask);
#pragma clang loop unroll(full)
      for (int t = 0; t < kTokens; ++t) {
        const __m256 token = _mm256_maskload_ps(x + t * x_stride + i, mask);
        sum[r][t] = _mm256_fmadd_ps(row, token, sum[r][t]);
      }
    }
  }
#pragma clang loop unroll(full)
  for (int r = 0; r < kRows; ++r) {
#pragma clang loop unroll(full)
    for (int t = 0; t < kTokens; ++t) y[t * y_stride + r] = SumLanes(sum[r][t]);
  }
}

template <int kTokens>
TANDEM_INLINE void GemmTokens(const float* panel, int64_t panel_stride, int64_t n_rows, int64_t k,
                              const float* x, int64_t x_stride, float* y, int64_t y_stride) {
  int64_t r = 0;
  for (; r + 4 <= n_rows; r += 4) {
    GemmTile<4, kTokens>(panel + r * panel_stride, panel_stride, k, x, x_stride, y + r, y_stride);
  }
  for (; r < n_rows; ++r) {
    GemmTile<1, kTokens>(panel + r * panel_stride, panel_stride, k, x, x_stride, y + r, y_stride);
  }
}

void gemm_f32_f32_f32_4x3_avx2(const float* panel, int64_t panel_stride, int64_t n_rows, int64_t k,
                               const float* x, int64_t x_stride, int64_t n_tokens, float* y,
                               int64_t y_stride) {
  int64_t t = 0;
  for (; t + 3 <= n_tokens; t += 3) {
    GemmTokens<3>(panel, panel_stride, n_rows, k, x + t * x_stride, x_stride, y + t * y_stride,
                  y_stride);
  }
  for (; t < n_tokens; ++t) {
    GemmTokens<1>(panel, panel_stride, n_rows, k, x + t * x_stride, x_stride, y + t * y_stride,
                  y_stride);
  }
}

float dot_f32_f32_f32_1x8_avx2(const float* a, const float* b, int64_t n) {
  float y;
  GemmTile<1, 1>(a, n, n, b, n, &y, 1);
  return y;
}

// One pair of named kernels per type: the names show in profiles.
#define TANDEM_TYPE_KERNELS(name, Format)                                                         \
  void gemv_f32_f32_##name##_4x8_avx2(const std::byte* weights, size_t row_bytes, int64_t n_rows, \
                                      int64_t k, const float* x, float* y) {                      \
    Gemv<Format>(weights, row_bytes, n_rows, k, x, y);                                            \
  }                                                                                               \
  void unpack_f32_##name##_1x8_avx2(const std::byte* weights, int64_t k, float* dst) {            \
    Unpack<Format>(weights, k, dst);                                                              \
  }

TANDEM_TYPE_KERNELS(f32, F32)
TANDEM_TYPE_KERNELS(f16, F16)
TANDEM_TYPE_KERNELS(bf16, BF16)
TANDEM_TYPE_KERNELS(q8_0, Q8_0)
TANDEM_TYPE_KERNELS(q4_0, Q4_0)
TANDEM_TYPE_KERNELS(q4_1, Q4_1)
TANDEM_TYPE_KERNELS(q5_0, Q5_0)
TANDEM_TYPE_KERNELS(q4_k, Q4_K)
TANDEM_TYPE_KERNELS(q5_k, Q5_K)
TANDEM_TYPE_KERNELS(q6_k, Q6_K)
TANDEM_TYPE_KERNELS(iq4_nl, IQ4_NL)
#undef TANDEM_TYPE_KERNELS

consteval KernelSet MakeSet() {
  KernelSet set;
  set.isa = Isa::kAvx2;
#define TANDEM_REGISTER(type, name)                                          \
  set.types[static_cast<int>(Type::type)] = {gemv_f32_f32_##name##_4x8_avx2, \
                                             unpack_f32_##name##_1x8_avx2}
  TANDEM_REGISTER(kF32, f32);
  TANDEM_REGISTER(kF16, f16);
  TANDEM_REGISTER(kBF16, bf16);
  TANDEM_REGISTER(kQ8_0, q8_0);
  TANDEM_REGISTER(kQ4_0, q4_0);
  TANDEM_REGISTER(kQ4_1, q4_1);
  TANDEM_REGISTER(kQ5_0, q5_0);
  TANDEM_REGISTER(kQ4_K, q4_k);
  TANDEM_REGISTER(kQ5_K, q5_k);
  TANDEM_REGISTER(kQ6_K, q6_k);
  TANDEM_REGISTER(kIQ4_NL, iq4_nl);
#undef TANDEM_REGISTER
  set.attention_f32 = {qk_f32_f32_f32_4x1_avx2, av_f32_f32_f32_4x8_avx2};
  set.attention_f16 = {qk_f32_f32_f16_4x1_avx2, av_f32_f32_f16_4x8_avx2};
  set.attention_int8 = &kIntegerAttentionAvx2;
  set.gemm = gemm_f32_f32_f32_4x3_avx2;
  set.dot = dot_f32_f32_f32_1x8_avx2;
  set.exp_sum = exp_sum_f32_1x8_avx2;
  set.silu_mul = silu_mul_f32_1x8_avx2;
  set.half_from_float = half_from_float_1x8_avx2;
  set.tiles = &kTilesAvx2;
  return set;
}

constexpr KernelSet kAvx2Set = MakeSet();

}  // namespace

const KernelSet& Avx2Kernels() { return kAvx2Set; }

}  // namespace tandem::kernels
