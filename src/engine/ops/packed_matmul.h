// Products with packed weights: integers inside a group, the same bits on every machine, for any
// number of tokens and threads (engine/kernels/activations.h has the arithmetic).
//
//   QuantizeTokens(kernels, pool, x, norm, eps, n_tokens, n_cols, group, activations);
//   MatMul(kernels, pool, {&qkv, 1}, activations, n_tokens, y);
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/kernels/kernels.h"
#include "engine/kernels/layout.h"
#include "engine/ops/thread_pool.h"

namespace tandem::ops {

// A view of a weight matrix [n_rows, n_cols] in kernel layout. Row r makes output r.
struct PackedMatrix {
  kernels::Scheme scheme = kernels::Scheme::kInt4G128;
  const std::byte* data = nullptr;  // aligned to kernels::kStripAlignment
  int64_t n_rows = 0;
  int64_t n_cols = 0;

  uint64_t bytes() const {
    return static_cast<uint64_t>(kernels::StripCount(n_rows) * kernels::StripBytes(scheme, n_cols));
  }
  int group() const { return kernels::GetScheme(scheme).group; }
};

// Bytes that hold the activations of any batch of up to max_tokens, for any scheme.
int64_t ActivationBytes(const kernels::KernelSet& kernels, int64_t max_tokens, int64_t n_cols);

// Quantises a batch, after an RMSNorm where `weight` is not null.
//   x [n_tokens, n_cols] f32;  weight [n_cols] f32 or null
//   group  that of the matrices which will read them
//   activations (out)  ActivationBytes() of these tokens, aligned to 64
// Thread: the pool's caller. Never allocates.
void QuantizeTokens(const kernels::KernelSet& kernels, ThreadPool& pool, const float* x,
                    const float* weight, double eps, int64_t n_tokens, int64_t n_cols, int group,
                    std::span<std::byte> activations);

// y = x W^T for one matrix, or for several side by side that read the same activations.
//   parts   all with the same n_cols and group; rows of part i + 1 follow those of part i in y
//   y (out) [n_tokens, sum of n_rows] f32
// Thread: the pool's caller. Never allocates.
// Cost:   reads the weights once for any n_tokens.
void MatMul(const kernels::KernelSet& kernels, ThreadPool& pool,
            std::span<const PackedMatrix> parts, std::span<const std::byte> activations,
            int64_t n_tokens, float* y);

// Floats of scratch that GatedMatMul needs per thread.
int64_t GateFloats(int64_t max_tokens);

// out = silu(x G^T) * (x U^T), with the rows of G and U in turn by strips: gate_up's strip 2 i
// holds rows 16 i .. 16 i + 15 of G, strip 2 i + 1 those of U. Neither product leaves the cache.
//   gate_up   [2 * 16 * ceil(width / 16), n_cols]
//   out (out) [n_tokens, width] f32
//   scratch   [pool.n_threads(), GateFloats(n_tokens)] f32
// Thread: the pool's caller. Never allocates.
// Source: SwiGLU, arXiv:2002.05202.
void GatedMatMul(const kernels::KernelSet& kernels, ThreadPool& pool, const PackedMatrix& gate_up,
                 std::span<const std::byte> activations, int64_t n_tokens, int64_t width,
                 float* out, std::span<float> scratch);

}  // namespace tandem::ops
