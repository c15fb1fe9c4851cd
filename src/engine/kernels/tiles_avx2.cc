// Tile kernels for AVX2. Compiled with its own flags, so everything here but kTilesAvx2 has
// internal linkage.
//
// A lane of vpmaddubsw sums two products of an unsigned and a signed byte in 16 bits. int4: the
// nibble (0..15) is the unsigned one, a pair reaches at most 2 * 15 * 127 = 3,810, so that the
// eight pairs of a lane's 32 columns still fit; vpmaddwd then widens. int8: the unsigned operand is
// |w|, the sign goes to the activation, and a pair reaches 2 * 128 * 127 = 32,512: widened at once.
#include <immintrin.h>

#include "engine/kernels/avx2_internal.h"
#include "engine/kernels/kernel_set.h"
#include "engine/kernels/tile_internal.h"

namespace tandem::kernels {
namespace {

// Tokens of a panel block.
constexpr int kPanelTokens = 4;
// Tiles whose codes are unpacked at once: 16 KiB, half of a first-level cache.
constexpr int kPanelTiles = 8;
// How far ahead of its use a stream of weights is prefetched.
constexpr int kPrefetchBytes = 2048;

TANDEM_INLINE __m256i Load32(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
TANDEM_INLINE __m256i Broadcast(const int32_t* p) { return _mm256_set1_epi32(*p); }

// Not std::min: an out-of-line copy of it would be everybody's.
TANDEM_INLINE int64_t Min(int64_t a, int64_t b) { return a < b ? a : b; }

// Scales of eight rows.
TANDEM_INLINE __m256 LoadScales(const std::byte* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

// products[h][m] += codes of 32 columns of rows 8 h .. 8 h + 7 times token m. The zero point of
// nibbles is not taken off here.
//   codes  the quarter tile's vectors;  x [8 chunks][kBlock] from the first token on
template <bool int4, int kBlock, int kHalves, int kTokens>
TANDEM_INLINE void MultiplyQuarter(const std::byte* codes, const int32_t* x,
                                   __m256i (&products)[kHalves][kTokens]) {
  const __m256i ones = _mm256_set1_epi16(1);
  if constexpr (int4) {
    const __m256i mask = _mm256_set1_epi8(15);
    __m256i pairs[kHalves][kTokens];
#pragma clang loop unroll(full)
    for (int i = 0; i < 4; ++i) {
#pragma clang loop unroll(full)
      for (int h = 0; h < kHalves; ++h) {
        const __m256i both = Load32(codes + 64 * i + 32 * h);
        const __m256i low = _mm256_and_si256(both, mask);
        const __m256i high = _mm256_and_si256(_mm256_srli_epi16(both, 4), mask);
#pragma clang loop unroll(full)
        for (int m = 0; m < kTokens; ++m) {
          const __m256i a = _mm256_maddubs_epi16(low, Broadcast(x + (2 * i) * kBlock + m));
          const __m256i b = _mm256_maddubs_epi16(high, Broadcast(x + (2 * i + 1) * kBlock + m));
          pairs[h][m] = i == 0 ? _mm256_add_epi16(a, b)
                               : _mm256_add_epi16(_mm256_add_epi16(pairs[h][m], a), b);
        }
      }
    }
#pragma clang loop unroll(full)
    for (int h = 0; h < kHalves; ++h) {
#pragma clang loop unroll(full)
      for (int m = 0; m < kTokens; ++m) {
        products[h][m] = _mm256_add_epi32(products[h][m], _mm256_madd_epi16(pairs[h][m], ones));
      }
    }
  } else {
#pragma clang loop unroll(full)
    for (int i = 0; i < 8; ++i) {
#pragma clang loop unroll(full)
      for (int h = 0; h < kHalves; ++h) {
        const __m256i code = Load32(codes + 64 * i + 32 * h);
        const __m256i magnitude = _mm256_abs_epi8(code);
#pragma clang loop unroll(full)
        for (int m = 0; m < kTokens; ++m) {
          const __m256i token = _mm256_sign_epi8(Broadcast(x + i * kBlock + m), code);
          const __m256i pair = _mm256_maddubs_epi16(magnitude, token);
          products[h][m] = _mm256_add_epi32(products[h][m], _mm256_madd_epi16(pair, ones));
        }
      }
    }
  }
}

// acc[h][m] = fma(products, scale of the row * scale of the token, acc), the zero point taken off.
//   scales  of the group's rows, from the first half on;  x_scales, x_sums  from the first token on
template <bool int4, int kHalves, int kTokens>
TANDEM_INLINE void AddGroup(const __m256i (&products)[kHalves][kTokens], const std::byte* scales,
                            const float* x_scales, const int32_t* x_sums,
                            __m256 (&acc)[kHalves][kTokens]) {
#pragma clang loop unroll(full)
  for (int h = 0; h < kHalves; ++h) {
    const __m256 row_scales = LoadScales(scales + 16 * h);
#pragma clang loop unroll(full)
    for (int m = 0; m < kTokens; ++m) {
      __m256i product = products[h][m];
      if constexpr (int4) {
        product = _mm256_sub_epi32(product, _mm256_slli_epi32(Broadcast(x_sums + m), 3));
      }
      acc[h][m] =
          _mm256_fmadd_ps(_mm256_cvtepi32_ps(product),
                          _mm256_mul_ps(row_scales, _mm256_set1_ps(x_scales[m])), acc[h][m]);
    }
  }
}

// One tile times tokens [m, m + kTokens) of a block of kBlock, rows of kHalves halves.
template <Scheme scheme, int kBlock, int kHalves, int kTokens>
TANDEM_INLINE void MultiplyTile(const std::byte* codes, const std::byte* scales, const int32_t* x,
                                const float* x_scales, const int32_t* x_sums,
                                __m256 (&acc)[kHalves][kTokens]) {
  using Traits = SchemeTraits<scheme>;
  constexpr int kQuartersPerGroup = 4 / Traits::kGroupsPerTile;
#pragma clang loop unroll(full)
  for (int g = 0; g < Traits::kGroupsPerTile; ++g) {
    __m256i products[kHalves][kTokens] = {};
#pragma clang loop unroll(full)
    for (int q = 0; q < kQuartersPerGroup; ++q) {
      const int quarter = g * kQuartersPerGroup + q;
      MultiplyQuarter<Traits::kInt4, kBlock>(codes + quarter * Traits::kQuarterBytes,
                                             x + quarter * 8 * kBlock, products);
    }
    AddGroup<Traits::kInt4>(products, scales + g * kStripRows * 2, x_scales + g * kBlock,
                            x_sums + g * kBlock, acc);
  }
}

// y[m * y_stride + r] = results of rows [8 h0, 8 (h0 + kHalves)) of a strip that has n_rows.
template <int kHalves, int kTokens>
TANDEM_INLINE void StoreRows(const __m256 (&acc)[kHalves][kTokens], int n_rows, int n_tokens,
                             float* y, int64_t y_stride) {
#pragma clang loop unroll(full)
  for (int m = 0; m < kTokens; ++m) {
#pragma clang loop unroll(full)
    for (int h = 0; h < kHalves; ++h) {
      if (m >= n_tokens) continue;
      float* dst = y + m * y_stride + 8 * h;
      if (n_rows >= 8 * (h + 1)) {
        _mm256_storeu_ps(dst, acc[h][m]);
      } else {
        _mm256_maskstore_ps(dst, TailMask(n_rows - 8 * h), acc[h][m]);
      }
    }
  }
}

// The inverse, where sums go on.
template <int kHalves, int kTokens>
TANDEM_INLINE void LoadRows(const float* y, int64_t y_stride, int n_rows, int n_tokens,
                            __m256 (&acc)[kHalves][kTokens]) {
#pragma clang loop unroll(full)
  for (int m = 0; m < kTokens; ++m) {
#pragma clang loop unroll(full)
    for (int h = 0; h < kHalves; ++h) {
      if (m >= n_tokens) continue;
      acc[h][m] = _mm256_maskload_ps(y + m * y_stride + 8 * h, TailMask(n_rows - 8 * h));
    }
  }
}

// One or two tokens: all sixteen rows in registers.
template <Scheme scheme, int kTokens>
void gemv_f32_q8_any_16xm_avx2(const std::byte* strips, int64_t n_rows, int64_t n_tiles,
                               const std::byte* block, int n_tokens, float* y, int64_t y_stride) {
  using Traits = SchemeTraits<scheme>;
  const int64_t scale_bytes = RoundUp64(n_tiles * Traits::kTileScaleBytes);
  const int64_t strip_bytes = scale_bytes + n_tiles * Traits::kTileBytes;
  const float* all_x_scales = BlockScales(block, n_tiles, kTokens);
  const int32_t* all_x_sums = BlockSums(block, n_tiles, Traits::kGroup, kTokens);
  for (int64_t row = 0; row < n_rows; row += kStripRows, strips += strip_bytes) {
    __m256 acc[2][kTokens] = {};
    const std::byte* scales = strips;
    const std::byte* codes = strips + scale_bytes;
    const auto* x = reinterpret_cast<const int32_t*>(block);
    const float* x_scales = all_x_scales;
    const int32_t* x_sums = all_x_sums;
    for (int64_t tile = 0; tile < n_tiles; ++tile) {
#pragma clang loop unroll(full)
      for (int line = 0; line < Traits::kTileBytes; line += 64) {
        _mm_prefetch(reinterpret_cast<const char*>(codes + kPrefetchBytes + line), _MM_HINT_T0);
      }
      MultiplyTile<scheme, kTokens>(codes, scales, x, x_scales, x_sums, acc);
      codes += Traits::kTileBytes;
      scales += Traits::kTileScaleBytes;
      x += kTileCols / 4 * kTokens;
      x_scales += Traits::kGroupsPerTile * kTokens;
      x_sums += Traits::kGroupsPerTile * kTokens;
    }
    StoreRows(acc, static_cast<int>(Min(n_rows - row, kStripRows)), n_tokens, y + row, y_stride);
  }
}

// More tokens than registers can hold sums for: the tile's 1 or 2 KB stay in the first-level cache
// while parts of up to four tokens and eight rows go over it; the sums wait in memory.
template <Scheme scheme, int kBlock>
void gemv_f32_q8_any_8xm_avx2(const std::byte* strips, int64_t n_rows, int64_t n_tiles,
                              const std::byte* block, int n_tokens, float* y, int64_t y_stride) {
  using Traits = SchemeTraits<scheme>;
  constexpr int kPart = kBlock % 4 == 0 ? 4 : 3;
  constexpr int kParts = kBlock / kPart;
  const int64_t scale_bytes = RoundUp64(n_tiles * Traits::kTileScaleBytes);
  const int64_t strip_bytes = scale_bytes + n_tiles * Traits::kTileBytes;
  const float* all_x_scales = BlockScales(block, n_tiles, kBlock);
  const int32_t* all_x_sums = BlockSums(block, n_tiles, Traits::kGroup, kBlock);
  for (int64_t row = 0; row < n_rows; row += kStripRows, strips += strip_bytes) {
    __m256 sums[2][kParts][1][kPart] = {};
    const std::byte* scales = strips;
    const std::byte* codes = strips + scale_bytes;
    const auto* x = reinterpret_cast<const int32_t*>(block);
    const float* x_scales = all_x_scales;
    const int32_t* x_sums = all_x_sums;
    for (int64_t tile = 0; tile < n_tiles; ++tile) {
#pragma clang loop unroll(full)
      for (int line = 0; line < Traits::kTileBytes; line += 64) {
        _mm_prefetch(reinterpret_cast<const char*>(codes + kPrefetchBytes + line), _MM_HINT_T0);
      }
#pragma clang loop unroll(disable)
      for (int h = 0; h < 2; ++h) {
#pragma clang loop unroll(disable)
        for (int part = 0; part < kParts; ++part) {
          const int m = part * kPart;
          MultiplyTile<scheme, kBlock>(codes + 32 * h, scales + 16 * h, x + m, x_scales + m,
                                       x_sums + m, sums[h][part]);
        }
      }
      codes += Traits::kTileBytes;
      scales += Traits::kTileScaleBytes;
      x += kTileCols / 4 * kBlock;
      x_scales += Traits::kGroupsPerTile * kBlock;
      x_sums += Traits::kGroupsPerTile * kBlock;
    }
    const int valid = static_cast<int>(Min(n_rows - row, kStripRows));
    for (int h = 0; h < 2; ++h) {
      for (int part = 0; part < kParts; ++part) {
        StoreRows(sums[h][part], valid - 8 * h, n_tokens - part * kPart,
                  y + part * kPart * y_stride + row + 8 * h, y_stride);
      }
    }
  }
}

template <Scheme scheme>
void gemv_f32_q8_any_avx2(const std::byte* strips, int64_t n_rows, int64_t n_tiles,
                          const std::byte* block, int block_tokens, int n_tokens, float* y,
                          int64_t y_stride) {
  switch (block_tokens) {
    case 1:
      return gemv_f32_q8_any_16xm_avx2<scheme, 1>(strips, n_rows, n_tiles, block, n_tokens, y,
                                                  y_stride);
    case 2:
      return gemv_f32_q8_any_16xm_avx2<scheme, 2>(strips, n_rows, n_tiles, block, n_tokens, y,
                                                  y_stride);
    case 3:
      return gemv_f32_q8_any_8xm_avx2<scheme, 3>(strips, n_rows, n_tiles, block, n_tokens, y,
                                                 y_stride);
    case 4:
      return gemv_f32_q8_any_8xm_avx2<scheme, 4>(strips, n_rows, n_tiles, block, n_tokens, y,
                                                 y_stride);
    case 6:
      return gemv_f32_q8_any_8xm_avx2<scheme, 6>(strips, n_rows, n_tiles, block, n_tokens, y,
                                                 y_stride);
    default:
      return gemv_f32_q8_any_8xm_avx2<scheme, 8>(strips, n_rows, n_tiles, block, n_tokens, y,
                                                 y_stride);
  }
}

// The nibbles of a tile as bytes, in the order of chunks: [32 chunks][64].
TANDEM_INLINE void UnpackTile(const std::byte* codes, std::byte* panel) {
  const __m256i mask = _mm256_set1_epi8(15);
#pragma clang loop unroll_count(4)
  for (int i = 0; i < 32; ++i) {
    const __m256i both = Load32(codes + 32 * i);
    std::byte* low = panel + 128 * (i / 2) + 32 * (i % 2);
    _mm256_store_si256(reinterpret_cast<__m256i*>(low), _mm256_and_si256(both, mask));
    _mm256_store_si256(reinterpret_cast<__m256i*>(low + 64),
                       _mm256_and_si256(_mm256_srli_epi16(both, 4), mask));
  }
}

// As MultiplyQuarter over an unpacked quarter, [8 chunks][64], for a whole panel block.
TANDEM_INLINE void MultiplyPanelQuarter(const std::byte* panel, const int32_t* x,
                                        __m256i (&products)[2][kPanelTokens]) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i pairs[2][kPanelTokens];
#pragma clang loop unroll(full)
  for (int i = 0; i < 8; ++i) {
    const __m256i upper = Load32(panel + 64 * i);
    const __m256i lower = Load32(panel + 64 * i + 32);
#pragma clang loop unroll(full)
    for (int m = 0; m < kPanelTokens; ++m) {
      const __m256i token = Broadcast(x + i * kPanelTokens + m);
      const __m256i a = _mm256_maddubs_epi16(upper, token);
      const __m256i b = _mm256_maddubs_epi16(lower, token);
      pairs[0][m] = i == 0 ? a : _mm256_add_epi16(pairs[0][m], a);
      pairs[1][m] = i == 0 ? b : _mm256_add_epi16(pairs[1][m], b);
    }
  }
#pragma clang loop unroll(full)
  for (int h = 0; h < 2; ++h) {
#pragma clang loop unroll(full)
    for (int m = 0; m < kPanelTokens; ++m) {
      products[h][m] = _mm256_add_epi32(products[h][m], _mm256_madd_epi16(pairs[h][m], ones));
    }
  }
}

// One panel block times n_tiles unpacked tiles; acc as MultiplyTile.
template <Scheme scheme>
TANDEM_INLINE void MultiplyPanel(const std::byte* panel, int64_t n_tiles, const std::byte* scales,
                                 const int32_t* x, const float* x_scales, const int32_t* x_sums,
                                 __m256 (&acc)[2][kPanelTokens]) {
  using Traits = SchemeTraits<scheme>;
  constexpr int kQuartersPerGroup = 4 / Traits::kGroupsPerTile;
  const int64_t n_groups = n_tiles * Traits::kGroupsPerTile;
#pragma clang loop unroll(disable)
  for (int64_t g = 0; g < n_groups; ++g) {
    __m256i products[2][kPanelTokens] = {};
#pragma clang loop unroll(disable)
    for (int q = 0; q < kQuartersPerGroup; ++q) {
      MultiplyPanelQuarter(panel, x, products);
      panel += 512;
      x += 8 * kPanelTokens;
    }
    AddGroup<true>(products, scales, x_scales, x_sums, acc);
    scales += kStripRows * 2;
    x_scales += kPanelTokens;
    x_sums += kPanelTokens;
  }
}

// Strip by strip, and within a strip by runs of kPanelTiles tiles: unpacked once, multiplied with
// every block of tokens; between runs the sums stand in y.
template <Scheme scheme>
void gemm_f32_q8_any_16x4_avx2(const std::byte* strips, int64_t n_rows, int64_t n_tiles,
                               const std::byte* blocks, int64_t n_tokens, float* y,
                               int64_t y_stride) {
  using Traits = SchemeTraits<scheme>;
  const int64_t scale_bytes = RoundUp64(n_tiles * Traits::kTileScaleBytes);
  const int64_t strip_bytes = scale_bytes + n_tiles * Traits::kTileBytes;
  const int64_t block_bytes = BlockBytes(n_tiles, Traits::kGroup, kPanelTokens);
  alignas(64) std::byte unpacked[kPanelTiles * 2048];
  for (int64_t row = 0; row < n_rows; row += kStripRows, strips += strip_bytes) {
    const int valid = static_cast<int>(Min(n_rows - row, kStripRows));
    for (int64_t begin = 0; begin < n_tiles; begin += kPanelTiles) {
      const int64_t run = Min(kPanelTiles, n_tiles - begin);
      const std::byte* codes = strips + scale_bytes + begin * Traits::kTileBytes;
      const std::byte* scales = strips + begin * Traits::kTileScaleBytes;
      if constexpr (Traits::kInt4) {
        for (int64_t i = 0; i < run; ++i) UnpackTile(codes + 1024 * i, unpacked + 2048 * i);
      }
      const std::byte* block = blocks;
      for (int64_t t = 0; t < n_tokens; t += kPanelTokens, block += block_bytes) {
        const auto* x =
            reinterpret_cast<const int32_t*>(block) + begin * (kTileCols / 4) * kPanelTokens;
        const int64_t first = begin * Traits::kGroupsPerTile * kPanelTokens;
        const float* x_scales = BlockScales(block, n_tiles, kPanelTokens) + first;
        const int32_t* x_sums = BlockSums(block, n_tiles, Traits::kGroup, kPanelTokens) + first;
        float* dst = y + t * y_stride + row;
        const int tokens = static_cast<int>(Min(kPanelTokens, n_tokens - t));
        __m256 acc[2][kPanelTokens] = {};
        if (begin > 0) LoadRows(dst, y_stride, valid, tokens, acc);
        if constexpr (Traits::kInt4) {
          MultiplyPanel<scheme>(unpacked, run, scales, x, x_scales, x_sums, acc);
        } else {
          for (int64_t i = 0; i < run; ++i) {
            const int64_t group = i * Traits::kGroupsPerTile * kPanelTokens;
            MultiplyTile<scheme, kPanelTokens>(
                codes + i * Traits::kTileBytes, scales + i * Traits::kTileScaleBytes,
                x + i * (kTileCols / 4) * kPanelTokens, x_scales + group, x_sums + group, acc);
          }
        }
        StoreRows(acc, valid, tokens, dst, y_stride);
      }
    }
  }
}

// Codes and scale of one group, which stands as floats in x.
template <int kGroup>
TANDEM_INLINE void QuantizeGroup(const float* x, int block_tokens, int32_t* chunks, float* scale,
                                 int32_t* sum) {
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
  __m256i total = _mm256_setzero_si256();
#pragma clang loop unroll(full)
  for (int i = 0; i < kGroup; i += 32) {
    __m256i words[4];
#pragma clang loop unroll(full)
    for (int v = 0; v < 4; ++v) {
      const __m256 scaled = _mm256_mul_ps(_mm256_loadu_ps(x + i + 8 * v), factors);
      words[v] = _mm256_and_si256(_mm256_cvtps_epi32(scaled), keep);
      total = _mm256_add_epi32(total, words[v]);
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
  __m128i part = _mm_add_epi32(_mm256_castsi256_si128(total), _mm256_extracti128_si256(total, 1));
  part = _mm_add_epi32(part, _mm_shuffle_epi32(part, 0x4E));
  part = _mm_add_epi32(part, _mm_shuffle_epi32(part, 0xB1));
  *sum = _mm_cvtsi128_si32(part);
}

// Up to kGroup normalised values; factor null: as they are.
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
    QuantizeGroup<kGroup>(group, block_tokens, chunks, scales, sums);
    chunks += kGroup / 4 * block_tokens;
    scales += block_tokens;
    sums += block_tokens;
  }
}

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

template <Scheme scheme>
constexpr void Register(TileSet* set) {
  set->schemes[static_cast<int>(scheme)] = {.gemv = gemv_f32_q8_any_avx2<scheme>,
                                            .gemm = gemm_f32_q8_any_16x4_avx2<scheme>};
}

consteval TileSet MakeSet() {
  TileSet set;
  Register<Scheme::kInt4G128>(&set);
  Register<Scheme::kInt4G32>(&set);
  Register<Scheme::kInt8G128>(&set);
  Register<Scheme::kInt8G32>(&set);
  set.panel_tokens = kPanelTokens;
  set.quantize = quantize_q8_f32_1x8_avx2;
  set.norm_quantize = norm_quantize_q8_f32_1x8_avx2;
  return set;
}

}  // namespace

constinit const TileSet kTilesAvx2 = MakeSet();

}  // namespace tandem::kernels
