#include "engine/ops/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tandem::ops {
namespace {

using kernels::kMaxQueries;
using kernels::kTilePositions;

// At most kMaxQueries heads.
void AttendQueries(const kernels::KernelSet& kernels, const kernels::AttentionKernels& attention,
                   const float* queries, int n_queries, const std::byte* keys,
                   const std::byte* values, size_t row_bytes, int n_positions, int head_dim,
                   float scale, float* out) {
  float scores[kMaxQueries * kTilePositions];
  float max[kMaxQueries];
  float sum[kMaxQueries] = {};
  std::fill_n(max, kMaxQueries, -std::numeric_limits<float>::infinity());
  std::fill_n(out, static_cast<size_t>(n_queries) * head_dim, 0.0F);

  for (int begin = 0; begin < n_positions; begin += kTilePositions) {
    const int n = std::min(kTilePositions, n_positions - begin);
    attention.qk(queries, n_queries, keys + begin * row_bytes, n, head_dim, scale, scores);
    for (int q = 0; q < n_queries; ++q) {
      float* tile = scores + q * kTilePositions;
      const float tile_max = *std::max_element(tile, tile + n);
      if (tile_max > max[q]) {
        // exp(-inf) is 0 in the first tile, where there is nothing to scale yet.
        const float correction = std::exp(max[q] - tile_max);
        sum[q] *= correction;
        for (int d = 0; d < head_dim; ++d) out[q * head_dim + d] *= correction;
        max[q] = tile_max;
      }
      sum[q] += kernels.exp_sum(tile, n, max[q]);
    }
    attention.av(scores, n_queries, values + begin * row_bytes, n, head_dim, out);
  }
  for (int q = 0; q < n_queries; ++q) {
    for (int d = 0; d < head_dim; ++d) out[q * head_dim + d] /= sum[q];
  }
}

}  // namespace

void Attend(const kernels::KernelSet& kernels, const kernels::AttentionKernels& attention,
            const float* queries, int n_queries, const std::byte* keys, const std::byte* values,
            size_t row_bytes, int n_positions, int head_dim, float scale, float* out) {
  for (int q = 0; q < n_queries; q += kMaxQueries) {
    AttendQueries(kernels, attention, queries + static_cast<size_t>(q) * head_dim,
                  std::min(kMaxQueries, n_queries - q), keys, values, row_bytes, n_positions,
                  head_dim, scale, out + static_cast<size_t>(q) * head_dim);
  }
}

}  // namespace tandem::ops
