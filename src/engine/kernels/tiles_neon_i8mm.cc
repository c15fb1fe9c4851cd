// Tile kernels for NEON with matrix products (smmla). Compiled with its own flags, so everything
// here but kTilesNeonI8mm has internal linkage. One token, and the activations, are for the kernels
// of neon_dotprod, which every such CPU can run.
//
// smmla multiplies two rows of eight columns with two tokens. Interleaving the 32-bit lanes of a
// vector's low and high nibbles (int8: of two vectors) gives the rows, and of two chunks' tokens
// the tokens. As in tiles_avx2.cc, what a *_strip_* function stores to the stack is a spill.
#include "engine/kernels/neon_internal.h"

namespace tandem::kernels {
namespace {

TANDEM_INLINE int8x16_t ZipLow(int8x16_t a, int8x16_t b) {
  return vreinterpretq_s8_s32(vzip1q_s32(vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b)));
}
TANDEM_INLINE int8x16_t ZipHigh(int8x16_t a, int8x16_t b) {
  return vreinterpretq_s8_s32(vzip2q_s32(vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b)));
}

// Rows of a strip that are multiplied with kBlock tokens at a time: 16 sums at most.
template <int kBlock>
constexpr int kQuadsAtATime = kBlock <= 4 ? 4 : 2;

// sums += n_tiles tiles times a block of two tokens or more.
template <Scheme scheme, int kBlock>
TANDEM_NOINLINE void gemv_strip_f32_q8_any_16xm_neon_i8mm(TileView tile, int64_t n_tiles,
                                                          StripSums* sums) {
  using Traits = SchemeTraits<scheme>;
  constexpr int kQuads = kQuadsAtATime<kBlock>;
  constexpr int kTokenPairs = (kBlock + 1) / 2;
  constexpr int kGroupBytes = Traits::kTileBytes / Traits::kGroupsPerTile;
  constexpr int kStep = Traits::kInt4 ? 64 : 128;  // bytes of eight columns
  for (int64_t g = 0; g < n_tiles * Traits::kGroupsPerTile; ++g) {
#pragma clang loop unroll(disable)
    for (int quad = 0; quad < 4; quad += kQuads) {
      // Of rows 2 p, 2 p + 1 and tokens 2 t, 2 t + 1: row by row.
      int32x4_t products[2 * kQuads][kTokenPairs] = {};
      const int32_t* x = tile.x;
#pragma clang loop unroll(disable)
      for (int offset = 16 * quad; offset < kGroupBytes; offset += kStep, x += 2 * kBlock) {
        const std::byte* codes = tile.codes + offset;
        __builtin_prefetch(codes + kNeonPrefetchBytes);
        int8x16_t tokens[kTokenPairs];
#pragma clang loop unroll(full)
        for (int t = 0; t < kTokenPairs; t += 2) {
          // Reads up to two chunks beyond the block's last: scales, sums and offsets stand there.
          const int8x16_t first = vreinterpretq_s8_s32(vld1q_s32(x + 2 * t));
          const int8x16_t second = vreinterpretq_s8_s32(vld1q_s32(x + kBlock + 2 * t));
          tokens[t] = ZipLow(first, second);
          if (t + 1 < kTokenPairs) tokens[t + 1] = ZipHigh(first, second);
        }
#pragma clang loop unroll(full)
        for (int q = 0; q < kQuads; ++q) {
          const int8x16_t vector = LoadQuad(codes + 16 * q);
          int8x16_t first = vector;
          int8x16_t second;
          if constexpr (Traits::kInt4) {
            first = LowNibbles(vector);
            second = HighNibbles(vector);
          } else {
            second = LoadQuad(codes + 64 + 16 * q);
          }
          const int8x16_t upper = ZipLow(first, second);
          const int8x16_t lower = ZipHigh(first, second);
#pragma clang loop unroll(full)
          for (int t = 0; t < kTokenPairs; ++t) {
            products[2 * q][t] = vmmlaq_s32(products[2 * q][t], upper, tokens[t]);
            products[2 * q + 1][t] = vmmlaq_s32(products[2 * q + 1][t], lower, tokens[t]);
          }
        }
      }
#pragma clang loop unroll(full)
      for (int q = 0; q < kQuads; ++q) {
        const float32x4_t row_scales = LoadScales(tile.scales + 8 * (quad + q));
#pragma clang loop unroll(full)
        for (int m = 0; m < kBlock; ++m) {
          const int32x4_t upper = products[2 * q][m / 2];
          const int32x4_t lower = products[2 * q + 1][m / 2];
          AddScaled<Traits::kInt4>(m % 2 == 0 ? vuzp1q_s32(upper, lower) : vuzp2q_s32(upper, lower),
                                   row_scales, tile.x_scales[m], tile.x_sums[m],
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
    gemv_strip_f32_q8_any_16xm_neon_i8mm<scheme, kBlock>(tile, n_tiles, sums);
  }
};

template <Scheme scheme>
void gemv_f32_q8_any_neon_i8mm(const std::byte* strips, int64_t n_rows, int64_t n_tiles,
                               const std::byte* block, int block_tokens, int n_tokens, float* y,
                               int64_t y_stride) {
  if (block_tokens == 1) {  // half of each smmla would be wasted
    return kTilesNeonDotprod.ForScheme(scheme).gemv(strips, n_rows, n_tiles, block, 1, n_tokens, y,
                                                    y_stride);
  }
  MultiplyAnyBlock<Strip, scheme>(strips, n_rows, n_tiles, block, block_tokens, n_tokens, y,
                                  y_stride);
}

template <Scheme scheme>
void gemm_f32_q8_any_16x8_neon_i8mm(const std::byte* strips, int64_t n_rows, int64_t n_tiles,
                                    const std::byte* blocks, int64_t n_tokens, float* y,
                                    int64_t y_stride) {
  MultiplyBlocks<Strip, scheme>(strips, n_rows, n_tiles, blocks, n_tokens, y, y_stride);
}

template <Scheme scheme>
constexpr void Register(TileSet* set) {
  set->schemes[static_cast<int>(scheme)] = {.gemv = gemv_f32_q8_any_neon_i8mm<scheme>,
                                            .gemm = gemm_f32_q8_any_16x8_neon_i8mm<scheme>};
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

constinit const TileSet kTilesNeonI8mm = MakeSet();

}  // namespace tandem::kernels
