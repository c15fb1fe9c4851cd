// Charter of ops/: the operations of a transformer over plain views, on a thread pool: matrix
// products, RMSNorm, rotary embedding, attention, SwiGLU. It may include base, quant and kernels.
// Deliberately absent: models, files, who owns the memory.
//
// No result depends on the number of threads or on how many tokens are computed together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/kernels/kernels.h"
#include "engine/ops/thread_pool.h"
#include "engine/quant/types.h"

namespace tandem::ops {

// A view of a weight matrix [n_rows, n_cols]: rows of GGUF blocks, one after the other. Row r makes
// output r.
struct Matrix {
  quant::Type type = quant::Type::kF32;
  const std::byte* data = nullptr;
  int64_t n_rows = 0;
  int64_t n_cols = 0;  // a multiple of the type's block
  size_t row_bytes = 0;

  uint64_t bytes() const { return static_cast<uint64_t>(n_rows) * row_bytes; }
};

// Floats of scratch that MatMul needs per thread for matrices of so many columns.
int64_t PanelFloats(int64_t n_cols);

// y = x W^T for one matrix, or for several side by side that read the same x.
//   parts   all with the same n_cols; rows of part i + 1 follow those of part i in y
//   x       [n_tokens, n_cols] f32
//   y (out) [n_tokens, sum of n_rows] f32, not overlapping x
//   panels  [pool.n_threads(), PanelFloats(n_cols)] f32, scratch
// Thread: the pool's caller. Never allocates.
// Cost:   reads the weights once for any n_tokens; for more than one token a strip of rows is
//         dequantised once and then multiplied with all of them.
void MatMul(const kernels::KernelSet& kernels, ThreadPool& pool, std::span<const Matrix> parts,
            const float* x, int64_t n_tokens, float* y, std::span<float> panels);

}  // namespace tandem::ops
