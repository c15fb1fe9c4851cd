// Normalisation and the gated unit of the feed-forward block, a token at a time.
#pragma once

#include <cstdint>

#include "engine/kernels/kernels.h"

namespace tandem::ops {

// out = x / sqrt(mean(x^2) + eps) * weight.
//   x, weight [n] f32;  out [n] f32, may be x
// Source: RMSNorm, arXiv:1910.07467.
void RmsNorm(const kernels::KernelSet& kernels, const float* x, const float* weight, double eps,
             int64_t n, float* out);

// x += delta.
//   x, delta [n] f32
void Add(float* x, const float* delta, int64_t n);

}  // namespace tandem::ops
