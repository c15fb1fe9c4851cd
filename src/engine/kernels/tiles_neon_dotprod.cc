// Tile kernels for NEON with dot products (sdot). Compiled with its own flags, so everything here
// but kTilesNeonDotprod has internal linkage.
//
// A lane of sdot sums four products of signed bytes of one row; the activations of up to four
// tokens are the lanes of one register, each of which sdot can take for all rows. As in
// tiles_avx2.cc, what a *_strip_* function stores to the stack is a spill.
#include "engine/kernels/neon_internal.h"

namespace tandem::kernels {
namespace {

// Rows of a strip that are multiplied with kTokens at a time: 16 sums at most, half the registers.
template <int kBlock>
constexpr int kQuadsAtATime = kBlock <= 4 ? 4 : 2;

// products[q][m] += four rows' chunk times tokens; x [kTokens] chunks and what comes after.
template <int kQuads, int kTokens>
TANDEM_INLINE void MultiplyChunk(const int8x16_t (&codes)[kQuads], const int32_t* x,
                                 int32x4_t (&products)[kQuads][kTokens]) {
#pragma clang loop unroll(full)
  for (int first = 0; first < kTokens; first += 4) {
    // Reads up to three chunks beyond the block's last: scales, sums and offsets stand there.
    const int8x16_t tokens = vreinterpretq_s8_s32(vld1q_s32(x + first));
#pragma clang loop unroll(full)
    for (int q = 0; q < kQuads; ++q) {
      int32x4_t(&sums)[kTokens] = products[q];
      sums[first] = vdotq_laneq_s32(sums[first], codes[q], tokens, 0);
      if constexpr (kTokens > 1) {
        if (first + 1 < kTokens) {
          sums[first + 1] = vdotq_laneq_s32(sums[first + 1], codes[q], tokens, 1);
        }
        if (first + 2 < kTokens) {
          sums[first + 2] = vdotq_laneq_s32(sums[first + 2], codes[q], tokens, 2);
        }
        if (first + 3 < kTokens) {
          sums[first + 3] = vdotq_laneq_s32(sums[first + 3], codes[q], tokens, 3);
        }
      }
    }
  }
}

// sums += n_tiles tiles times a block of tokens.
template <Scheme scheme, int kBlock>
TANDEM_NOINLINE void gemv_strip_f32_q8_any_16xm_neon_dotprod(TileView tile, int64_t n_tiles,
                                                             StripSums* sums) {
  using Traits = SchemeTraits<scheme>;
  constexpr int kQuads = kQuadsAtATime<kBlock>;
  constexpr int kGroupBytes = Traits::kTileBytes / Traits::kGroupsPerTile;
  for (int64_t g = 0; g < n_tiles * Traits::kGroupsPerTile; ++g) {
#pragma clang loop unroll(disable)
    for (int quad = 0; quad < 4; quad += kQuads) {
      int32x4_t products[kQuads][kBlock] = {};
      const int32_t* x = tile.x;
#pragma clang loop unroll_count(2)
      for (int offset = 16 * quad; offset < kGroupBytes; offset += 64) {
        const std::byte* codes = tile.codes + offset;
        __builtin_prefetch(codes + kNeonPrefetchBytes);
        int8x16_t vectors[kQuads];
#pragma clang loop unroll(full)
        for (int q = 0; q < kQuads; ++q) vectors[q] = LoadQuad(codes + 16 * q);
        if constexpr (Traits::kInt4) {
          int8x16_t low[kQuads];
          int8x16_t high[kQuads];
#pragma clang loop unroll(full)
          for (int q = 0; q < kQuads; ++q) {
            low[q] = LowNibbles(vectors[q]);
            high[q] = HighNibbles(vectors[q]);
          }
          MultiplyChunk(low, x, products);
          MultiplyChunk(high, x + kBlock, products);
          x += 2 * kBlock;
        } else {
          MultiplyChunk(vectors, x, products);
          x += kBlock;
        }
      }
#pragma clang loop unroll(full)
      for (int q = 0; q < kQuads; ++q) {
        const float32x4_t row_scales = LoadScales(tile.scales + 8 * (quad + q));
#pragma clang loop unroll(full)
        for (int m = 0; m < kBlock; ++m) {
          AddScaled<Traits::kInt4>(products[q][m], row_scales, tile.x_scales[m], tile.x_sums[m],
                                   sums->acc[m] + 4 * (quad + q));
        }
      }
    }
    tile.codes += kGroupBytes;
    tile.x += Traits::kGroup / 4 * kBlock;
    tile.scales += kStripRows * 2;
    tile.x_scales += kBlock;
    tile.x_sums += kBlock;
  }
}

struct Strip {
  template <Scheme scheme, int kBlock>
  static TANDEM_INLINE void Multiply(const TileView& tile, int64_t n_tiles, StripSums* sums) {
    gemv_strip_f32_q8_any_16xm_neon_dotprod<scheme, kBlock>(tile, n_tiles, sums);
  }
};

template <Scheme scheme>
void gemv_f32_q8_any_neon_dotprod(const std::byte* strips, int64_t n_rows, int64_t n_tiles,
                                  const std::byte* block, int block_tokens, int n_tokens, float* y,
                                  int64_t y_stride) {
  MultiplyAnyBlock<Strip, scheme>(strips, n_rows, n_tiles, block, block_tokens, n_tokens, y,
                                  y_stride);
}

template <Scheme scheme>
void gemm_f32_q8_any_16x8_neon_dotprod(const std::byte* strips, int64_t n_rows, int64_t n_tiles,
                                       const std::byte* blocks, int64_t n_tokens, float* y,
                                       int64_t y_stride) {
  MultiplyBlocks<Strip, scheme>(strips, n_rows, n_tiles, blocks, n_tokens, y, y_stride);
}

template <Scheme scheme>
constexpr void Register(TileSet* set) {
  set->schemes[static_cast<int>(scheme)] = {.gemv = gemv_f32_q8_any_neon_dotprod<scheme>,
                                            .gemm = gemm_f32_q8_any_16x8_neon_dotprod<scheme>};
}

consteval TileSet MakeSet() {
  TileSet set;
  Register<Scheme::kInt4G128>(&set);
  Register<Scheme::kInt4G32>(&set);
  Register<Scheme::kInt8G128>(&set);
  Register<Scheme::kInt8G32>(&set);
  set.panel_tokens = kNeonPanelTokens;
  set.quantize = quantize_q8_f32_1x4_neon_dotprod;
  set.norm_quantize = norm_quantize_q8_f32_1x4_neon_dotprod;
  set.fine_dot = fine_dot_f32_q8_qf_1x1_neon_dotprod;
  return set;
}

}  // namespace

constinit const TileSet kTilesNeonDotprod = MakeSet();

}  // namespace tandem::kernels
