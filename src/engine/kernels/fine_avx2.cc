// Rows of a fine plane with AVX2; the rule is at TileSet::fine_dot. Compiled with its own flags, so
// everything here but the named kernel has internal linkage.
#include <immintrin.h>

#include "engine/kernels/avx2_internal.h"
#include "engine/kernels/tile_internal.h"

namespace tandem::kernels {
namespace {

// The fine codes of a tile, 32 columns a vector.
TANDEM_INLINE void UnpackNibbles(const std::byte* codes, __m256i (&fine)[4]) {
  const __m256i mask = _mm256_set1_epi8(15);
  const __m256i zero = _mm256_set1_epi8(8);
#pragma clang loop unroll(full)
  for (int v = 0; v < 2; ++v) {
    const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + 32 * v));
    fine[2 * v] = _mm256_sub_epi8(_mm256_and_si256(both, mask), zero);
    fine[2 * v + 1] = _mm256_sub_epi8(_mm256_and_si256(_mm256_srli_epi16(both, 4), mask), zero);
  }
}

TANDEM_INLINE void UnpackThreeBits(const std::byte* codes, __m256i (&fine)[4]) {
  const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes));
  const __m256i mask = _mm256_set1_epi8(3);
  const __m256i four = _mm256_set1_epi8(4);
  // Byte i of a vector looks at bit i of its word: at bit i mod 8 of byte i / 8.
  const __m256i byte_of = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2,
                                           2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
  const __m256i bit_of = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201));
  const __m256i low[4] = {both, _mm256_srli_epi16(both, 2), _mm256_srli_epi16(both, 4),
                          _mm256_srli_epi16(both, 6)};
#pragma clang loop unroll(full)
  for (int k = 0; k < 4; ++k) {
    int32_t word;
    __builtin_memcpy(&word, codes + 32 + 4 * k, sizeof word);
    const __m256i bits =
        _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(word), byte_of), bit_of);
    // -4 where the third bit is not set.
    const __m256i high = _mm256_andnot_si256(_mm256_cmpeq_epi8(bits, bit_of), four);
    fine[k] = _mm256_sub_epi8(_mm256_and_si256(low[k], mask), high);
  }
}

// products[l] += the products of columns 4 l .. 4 l + 3.
TANDEM_INLINE __m256i MultiplyColumns(__m256i fine, const std::byte* x) {
  const __m256i token = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(fine), _mm256_sign_epi8(token, fine));
  return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

template <int kBits, int kGroup>
TANDEM_INLINE float Multiply(const std::byte* codes, const std::byte* scales, int64_t n_tiles,
                             const std::byte* block) {
  const float* x_scales = BlockScales(block, n_tiles, 1);
  const __m256 step = _mm256_set1_ps(1.0F / (1 << kBits));
  __m256 acc = _mm256_setzero_ps();
  const auto add = [&](__m256i products) TANDEM_LAMBDA_INLINE {
    int16_t half;
    __builtin_memcpy(&half, scales, sizeof half);
    scales += kStripRows * 2;
    const __m256 scale = _mm256_mul_ps(_mm256_cvtph_ps(_mm_set1_epi16(half)), step);
    acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(products),
                          _mm256_mul_ps(scale, _mm256_set1_ps(*x_scales++)), acc);
  };
  for (int64_t tile = 0; tile < n_tiles; ++tile) {
    __m256i fine[4];
    if constexpr (kBits == 4) {
      UnpackNibbles(codes, fine);
    } else {
      UnpackThreeBits(codes, fine);
    }
    __m256i products[4];
#pragma clang loop unroll(full)
    for (int k = 0; k < 4; ++k) products[k] = MultiplyColumns(fine[k], block + 32 * k);
    if constexpr (kGroup == 128) {
      add(_mm256_add_epi32(_mm256_add_epi32(products[0], products[1]),
                           _mm256_add_epi32(products[2], products[3])));
    } else {
#pragma clang loop unroll(full)
      for (int k = 0; k < 4; ++k) add(products[k]);
    }
    codes += kTileCols / 8 * kBits;
    block += kTileCols;
  }
  return SumLanes(acc);
}

}  // namespace

float fine_dot_f32_q8_qf_1x1_avx2(const std::byte* codes, const std::byte* scales, int bits,
                                  int group, int64_t n_tiles, const std::byte* block) {
  if (bits == 4) {
    return group == 128 ? Multiply<4, 128>(codes, scales, n_tiles, block)
                        : Multiply<4, 32>(codes, scales, n_tiles, block);
  }
  return group == 128 ? Multiply<3, 128>(codes, scales, n_tiles, block)
                      : Multiply<3, 32>(codes, scales, n_tiles, block);
}

}  // namespace tandem::kernels
