// Tile kernels for AVX-512 with VNNI. Compiled with its own flags, so everything here but
// kTilesAvx512Vnni has internal linkage. Activations are quantised by the AVX2 kernels, which every
// such CPU can run.
//
// A vector of the layout is a register: lane r of vpdpbusd sums four products of row r. The
// unsigned operand is the weight: a nibble, or an int8 code with its sign bit flipped, which is the
// code + 128; the zero point times the group's sum is taken off at the end of a group. High nibbles
// are used where they are, as 16 x nibble, into sums of their own that are shifted down once a
// group.
//
// As in tiles_avx2.cc, what a *_strip_* or *_panel_* function stores to the stack is a spill.
#if defined(TANDEM_EMULATE_AVX512VNNI)
#include "engine/kernels/testing/avx512_emulation.h"
#else
#include "engine/kernels/avx2_internal.h"
#endif

#include "engine/kernels/kernel_set.h"
#include "engine/kernels/tile_internal.h"

namespace tandem::kernels {
namespace {

// Tokens of a panel block: with two strips, 24 sums, which leaves 8 registers.
constexpr int kPanelTokens = 12;
constexpr int kPanelStrips = 2;
// Tiles whose codes are unpacked at once: 32 KiB for two strips, in the second-level cache.
constexpr int kPanelTiles = 8;
constexpr int kPanelTileBytes = kStripRows * kTileCols;
constexpr int kPrefetchBytes = 2048;

TANDEM_INLINE __m512i Load64(const void* p) { return _mm512_loadu_si512(p); }
TANDEM_INLINE __m512i Broadcast(const int32_t* p) { return _mm512_set1_epi32(*p); }

// The zero point of a scheme's unsigned operand, times the group's sum.
template <Scheme scheme>
TANDEM_INLINE __m512i ZeroPoint(const int32_t* x_sum) {
  return _mm512_slli_epi32(Broadcast(x_sum), SchemeTraits<scheme>::kInt4 ? 3 : 7);
}

TANDEM_INLINE __m512 LoadScales(const std::byte* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}

// acc += product * row scales * token scale.
TANDEM_INLINE void AddScaled(__m512i product, __m512 row_scales, const float* x_scale, float* acc) {
  _mm512_store_ps(acc, _mm512_fmadd_ps(_mm512_cvtepi32_ps(product),
                                       _mm512_mul_ps(row_scales, _mm512_set1_ps(*x_scale)),
                                       _mm512_load_ps(acc)));
}

// sums += n_tiles tiles times a block of tokens.
template <Scheme scheme, int kBlock>
TANDEM_NOINLINE void gemv_strip_f32_q8_any_16xm_avx512vnni(TileView tile, int64_t n_tiles,
                                                           StripSums* sums) {
  using Traits = SchemeTraits<scheme>;
  constexpr int kVectors = Traits::kTileBytes / 64 / Traits::kGroupsPerTile;
  const __m512i low_mask = _mm512_set1_epi8(0x0F);
  const __m512i high_mask = _mm512_set1_epi8(static_cast<char>(0xF0));
  const __m512i sign_bits = _mm512_set1_epi8(static_cast<char>(0x80));
  const std::byte* codes = tile.codes;
  const int32_t* x = tile.x;
  for (int64_t g = 0; g < n_tiles * Traits::kGroupsPerTile; ++g) {
    __m512i low_sums[kBlock];
    __m512i high_sums[kBlock];
#pragma clang loop unroll(full)
    for (int m = 0; m < kBlock; ++m) {
      low_sums[m] = _mm512_setzero_si512();
      high_sums[m] = _mm512_setzero_si512();
    }
#pragma clang loop unroll_count(4)
    for (int i = 0; i < kVectors; ++i) {
      _mm_prefetch(reinterpret_cast<const char*>(codes + kPrefetchBytes), _MM_HINT_T0);
      const __m512i vector = Load64(codes);
      codes += 64;
      if constexpr (Traits::kInt4) {
        const __m512i low = _mm512_and_si512(vector, low_mask);
        const __m512i high = _mm512_and_si512(vector, high_mask);
#pragma clang loop unroll(full)
        for (int m = 0; m < kBlock; ++m) {
          low_sums[m] = _mm512_dpbusd_epi32(low_sums[m], low, Broadcast(x + m));
          high_sums[m] = _mm512_dpbusd_epi32(high_sums[m], high, Broadcast(x + kBlock + m));
        }
        x += 2 * kBlock;
      } else {
        const __m512i code = _mm512_xor_si512(vector, sign_bits);
#pragma clang loop unroll(full)
        for (int m = 0; m < kBlock; ++m) {
          low_sums[m] = _mm512_dpbusd_epi32(low_sums[m], code, Broadcast(x + m));
        }
        x += kBlock;
      }
    }
    const __m512 row_scales = LoadScales(tile.scales);
#pragma clang loop unroll(full)
    for (int m = 0; m < kBlock; ++m) {
      __m512i product = _mm512_sub_epi32(low_sums[m], ZeroPoint<scheme>(tile.x_sums + m));
      if constexpr (Traits::kInt4) {
        product = _mm512_add_epi32(product, _mm512_srai_epi32(high_sums[m], 4));
      }
      AddScaled(product, row_scales, tile.x_scales + m, sums->acc[m]);
    }
    tile.scales += kStripRows * 2;
    tile.x_scales += kBlock;
    tile.x_sums += kBlock;
  }
}

template <Scheme scheme, int kBlock>
void gemv_f32_q8_any_16xm_avx512vnni(const std::byte* strips, int64_t n_rows, int64_t n_tiles,
                                     const std::byte* block, int n_tokens, float* y,
                                     int64_t y_stride) {
  for (int64_t row = 0; row < n_rows; row += kStripRows, strips += StripBytesOf<scheme>(n_tiles)) {
    StripSums sums = {};
    gemv_strip_f32_q8_any_16xm_avx512vnni<scheme, kBlock>(
        TileView::First<scheme>(strips, n_tiles, block, kBlock), n_tiles, &sums);
    StoreSums(sums, Min(n_rows - row, kStripRows), n_tokens, y + row, y_stride);
  }
}

template <Scheme scheme>
void gemv_f32_q8_any_avx512vnni(const std::byte* strips, int64_t n_rows, int64_t n_tiles,
                                const std::byte* block, int block_tokens, int n_tokens, float* y,
                                int64_t y_stride) {
  const auto gemv = block_tokens == 1   ? gemv_f32_q8_any_16xm_avx512vnni<scheme, 1>
                    : block_tokens == 2 ? gemv_f32_q8_any_16xm_avx512vnni<scheme, 2>
                    : block_tokens == 3 ? gemv_f32_q8_any_16xm_avx512vnni<scheme, 3>
                    : block_tokens == 4 ? gemv_f32_q8_any_16xm_avx512vnni<scheme, 4>
                    : block_tokens == 6 ? gemv_f32_q8_any_16xm_avx512vnni<scheme, 6>
                                        : gemv_f32_q8_any_16xm_avx512vnni<scheme, 8>;
  gemv(strips, n_rows, n_tiles, block, n_tokens, y, y_stride);
}

// The codes of a tile as unsigned bytes, chunk by chunk, `stride` bytes apart.
template <Scheme scheme>
TANDEM_INLINE void UnpackTile(const std::byte* codes, int64_t stride, std::byte* panel) {
  const __m512i low_mask = _mm512_set1_epi8(0x0F);
  const __m512i sign_bits = _mm512_set1_epi8(static_cast<char>(0x80));
  for (int i = 0; i < SchemeTraits<scheme>::kTileBytes / 64; ++i) {
    const __m512i vector = Load64(codes + 64 * i);
    if constexpr (SchemeTraits<scheme>::kInt4) {
      _mm512_storeu_si512(panel, _mm512_and_si512(vector, low_mask));
      panel += stride;
      _mm512_storeu_si512(panel, _mm512_and_si512(_mm512_srli_epi16(vector, 4), low_mask));
    } else {
      _mm512_storeu_si512(panel, _mm512_xor_si512(vector, sign_bits));
    }
    panel += stride;
  }
}

// sums[s] += n_tiles unpacked tiles of kStrips strips times one panel block.
//   panel  [n_tiles * 32 chunks][kStrips][64]
//   tile   scales and activations of the first of them, of the first strip
template <Scheme scheme, int kStrips>
TANDEM_NOINLINE void gemm_panel_f32_q8_any_16x12_avx512vnni(const std::byte* panel, int64_t n_tiles,
                                                            TileView tile, int64_t strip_bytes,
                                                            StripSums* sums) {
  using Traits = SchemeTraits<scheme>;
  const int32_t* x = tile.x;
  for (int64_t g = 0; g < n_tiles * Traits::kGroupsPerTile; ++g) {
    __m512i products[kStrips][kPanelTokens];
#pragma clang loop unroll(full)
    for (int m = 0; m < kPanelTokens; ++m) {
#pragma clang loop unroll(full)
      for (int s = 0; s < kStrips; ++s) products[s][m] = _mm512_setzero_si512();
    }
#pragma clang loop unroll_count(2)
    for (int i = 0; i < Traits::kGroup / 4; ++i) {
      __m512i codes[kStrips];
#pragma clang loop unroll(full)
      for (int s = 0; s < kStrips; ++s) codes[s] = Load64(panel + 64 * s);
#pragma clang loop unroll(full)
      for (int m = 0; m < kPanelTokens; ++m) {
        const __m512i token = Broadcast(x + m);
#pragma clang loop unroll(full)
        for (int s = 0; s < kStrips; ++s) {
          products[s][m] = _mm512_dpbusd_epi32(products[s][m], codes[s], token);
        }
      }
      panel += 64 * kStrips;
      x += kPanelTokens;
    }
    __m512 row_scales[kStrips];
#pragma clang loop unroll(full)
    for (int s = 0; s < kStrips; ++s) row_scales[s] = LoadScales(tile.scales + s * strip_bytes);
#pragma clang loop unroll(full)
    for (int m = 0; m < kPanelTokens; ++m) {
      const __m512i zero_point = ZeroPoint<scheme>(tile.x_sums + m);
#pragma clang loop unroll(full)
      for (int s = 0; s < kStrips; ++s) {
        AddScaled(_mm512_sub_epi32(products[s][m], zero_point), row_scales[s], tile.x_scales + m,
                  sums[s].acc[m]);
      }
      // One token after the other: side by side they need more registers than there are.
      asm volatile("" : : : "memory");
    }
    tile.scales += kStripRows * 2;
    tile.x_scales += kPanelTokens;
    tile.x_sums += kPanelTokens;
  }
}

// One or two strips times all tokens, by runs of tiles; between runs the sums stand in y.
template <Scheme scheme, int kStrips>
void gemm_f32_q8_any_16x12_avx512vnni(const std::byte* strips, int64_t n_rows, int64_t n_tiles,
                                      const std::byte* blocks, int64_t n_tokens, float* y,
                                      int64_t y_stride) {
  using Traits = SchemeTraits<scheme>;
  const int64_t strip_bytes = StripBytesOf<scheme>(n_tiles);
  const int64_t block_bytes = BlockBytes(n_tiles, Traits::kGroup, kPanelTokens);
  alignas(64) std::byte unpacked[kPanelTiles * kPanelTileBytes * kStrips];
  StripSums sums[kStrips];
  for (int64_t begin = 0; begin < n_tiles; begin += kPanelTiles) {
    const int64_t run = Min(kPanelTiles, n_tiles - begin);
    const std::byte* block = blocks;
    for (int64_t t = 0; t < n_tokens; t += kPanelTokens, block += block_bytes) {
      TileView tile = TileView::First<scheme>(strips, n_tiles, block, kPanelTokens);
      tile.Advance<scheme>(begin, kPanelTokens);
      for (int64_t i = 0; t == 0 && i < run * kStrips; ++i) {
        const int64_t strip = i % kStrips;
        UnpackTile<scheme>(tile.codes + strip * strip_bytes + i / kStrips * Traits::kTileBytes,
                           64 * kStrips,
                           unpacked + i / kStrips * kPanelTileBytes * kStrips + 64 * strip);
      }
      const int64_t tokens = Min(kPanelTokens, n_tokens - t);
      __builtin_memset(sums, 0, sizeof sums);
      for (int s = 0; begin > 0 && s < kStrips; ++s) {
        LoadSums(y + t * y_stride + s * kStripRows, y_stride,
                 Min(n_rows - s * kStripRows, kStripRows), tokens, &sums[s]);
      }
      gemm_panel_f32_q8_any_16x12_avx512vnni<scheme, kStrips>(unpacked, run, tile, strip_bytes,
                                                              sums);
      for (int s = 0; s < kStrips; ++s) {
        StoreSums(sums[s], Min(n_rows - s * kStripRows, kStripRows), tokens,
                  y + t * y_stride + s * kStripRows, y_stride);
      }
    }
  }
}

template <Scheme scheme>
void gemm_f32_q8_any_avx512vnni(const std::byte* strips, int64_t n_rows, int64_t n_tiles,
                                const std::byte* blocks, int64_t n_tokens, float* y,
                                int64_t y_stride) {
  for (int64_t row = 0; row < n_rows; row += kPanelStrips * kStripRows) {
    const int64_t rows = Min(kPanelStrips * kStripRows, n_rows - row);
    const auto gemm = rows > kStripRows ? gemm_f32_q8_any_16x12_avx512vnni<scheme, 2>
                                        : gemm_f32_q8_any_16x12_avx512vnni<scheme, 1>;
    gemm(strips, rows, n_tiles, blocks, n_tokens, y + row, y_stride);
    strips += kPanelStrips * StripBytesOf<scheme>(n_tiles);
  }
}

template <Scheme scheme>
constexpr void Register(TileSet* set) {
  set->schemes[static_cast<int>(scheme)] = {.gemv = gemv_f32_q8_any_avx512vnni<scheme>,
                                            .gemm = gemm_f32_q8_any_avx512vnni<scheme>};
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

constinit const TileSet kTilesAvx512Vnni = MakeSet();

}  // namespace tandem::kernels
