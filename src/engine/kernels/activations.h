// Activations as the integer kernels read them: int8 codes in groups of 128 or 32 columns, as long
// as the groups of the weights that they meet, quantised once for all matrices that read them.
//
// Tokens stand in blocks of B, so that the B activations of a chunk of four columns are neighbours:
//   codes    [n_tiles * 32 chunks][B][4]     int8, in [-127, 127]
//   scales   [n_tiles * 128 / group][B]      f32
//   sums     [n_tiles * 128 / group][B]      int32, of the group's codes
//   offsets  [n_tiles * 128 / span][B][2]    int16, -8 x the sum of codes 0 and 1 of all chunks of
//   a
//            span of min(group, 64) columns, and of codes 2 and 3: where 16-bit sums start from, so
//            that they end up without the nibbles' zero point
// and padding up to a multiple of 64 bytes. Columns beyond n_cols have code 0; slots that no token
// fills may hold anything, for their results are not written.
//
// The rule: m = max |x| of the group; scale = m / 127; code = x * (127 / m), rounded to nearest,
// ties to even. A group below kTinyActivation is all zeros, scale too. A group with an infinity or
// a NaN gets the scale NaN and codes 0, so that its results are NaN and nobody trusts them. The sum
// of squares of RMSNorm is made of 16 lanes (element i goes to lane i mod 16 by fused
// multiply-add), halved by adding lane l + 8, then l + 4, l + 2, l + 1. So codes, too, are the same
// on every instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/kernels/kernel_set.h"
#include "engine/kernels/layout.h"

namespace tandem::kernels {

// Tokens of a block for a batch of so many: the smallest of kGemvTokens that holds them, else
// set.panel_tokens.
int BlockTokens(const TileSet& set, int64_t n_tokens);

// Bytes that QuantizeTokens writes for n_tokens >= 1.
int64_t ActivationBytes(const TileSet& set, int64_t n_tokens, int64_t n_cols, int group);

// Quantises tokens [begin, end) of a batch of n_tokens; several threads may share a batch.
//   x        [n_tokens, x_stride] f32, n_cols of each row are read
//   weight   [n_cols] f32 of an RMSNorm that comes first, or null for none; eps is its epsilon
//   group    GetScheme(scheme).group of the matrices that will read them
//   dst      ActivationBytes(set, n_tokens, n_cols, group), aligned to 64
// Cost: about a microsecond for 3,072 columns on one core with AVX2.
void QuantizeTokens(const TileSet& set, const float* x, int64_t x_stride, const float* weight,
                    double eps, int64_t begin, int64_t end, int64_t n_tokens, int64_t n_cols,
                    int group, std::byte* dst);

// One token of a batch, in a block of one, as TileSet::fine_dot reads it.
//   activations  of QuantizeTokens, with the same n_tokens, n_cols and group;  t in [0, n_tokens)
//   block (out)  ActivationBytes(set, 1, n_cols, group), aligned to 64; its sums and offsets are
//                left as they are
void CopyToken(const TileSet& set, const std::byte* activations, int64_t t, int64_t n_tokens,
               int64_t n_cols, int group, std::byte* block);

// The Euclidean norm of a token as it was quantised; NaN for one that is not finite.
//   block  of CopyToken
double TokenNorm(const std::byte* block, int64_t n_cols, int group);

// y = x W^T for the rows of consecutive strips.
//   strips       as TileKernels wants them, n_rows rows of n_cols columns
//   activations  of QuantizeTokens, with the scheme's group, n_cols and n_tokens
//   y (out)      y[t * y_stride + r] f32
// Thread: any; never allocates. Cost: reads the strips once for any n_tokens.
void MultiplyStrips(const TileSet& set, Scheme scheme, const std::byte* strips, int64_t n_rows,
                    int64_t n_cols, const std::byte* activations, int64_t n_tokens, float* y,
                    int64_t y_stride);

}  // namespace tandem::kernels
