// Tile kernels for AVX2. Compiled with its own flags, so everything here but kTilesAvx2 has
// internal linkage.
//
// A lane of vpmaddubsw sums two products of an unsigned and a signed byte in 16 bits. int4: the
// nibble (0..15) is the unsigned one. The 16 pairs of a lane's 64 columns are added modulo 2^16,
// starting from the offset that takes off the zero point, so that only the end must fit, and
// 32 * 8 * 127 = 32,512 does; vpmaddwd then widens. int8: the unsigned operand is |w|, the sign
// goes to the activation, and a pair reaches 2 * 128 * 127 = 32,512: widened at once.
//
// Functions whose names end in _avx2 are not inlined into each other and get their sums by pointer:
// what they store to the stack is a spill, and tools/check/spills.py finds it.
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
// A tile whose codes are bytes.
constexpr int kPanelTileBytes = kStripRows * kTileCols;
// Strips that the GEMV of one token reads side by side. A Zen 3 core reads 16 GB/s of one
// sequential stream, 21 of two and 25 of four, for its prefetchers stop at the end of each page;
// prefetching by instruction makes all of these slower.
constexpr int kStreams = 4;
// More tokens leave the time to prefetch one stream into the first-level cache: this far ahead.
constexpr int kPrefetchBytes = 2048;

TANDEM_INLINE __m256i Load32(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
TANDEM_INLINE __m256i Broadcast(const int32_t* p) { return _mm256_set1_epi32(*p); }

// Makes the value opaque. Left alone, clang adds up a chain of sums as a tree, which needs more
// registers than there are.
TANDEM_INLINE void Pin(__m256i& value) { asm("" : "+x"(value)); }

// sum += codes * token, 16 bits a lane; codes are nibbles in bytes.
TANDEM_INLINE void AddPairs(__m256i codes, __m256i token, __m256i& sum) {
  sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(codes, token));
  Pin(sum);
}
// sum += codes * token, 32 bits a lane; magnitudes are |codes|.
TANDEM_INLINE void AddProducts(__m256i codes, __m256i magnitudes, __m256i token, __m256i& sum) {
  const __m256i pairs = _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(token, codes));
  sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  Pin(sum);
}
TANDEM_INLINE __m256i Widen(__m256i pairs) {
  return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

// Scales of eight rows.
TANDEM_INLINE __m256 LoadScales(const std::byte* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
TANDEM_INLINE __m256 Fma(__m256i product, __m256 row_scales, __m256 x_scale, __m256 acc) {
  return _mm256_fmadd_ps(_mm256_cvtepi32_ps(product), _mm256_mul_ps(row_scales, x_scale), acc);
}

// products[h][m] = nibbles of a span of kSpan columns of rows 8 h .. 8 h + 7 times token m.
//   codes  the span's vectors;  x [kSpan / 4 chunks][kBlock] from the first token on
template <int kSpan, int kBlock, int kHalves, int kTokens>
TANDEM_INLINE void MultiplyNibbles(const std::byte* codes, const int32_t* x, const int32_t* offsets,
                                   __m256i (&products)[kHalves][kTokens]) {
  const __m256i mask = _mm256_set1_epi8(15);
#pragma clang loop unroll(full)
  for (int m = 0; m < kTokens; ++m) {
#pragma clang loop unroll(full)
    for (int h = 0; h < kHalves; ++h) products[h][m] = Broadcast(offsets + m);
  }
#pragma clang loop unroll(full)
  for (int i = 0; i < kSpan / 8; ++i) {
#pragma clang loop unroll(full)
    for (int h = 0; h < kHalves; ++h) {
      const __m256i both = Load32(codes + 64 * i + 32 * h);
      const __m256i low = _mm256_and_si256(both, mask);
      const __m256i high = _mm256_and_si256(_mm256_srli_epi16(both, 4), mask);
#pragma clang loop unroll(full)
      for (int m = 0; m < kTokens; ++m) {
        AddPairs(low, Broadcast(x + 2 * i * kBlock + m), products[h][m]);
      }
#pragma clang loop unroll(full)
      for (int m = 0; m < kTokens; ++m) {
        AddPairs(high, Broadcast(x + (2 * i + 1) * kBlock + m), products[h][m]);
      }
    }
  }
#pragma clang loop unroll(full)
  for (int m = 0; m < kTokens; ++m) {
#pragma clang loop unroll(full)
    for (int h = 0; h < kHalves; ++h) products[h][m] = Widen(products[h][m]);
  }
}

// products[h][m] = int8 codes of a group of kGroup columns of rows 8 h .. 8 h + 7 times token m.
template <int kGroup, int kBlock, int kHalves, int kTokens>
TANDEM_INLINE void MultiplyBytes(const std::byte* codes, const int32_t* x,
                                 __m256i (&products)[kHalves][kTokens]) {
#pragma clang loop unroll(full)
  for (int m = 0; m < kTokens; ++m) {
#pragma clang loop unroll(full)
    for (int h = 0; h < kHalves; ++h) products[h][m] = _mm256_setzero_si256();
  }
#pragma clang loop unroll_count(4)
  for (int i = 0; i < kGroup / 4; ++i) {
#pragma clang loop unroll(full)
    for (int h = 0; h < kHalves; ++h) {
      const __m256i vector = Load32(codes + 64 * i + 32 * h);
      const __m256i magnitudes = _mm256_abs_epi8(vector);
#pragma clang loop unroll(full)
      for (int m = 0; m < kTokens; ++m) {
        AddProducts(vector, magnitudes, Broadcast(x + i * kBlock + m), products[h][m]);
      }
    }
  }
}

// acc[m][8 h ..] += one tile times tokens [0, kTokens) of a block of kBlock, rows of kHalves
// halves.
template <Scheme scheme, int kBlock, int kHalves, int kTokens>
TANDEM_INLINE void MultiplyTile(const TileView& tile, float (*acc)[kStripRows]) {
  using Traits = SchemeTraits<scheme>;
  constexpr int kGroupBytes = Traits::kTileBytes / Traits::kGroupsPerTile;
  constexpr int kSpans = Traits::kSpansPerTile / Traits::kGroupsPerTile;
// Groups side by side would need more registers than one after the other.
#pragma clang loop unroll(disable)
  for (int g = 0; g < Traits::kGroupsPerTile; ++g) {
    const std::byte* codes = tile.codes + g * kGroupBytes;
    const int32_t* x = tile.x + g * (Traits::kGroup / 4) * kBlock;
    __m256i products[kHalves][kTokens];
    if constexpr (Traits::kInt4) {
      MultiplyNibbles<Traits::kSpan, kBlock>(codes, x, tile.x_offsets + g * kSpans * kBlock,
                                             products);
#pragma clang loop unroll(full)
      for (int s = 1; s < kSpans; ++s) {
        __m256i more[kHalves][kTokens];
        MultiplyNibbles<Traits::kSpan, kBlock>(codes + s * (kGroupBytes / kSpans),
                                               x + s * (Traits::kSpan / 4) * kBlock,
                                               tile.x_offsets + (g * kSpans + s) * kBlock, more);
#pragma clang loop unroll(full)
        for (int m = 0; m < kTokens; ++m) {
#pragma clang loop unroll(full)
          for (int h = 0; h < kHalves; ++h) {
            products[h][m] = _mm256_add_epi32(products[h][m], more[h][m]);
          }
        }
      }
    } else {
      MultiplyBytes<Traits::kGroup, kBlock>(codes, x, products);
    }
#pragma clang loop unroll(full)
    for (int h = 0; h < kHalves; ++h) {
      const __m256 row_scales = LoadScales(tile.scales + g * kStripRows * 2 + 16 * h);
#pragma clang loop unroll(full)
      for (int m = 0; m < kTokens; ++m) {
        float* sums = acc[m] + 8 * h;
        _mm256_store_ps(
            sums, Fma(products[h][m], row_scales, _mm256_set1_ps(tile.x_scales[g * kBlock + m]),
                      _mm256_load_ps(sums)));
      }
    }
  }
}

template <Scheme scheme>
TANDEM_INLINE void PrefetchTile(const std::byte* codes) {
#pragma clang loop unroll(full)
  for (int line = 0; line < SchemeTraits<scheme>::kTileBytes; line += 64) {
    _mm_prefetch(reinterpret_cast<const char*>(codes + kPrefetchBytes + line), _MM_HINT_T0);
  }
}

// sums[s] += n_tiles tiles of each of n_strips strips times one token.
//   tile  of the first strip; the others follow strip_bytes apart
template <Scheme scheme>
TANDEM_NOINLINE void gemv_strip_f32_q8_any_16x1_avx2(TileView tile, int64_t n_tiles,
                                                     int64_t strip_bytes, int64_t n_strips,
                                                     StripSums* sums) {
  for (int64_t i = 0; i < n_tiles; ++i) {
    TileView stream = tile;
    for (int64_t s = 0; s < n_strips; ++s) {
      MultiplyTile<scheme, 1, 2, 1>(stream, sums[s].acc);
      stream.codes += strip_bytes;
      stream.scales += strip_bytes;
    }
    tile.Advance<scheme>(1, 1);
  }
}

template <Scheme scheme>
void gemv_f32_q8_any_16x1_avx2(const std::byte* strips, int64_t n_rows, int64_t n_tiles,
                               const std::byte* block, int n_tokens, float* y, int64_t y_stride) {
  const int64_t strip_bytes = StripBytesOf<scheme>(n_tiles);
  for (int64_t row = 0; row < n_rows; row += kStreams * kStripRows) {
    const int64_t n_strips = Min(kStreams, StripCount(n_rows - row));
    StripSums sums[kStreams];
    for (StripSums& strip : sums) __builtin_memset(strip.acc, 0, sizeof strip.acc[0]);
    gemv_strip_f32_q8_any_16x1_avx2<scheme>(TileView::First<scheme>(strips, n_tiles, block, 1),
                                            n_tiles, strip_bytes, n_strips, sums);
    for (int64_t s = 0; s < n_strips; ++s) {
      const int64_t first = row + s * kStripRows;
      StoreSums(sums[s], Min(n_rows - first, kStripRows), n_tokens, y + first, y_stride);
    }
    strips += kStreams * strip_bytes;
  }
}

// sums += n_tiles tiles times a block of tokens, in parts of eight rows and up to four tokens, as
// many sums as registers hold, while the tile's 1 or 2 KB stay in the first-level cache.
template <Scheme scheme, int kBlock>
TANDEM_NOINLINE void gemv_strip_f32_q8_any_16xm_avx2(TileView tile, int64_t n_tiles,
                                                     StripSums* sums) {
  constexpr int kPart = kBlock == 2 ? 2 : kBlock % 4 == 0 ? 4 : 3;
  for (int64_t i = 0; i < n_tiles; ++i) {
    PrefetchTile<scheme>(tile.codes);
#pragma clang loop unroll(disable)
    for (int h = 0; h < 2; ++h) {
#pragma clang loop unroll(disable)
      for (int first = 0; first < kBlock; first += kPart) {
        const TileView part = {.codes = tile.codes + 32 * h,
                               .scales = tile.scales + 16 * h,
                               .x = tile.x + first,
                               .x_scales = tile.x_scales + first,
                               .x_sums = tile.x_sums + first,
                               .x_offsets = tile.x_offsets + first};
        auto* acc = reinterpret_cast<float(*)[kStripRows]>(sums->acc[first] + 8 * h);
        MultiplyTile<scheme, kBlock, 1, kPart>(part, acc);
      }
    }
    tile.Advance<scheme>(1, kBlock);
  }
}

template <Scheme scheme, int kBlock>
void gemv_f32_q8_any_16xm_avx2(const std::byte* strips, int64_t n_rows, int64_t n_tiles,
                               const std::byte* block, int n_tokens, float* y, int64_t y_stride) {
  for (int64_t row = 0; row < n_rows; row += kStripRows, strips += StripBytesOf<scheme>(n_tiles)) {
    StripSums sums = {};
    gemv_strip_f32_q8_any_16xm_avx2<scheme, kBlock>(
        TileView::First<scheme>(strips, n_tiles, block, kBlock), n_tiles, &sums);
    StoreSums(sums, Min(n_rows - row, kStripRows), n_tokens, y + row, y_stride);
  }
}

template <Scheme scheme>
void gemv_f32_q8_any_avx2(const std::byte* strips, int64_t n_rows, int64_t n_tiles,
                          const std::byte* block, int block_tokens, int n_tokens, float* y,
                          int64_t y_stride) {
  const auto gemv = block_tokens == 1   ? gemv_f32_q8_any_16x1_avx2<scheme>
                    : block_tokens == 2 ? gemv_f32_q8_any_16xm_avx2<scheme, 2>
                    : block_tokens == 3 ? gemv_f32_q8_any_16xm_avx2<scheme, 3>
                    : block_tokens == 4 ? gemv_f32_q8_any_16xm_avx2<scheme, 4>
                    : block_tokens == 6 ? gemv_f32_q8_any_16xm_avx2<scheme, 6>
                                        : gemv_f32_q8_any_16xm_avx2<scheme, 8>;
  gemv(strips, n_rows, n_tiles, block, n_tokens, y, y_stride);
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

// Sums of a panel block between calls, and between the spans of a group: in memory, because sixteen
// registers hold the sums of 16 rows x 4 tokens, what is multiplied, and no more.
struct alignas(64) PanelSums {
  StripSums strip;
  int32_t products[kPanelTokens][kStripRows];
};

// As MultiplyNibbles, over a panel [kSpan / 4 chunks][64].
template <int kSpan>
TANDEM_INLINE void MultiplyPanelSpan(const std::byte* panel, const int32_t* x,
                                     const int32_t* offsets, __m256i (&products)[2][kPanelTokens]) {
#pragma clang loop unroll(full)
  for (int m = 0; m < kPanelTokens; ++m) {
    products[0][m] = Broadcast(offsets + m);
    products[1][m] = products[0][m];
  }
#pragma clang loop unroll(full)
  for (int i = 0; i < kSpan / 4; ++i) {
    const __m256i upper = Load32(panel + 64 * i);
    const __m256i lower = Load32(panel + 64 * i + 32);
#pragma clang loop unroll(full)
    for (int m = 0; m < kPanelTokens; ++m) {
      const __m256i token = Broadcast(x + i * kPanelTokens + m);
      AddPairs(upper, token, products[0][m]);
      AddPairs(lower, token, products[1][m]);
    }
  }
#pragma clang loop unroll(full)
  for (int m = 0; m < kPanelTokens; ++m) {
    products[0][m] = Widen(products[0][m]);
    products[1][m] = Widen(products[1][m]);
  }
}

// sums->strip += n_tiles unpacked tiles times one panel block.
//   tile  scales and activations of the first of them
template <Scheme scheme>
TANDEM_NOINLINE void gemm_panel_f32_q8_q4_16x4_avx2(const std::byte* panel, int64_t n_tiles,
                                                    TileView tile, PanelSums* sums) {
  using Traits = SchemeTraits<scheme>;
  constexpr int kSpans = Traits::kSpansPerTile / Traits::kGroupsPerTile;
  for (int64_t group = 0; group < n_tiles * Traits::kGroupsPerTile; ++group) {
#pragma clang loop unroll(full)
    for (int s = 0; s < kSpans; ++s) {
      __m256i products[2][kPanelTokens];
      MultiplyPanelSpan<Traits::kSpan>(panel, tile.x, tile.x_offsets, products);
      panel += Traits::kSpan * kStripRows;
      tile.x += Traits::kSpan / 4 * kPanelTokens;
      tile.x_offsets += kPanelTokens;
      const __m256 row_scales[2] = {LoadScales(tile.scales), LoadScales(tile.scales + 16)};
#pragma clang loop unroll(full)
      for (int m = 0; m < kPanelTokens; ++m) {
#pragma clang loop unroll(full)
        for (int h = 0; h < 2; ++h) {
          auto* sum = reinterpret_cast<__m256i*>(&sums->products[m][8 * h]);
          __m256i product = products[h][m];
          if (s > 0) product = _mm256_add_epi32(product, _mm256_load_si256(sum));
          if (s < kSpans - 1) {
            _mm256_store_si256(sum, product);
          } else {
            float* acc = &sums->strip.acc[m][8 * h];
            _mm256_store_ps(acc, Fma(product, row_scales[h], _mm256_set1_ps(tile.x_scales[m]),
                                     _mm256_load_ps(acc)));
          }
        }
      }
    }
    tile.scales += kStripRows * 2;
    tile.x_scales += kPanelTokens;
  }
}

// Strip by strip, and within a strip by runs of kPanelTiles tiles, which are multiplied with every
// block of tokens before the next run: nibbles unpacked once for all of them, bytes while they are
// in the first-level cache. Between runs the sums stand in y.
template <Scheme scheme>
void gemm_f32_q8_any_16x4_avx2(const std::byte* strips, int64_t n_rows, int64_t n_tiles,
                               const std::byte* blocks, int64_t n_tokens, float* y,
                               int64_t y_stride) {
  using Traits = SchemeTraits<scheme>;
  const int64_t block_bytes = BlockBytes(n_tiles, Traits::kGroup, kPanelTokens);
  alignas(64) std::byte unpacked[Traits::kInt4 ? kPanelTiles * kPanelTileBytes : 1];
  PanelSums sums;
  for (int64_t row = 0; row < n_rows; row += kStripRows, strips += StripBytesOf<scheme>(n_tiles)) {
    const int64_t valid = Min(n_rows - row, kStripRows);
    for (int64_t begin = 0; begin < n_tiles; begin += kPanelTiles) {
      const int64_t run = Min(kPanelTiles, n_tiles - begin);
      const std::byte* block = blocks;
      for (int64_t t = 0; t < n_tokens; t += kPanelTokens, block += block_bytes) {
        TileView tile = TileView::First<scheme>(strips, n_tiles, block, kPanelTokens);
        tile.Advance<scheme>(begin, kPanelTokens);
        float* dst = y + t * y_stride + row;
        const int64_t tokens = Min(kPanelTokens, n_tokens - t);
        if (begin == 0) {
          __builtin_memset(sums.strip.acc, 0, sizeof(float) * kPanelTokens * kStripRows);
        } else {
          LoadSums(dst, y_stride, valid, tokens, &sums.strip);
        }
        if constexpr (Traits::kInt4) {
          for (int64_t i = 0; t == 0 && i < run; ++i) {
            UnpackTile(tile.codes + i * Traits::kTileBytes, unpacked + i * kPanelTileBytes);
          }
          gemm_panel_f32_q8_q4_16x4_avx2<scheme>(unpacked, run, tile, &sums);
        } else {
          gemv_strip_f32_q8_any_16xm_avx2<scheme, kPanelTokens>(tile, run, &sums.strip);
        }
        StoreSums(sums.strip, valid, tokens, dst, y_stride);
      }
    }
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
  set.fine_dot = fine_dot_f32_q8_qf_1x1_avx2;
  return set;
}

}  // namespace

constinit const TileSet kTilesAvx2 = MakeSet();

}  // namespace tandem::kernels
