// Activations to int8 with AVX2; the rule is in activations.h. Compiled with its own flags, so
// everything here but the two named kernels has internal linkage.
#include <immintrin.h>

#include "engine/kernels/avx2_internal.h"
#include "engine/kernels/tile_internal.h"

namespace tandem::kernels {
namespace {

// *sum += all lanes; *offset = -8 x the sums of the lanes of codes 0 and 1 of a chunk, and of 2 and
// 3.
TANDEM_INLINE void AddOffset(__m256i lanes, int32_t* sum, int32_t* offset) {
  const __m128i codes =
      _mm_add_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
  const __m128i halves = _mm_hadd_epi32(codes, codes);
  const int first = _mm_cvtsi128_si32(halves);
  const int second = _mm_extract_epi32(halves, 1);
  *sum += first + second;
  *offset = static_cast<int32_t>((static_cast<uint32_t>(-8 * first) & 0xFFFF) |
                                 static_cast<uint32_t>(-8 * second) << 16);
}

// Codes, scale and sums of one group, which stands as floats in x.
template <int kGroup>
TANDEM_INLINE void QuantizeGroup(const float* x, int block_tokens, int32_t* chunks, float* scale,
                                 int32_t* sum, int32_t* offsets) {
  // Magnitudes as integers: a NaN is above all.
  const __m256i magnitude_bits = _mm256_set1_epi32(0x7FFFFFFF);
  __m256i largest = _mm256_setzero_si256();
#pragma clang loop unroll(full)
  for (int i = 0; i < kGroup; i += 8) {
    const __m256i bits = _mm256_castps_si256(_mm256_loadu_ps(x + i));
    largest = _mm256_max_epi32(largest, _mm256_and_si256(bits, magnitude_bits));
  }
  __m128i quarter =
      _mm_max_epi32(_mm256_castsi256_si128(largest), _mm256_extracti128_si256(largest, 1));
  quarter = _mm_max_epi32(quarter, _mm_shuffle_epi32(quarter, 0x4E));
  quarter = _mm_max_epi32(quarter, _mm_shuffle_epi32(quarter, 0xB1));
  const float magnitude = __builtin_bit_cast(float, _mm_cvtsi128_si32(quarter));
  const bool finite = magnitude <= 3.40282347e38F;
  const bool tiny = magnitude < kTinyActivation;
  const float factor = finite && !tiny ? 127.0F / magnitude : 0.0F;
  *scale = !finite ? __builtin_nanf("") : tiny ? 0.0F : magnitude / 127.0F;
  const __m256 factors = _mm256_set1_ps(factor);
  // All ones where the group is finite: infinity times zero is not zero.
  const __m256i keep = _mm256_set1_epi32(finite ? -1 : 0);
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  constexpr int kSpan = SpanCols(kGroup);
  __m256i total = _mm256_setzero_si256();
  *sum = 0;
#pragma clang loop unroll(full)
  for (int i = 0; i < kGroup; i += 32) {
    __m256i words[4];
#pragma clang loop unroll(full)
    for (int v = 0; v < 4; ++v) {
      const __m256 scaled = _mm256_mul_ps(_mm256_loadu_ps(x + i + 8 * v), factors);
      words[v] = _mm256_and_si256(_mm256_cvtps_epi32(scaled), keep);
      total = _mm256_add_epi32(total, words[v]);
    }
    if ((i + 32) % kSpan == 0) {
      AddOffset(total, sum, offsets + i / kSpan * block_tokens);
      total = _mm256_setzero_si256();
    }
    const __m256i bytes =
        _mm256_permutevar8x32_epi32(_mm256_packs_epi16(_mm256_packs_epi32(words[0], words[1]),
                                                       _mm256_packs_epi32(words[2], words[3])),
                                    order);
    if (block_tokens == 1) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(chunks + i / 4), bytes);
    } else {
      alignas(32) int32_t out[8];
      _mm256_store_si256(reinterpret_cast<__m256i*>(out), bytes);
#pragma clang loop unroll(full)
      for (int c = 0; c < 8; ++c) chunks[(i / 4 + c) * block_tokens] = out[c];
    }
  }
}

// Up to kGroup normalised values; weight null: as they are. Zeros up to a multiple of 8.
TANDEM_INLINE void NormalizeGroup(const float* x, const float* weight, __m256 scale, int64_t n,
                                  float* dst) {
  for (int64_t i = 0; i < n; i += 8) {
    const __m256i mask = TailMask(static_cast<int>(Min(8, n - i)));
    __m256 value = _mm256_maskload_ps(x + i, mask);
    if (weight != nullptr) {
      value = _mm256_mul_ps(_mm256_mul_ps(value, scale), _mm256_maskload_ps(weight + i, mask));
    }
    _mm256_store_ps(dst + i, value);
  }
}

template <int kGroup>
TANDEM_INLINE void QuantizeToken(const float* x, const float* weight, __m256 scale, int64_t n_cols,
                                 int block_tokens, int slot, std::byte* block) {
  const int64_t n_tiles = TileCount(n_cols);
  auto* chunks = reinterpret_cast<int32_t*>(block) + slot;
  auto* scales = const_cast<float*>(BlockScales(block, n_tiles, block_tokens)) + slot;
  auto* sums = const_cast<int32_t*>(BlockSums(block, n_tiles, kGroup, block_tokens)) + slot;
  auto* offsets = const_cast<int32_t*>(BlockOffsets(block, n_tiles, kGroup, block_tokens)) + slot;
  for (int64_t begin = 0; begin < n_tiles * kTileCols; begin += kGroup) {
    const int64_t n = n_cols < begin ? 0 : Min(kGroup, n_cols - begin);
    const float* group = x + begin;
    alignas(32) float values[kGroup];
    if (weight != nullptr || n < kGroup) {
      for (int i = 0; n < kGroup && i < kGroup; i += 8) {
        _mm256_store_ps(values + i, _mm256_setzero_ps());
      }
      NormalizeGroup(group, weight == nullptr ? nullptr : weight + begin, scale, n, values);
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

void quantize_q8_f32_1x8_avx2(const float* x, int64_t n_cols, int group, int block_tokens, int slot,
                              std::byte* block) {
  const __m256 unused = _mm256_setzero_ps();
  if (group == 128) {
    QuantizeToken<128>(x, nullptr, unused, n_cols, block_tokens, slot, block);
  } else {
    QuantizeToken<32>(x, nullptr, unused, n_cols, block_tokens, slot, block);
  }
}

void norm_quantize_q8_f32_1x8_avx2(const float* x, const float* weight, double eps, int64_t n_cols,
                                   int group, int block_tokens, int slot, std::byte* block) {
  __m256 lanes[2] = {};
  int64_t i = 0;
  for (; i + 16 <= n_cols; i += 16) {
    const __m256 a = _mm256_loadu_ps(x + i);
    const __m256 b = _mm256_loadu_ps(x + i + 8);
    lanes[0] = _mm256_fmadd_ps(a, a, lanes[0]);
    lanes[1] = _mm256_fmadd_ps(b, b, lanes[1]);
  }
  for (int lane = 0; i < n_cols; i += 8, ++lane) {
    const __m256 a = _mm256_maskload_ps(x + i, TailMask(static_cast<int>(Min(8, n_cols - i))));
    lanes[lane] = _mm256_fmadd_ps(a, a, lanes[lane]);
  }
  const __m256 eighths = _mm256_add_ps(lanes[0], lanes[1]);
  const __m128 quads =
      _mm_add_ps(_mm256_castps256_ps128(eighths), _mm256_extractf128_ps(eighths, 1));
  const __m128 pairs = _mm_add_ps(quads, _mm_movehl_ps(quads, quads));
  const float sum = _mm_cvtss_f32(_mm_add_ss(pairs, _mm_movehdup_ps(pairs)));
  const double mean = double{sum} / static_cast<double>(n_cols);
  const __m256 scale = _mm256_set1_ps(static_cast<float>(1.0 / __builtin_sqrt(mean + eps)));
  if (group == 128) {
    QuantizeToken<128>(x, weight, scale, n_cols, block_tokens, slot, block);
  } else {
    QuantizeToken<32>(x, weight, scale, n_cols, block_tokens, slot, block);
  }
}

}  // namespace tandem::kernels
