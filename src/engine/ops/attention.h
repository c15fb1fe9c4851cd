// Softmax attention of one token over the cached keys and values of one KV head.
#pragma once

#include <cstddef>

#include "engine/kernels/kernels.h"

namespace tandem::ops {

// out[q] = sum over p of softmax_p(scale * <query q, key p>) * value p, for the query heads that
// share this KV head. Goes through the positions once, in tiles of kernels::kTilePositions, in
// order, with a running maximum and sum: what comes out depends on the token and the positions
// before it alone.
//   queries   [n_queries, head_dim] f32, rotated
//   keys, values [n_positions, head_dim] of the kernels' element, n_positions >= 1
//   out (out) [n_queries, head_dim] f32
// Thread: any. Never allocates.
// Source: online softmax, arXiv:1805.02867; grouped queries, arXiv:2305.13245.
void Attend(const kernels::KernelSet& kernels, const kernels::AttentionKernels& attention,
            const float* queries, int n_queries, const std::byte* keys, const std::byte* values,
            size_t row_bytes, int n_positions, int head_dim, float scale, float* out);

}  // namespace tandem::ops
