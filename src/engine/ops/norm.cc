#include "engine/ops/norm.h"

#include <cmath>

namespace tandem::ops {

void RmsNorm(const kernels::KernelSet& kernels, const float* x, const float* weight, double eps,
             int64_t n, float* out) {
  const double mean = double{kernels.dot(x, x, n)} / static_cast<double>(n);
  const auto scale = static_cast<float>(1.0 / std::sqrt(mean + eps));
  for (int64_t i = 0; i < n; ++i) out[i] = x[i] * scale * weight[i];
}

void Add(float* x, const float* delta, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] += delta[i];
}

}  // namespace tandem::ops
