// Softmax attention over cached keys and values, and putting them there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/kernels/kernels.h"
#include "engine/kernels/kv_tile.h"

namespace tandem::ops {

using kernels::KvType;

// What all tokens of a step share.
struct AttentionShape {
  KvType type = KvType::kF32;
  int head_dim = 0;
  int n_queries = 0;  // query heads that share a KV head
};

// Tokens of a block that Attend() is best called with: as many as share a tile while it is in the
// cache, and fill its scratch memory.
int BlockTokens(const AttentionShape& shape);
// Bytes of scratch that Attend() and StoreKeyAndValue() need per thread, aligned as floats.
int64_t AttentionScratchBytes(int head_dim);

// Puts a key (rotated by its position) and a value into their place in a tile; of kInt8 rounded to
// 8 bits after a Hadamard rotation (kernels/kv_tile.h).
//   key, value [head_dim] f32;  slot in [0, kTilePositions)
//   scratch [AttentionScratchBytes(head_dim)]
// Thread: any; no two for the same slot of a tile. Never allocates.
void StoreKeyAndValue(const kernels::KernelSet& kernels, const AttentionShape& shape,
                      const float* key, const float* value, int slot, std::byte* tile,
                      std::span<std::byte> scratch);

// out[q] = sum over p of softmax_p(<query q, key p> / sqrt(head_dim)) * value p, for consecutive
// tokens of one sequence and the query heads that share one KV head; a token sees the positions up
// to its own. Each row goes through the tiles in order, with a running maximum and sum: what comes
// out depends on the token and the positions before it alone.
//   queries  [n_tokens, query_stride], of each the first [n_queries, head_dim] f32, rotated
//   tiles    those of positions 0 .. first_position + n_tokens - 1, each at tile_offset behind its
//            pointer
//   out      (out) [n_tokens, out_stride], of each the first [n_queries, head_dim] f32
//   scratch  [AttentionScratchBytes(head_dim)]
// Thread: any. Never allocates.
// Cost:   streams the tiles once per BlockTokens() tokens.
// Source: online softmax, arXiv:1805.02867; grouped queries, arXiv:2305.13245.
void Attend(const kernels::KernelSet& kernels, const AttentionShape& shape, const float* queries,
            int64_t query_stride, int n_tokens, int first_position,
            std::span<const std::byte* const> tiles, size_t tile_offset, float* out,
            int64_t out_stride, std::span<std::byte> scratch);

}  // namespace tandem::ops
