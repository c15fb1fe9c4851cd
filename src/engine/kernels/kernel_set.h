// The function table that an instruction set fills. Plain types only: the files that are compiled
// with special flags include this and may emit no symbol that others could share.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/kernels/layout.h"
#include "engine/quant/types.h"

namespace tandem::kernels {

enum class Isa { kScalar, kAvx2, kAvx512Vnni, kNeonDotprod, kNeonI8mm };

// Block sizes that TileKernels::gemv has code for.
inline constexpr int kGemvTokens[] = {1, 2, 3, 4, 6, 8};

// Attention goes through the cache in tiles of this many positions, in order, whatever the batch.
inline constexpr int kTilePositions = 64;
// Query heads that a call of an attention kernel takes together.
inline constexpr int kMaxQueries = 4;

// Below the first, exp() is treated as zero: it would leave the normal numbers. The second keeps it
// finite.
inline constexpr float kExpZeroBelow = -87.3F;
inline constexpr float kExpLargest = 88.0F;

// Kernels of one weight type. Rows are GGUF blocks as mapped: row r starts at weights + r *
// row_bytes. No alignment is promised, but that of float where the type is F32.
struct TypeKernels {
  // y[r] = dot(row r, x).
  //   weights [n_rows, k] blocks;  x [k] f32;  y (out) [n_rows] f32
  void (*gemv)(const std::byte* weights, size_t row_bytes, int64_t n_rows, int64_t k,
               const float* x, float* y) = nullptr;
  // One row's values, exactly as quant::DequantizeRow.
  //   weights [k] blocks;  dst (out) [k] f32
  void (*unpack)(const std::byte* weights, int64_t k, float* dst) = nullptr;
};

// Kernels of one weight scheme over packed strips (layout.h) and int8 activations
// (activations.h). Whatever the set, the number of tokens and how rows are cut into calls:
//   product = sum of code * activation code over a group, exact in int32
//   y       = fma(float(product), weight scale * activation scale, y), groups in order, from 0
// so a result is the same everywhere, bit for bit.
//   strips   the strip of the first row, aligned to kStripAlignment; whole strips but for the rows
//            of the last one, of which those beyond n_rows are not written
//   n_tiles  TileCount(n_cols)
//   y (out)  y[t * y_stride + r] for t in [0, n_tokens), r in [0, n_rows) f32
struct TileKernels {
  // One block of block_tokens (one of kGemvTokens), of which the first n_tokens are wanted.
  // Cost: streams the strips once, block_tokens / 4 passes over each tile while it is in L1.
  void (*gemv)(const std::byte* strips, int64_t n_rows, int64_t n_tiles, const std::byte* block,
               int block_tokens, int n_tokens, float* y, int64_t y_stride) = nullptr;
  // Any number of tokens, in blocks of TileSet::panel_tokens.
  void (*gemm)(const std::byte* strips, int64_t n_rows, int64_t n_tiles, const std::byte* blocks,
               int64_t n_tokens, float* y, int64_t y_stride) = nullptr;
};

// All of them, and what makes their activations.
struct TileSet {
  TileKernels schemes[kSchemes] = {};  // by Scheme
  // Tokens of a block that gemm takes.
  int panel_tokens = 0;
  // Quantises one token into its slot of a block; activations.h has the rule.
  //   x [n_cols] f32;  group 32 or 128;  slot in [0, block_tokens)
  void (*quantize)(const float* x, int64_t n_cols, int group, int block_tokens, int slot,
                   std::byte* block) = nullptr;
  // The same of RMSNorm(x): x[i] * (1 / sqrt(mean(x^2) + eps)) * weight[i], each product rounded.
  //   weight [n_cols] f32
  void (*norm_quantize)(const float* x, const float* weight, double eps, int64_t n_cols, int group,
                        int block_tokens, int slot, std::byte* block) = nullptr;
  // One row of a fine plane (fine_plane.h) times one token, by this rule, so that it is the same
  // everywhere: lane l of 8 has, for each group of columns, the exact sum of the products of the
  // columns with index / 4 mod 8 = l; acc[l] = fma(float(sum), (half(scale) * 2^-bits) * activation
  // scale, acc[l]), groups in order, from 0; the result is ((0+4)+(2+6)) + ((1+5)+(3+7)).
  //   codes   FineRowBytes(bits, n_cols)
  //   scales  the row's first in its strip; those of the next groups follow 2 kStripRows bytes
  //   apart bits    3 or 4;  group 32 or 128, of the strips block   one token, in a block of one
  float (*fine_dot)(const std::byte* codes, const std::byte* scales, int bits, int group,
                    int64_t n_tiles, const std::byte* block) = nullptr;

  const TileKernels& ForScheme(Scheme scheme) const { return schemes[static_cast<int>(scheme)]; }
};

extern const TileSet kTilesScalar;
#if defined(TANDEM_KERNELS_X86)
extern const TileSet kTilesAvx2;
extern const TileSet kTilesAvx512Vnni;
#elif defined(TANDEM_KERNELS_NEON)
extern const TileSet kTilesNeonDotprod;
extern const TileSet kTilesNeonI8mm;
#endif

// Attention kernels of one cache element type.
//   n_queries in [1, kMaxQueries], n_positions in [1, kTilePositions], head_dim a multiple of 8
struct AttentionKernels {
  // scores[q * kTilePositions + p] = scale * dot(query q, key p).
  //   queries [n_queries, head_dim] f32;  keys [n_positions, head_dim]
  void (*qk)(const float* queries, int n_queries, const std::byte* keys, int n_positions,
             int head_dim, float scale, float* scores) = nullptr;
  // out[q, d] += sum over p, in order, of weights[q * kTilePositions + p] * values[p, d].
  //   values [n_positions, head_dim];  out (in, out) [n_queries, head_dim] f32
  void (*av)(const float* weights, int n_queries, const std::byte* values, int n_positions,
             int head_dim, float* out) = nullptr;
};

// Where the softmax of one row (a token's query head) stands after some tiles.
struct SoftmaxRow {
  float max = 0;           // -infinity before the first tile
  float sum = 0;           // of exp(score - max)
  float correction = 0;    // what sums made before the latest tile are multiplied with
  float weight_scale = 0;  // of the latest tile's weights
};

// Attention over tiles of int8 codes (kv_tile.h). Integer sums are exact, so they are the same on
// every instruction set.
struct IntegerAttention {
  // x, in blocks of `block` (a power of two, at least 8): the Walsh-Hadamard transform, not
  // normalised; twice it multiplies with `block`. The same bits on every set.
  //   x (in, out) [n], n a multiple of block
  void (*hadamard)(float* x, int n, int block) = nullptr;
  // codes[i] = round(x[i] * (limit / max|x|)), ties to even; returns max|x| / limit. All zeros, the
  // scale too, where max|x| is below kTinyCode. The same bits on every set. NaN and infinities give
  // codes in range and a scale that is not finite.
  //   x [n], n a multiple of 8
  float (*quantize_s8)(const float* x, int n, int8_t* codes) = nullptr;  // limit 127
  float (*quantize_s16)(const float* x, int n, float limit, int16_t* codes) = nullptr;
  // c[r][j] = sum over k of a[r][k] * b[k / 2][j][k % 2]
  //   a [n_rows, a_stride] int16, n_rows in [1, kMaxQueries], n_k even, no sum beyond int32
  //   b [n_k / 2, b_stride, 2] int8, the first n columns of it, n a multiple of 8
  //   c (out) [n_rows, c_stride] int32
  void (*multiply)(const int16_t* a, int a_stride, int n_rows, const int8_t* b, int b_stride, int n,
                   int n_k, int32_t* c, int c_stride) = nullptr;
  // Takes a tile's scores, dots[p] * (query_scale * key_scales[p]), into a row's softmax, and gives
  // the weights of its values: weights[p] * weight_scale = exp(score - max) * value_scales[p].
  //   dots, key_scales, value_scales [kTilePositions], of which n in [1, kTilePositions] count
  //   weights (out) [kTilePositions] int16, zero from n on
  void (*softmax)(const int32_t* dots, int n, float query_scale, const float* key_scales,
                  const float* value_scales, SoftmaxRow* row, int16_t* weights) = nullptr;
  // out[i] = out[i] * correction + c[i] * scale, each product rounded. The same bits on every set.
  //   c, out [n], n a multiple of 8
  void (*accumulate)(const int32_t* c, float correction, float scale, int n, float* out) = nullptr;
};
// Largest magnitude that is quantised as zeros: limit / max|x| must stay finite.
inline constexpr float kTinyCode = 1e-30F;
inline constexpr float kWeightLimit = 32767.0F;

struct KernelSet {
  Isa isa = Isa::kScalar;
  // By quant::Type; null where there is no such type.
  TypeKernels types[31] = {};
  AttentionKernels attention_f32;
  AttentionKernels attention_f16;
  const IntegerAttention* attention_int8 = nullptr;
  // y[t * y_stride + r] = dot(panel row r, token t); the same bits as gemv on the packed row.
  //   panel [n_rows, panel_stride] f32;  x [n_tokens, x_stride] f32;  y (out) f32
  void (*gemm)(const float* panel, int64_t panel_stride, int64_t n_rows, int64_t k, const float* x,
               int64_t x_stride, int64_t n_tokens, float* y, int64_t y_stride) = nullptr;
  float (*dot)(const float* a, const float* b, int64_t n) = nullptr;
  // x[i] = exp(x[i] - max); returns the sum, in the order of a dot product. No input may be above
  // max. Relative error of each below 4e-7; zero where the result is below the normal numbers.
  float (*exp_sum)(float* x, int64_t n, float max) = nullptr;
  // out[i] = gate[i] / (1 + exp(-gate[i])) * up[i]; out may be gate or up.
  void (*silu_mul)(const float* gate, const float* up, int64_t n, float* out) = nullptr;
  const TileSet* tiles = nullptr;
  // IEEE half precision, rounded to nearest even.
  void (*half_from_float)(const float* src, int64_t n, uint16_t* dst) = nullptr;

  const TypeKernels& ForType(quant::Type type) const { return types[static_cast<int>(type)]; }
};

extern const IntegerAttention kIntegerAttentionScalar;
#if defined(TANDEM_KERNELS_X86)
extern const IntegerAttention kIntegerAttentionAvx2;
#endif

const KernelSet& ScalarKernels();
#if defined(TANDEM_KERNELS_X86)
const KernelSet& Avx2Kernels();
#endif

}  // namespace tandem::kernels
