// The reference of attention over int8 tiles: plain loops.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/kernels/kernel_set.h"

namespace tandem::kernels {
namespace {

// The same butterflies, in the same order of operands, as every other set.
void hadamard_f32_1x1_scalar(float* x, int n, int block) {
  for (int half = 1; half < block; half *= 2) {
    for (int begin = 0; begin < n; begin += 2 * half) {
      for (int i = begin; i < begin + half; ++i) {
        const float a = x[i];
        const float b = x[i + half];
        x[i] = a + b;
        x[i + half] = a - b;
      }
    }
  }
}

float MaxMagnitude(const float* x, int n) {
  float max = 0;
  for (int i = 0; i < n; ++i) {
    const float magnitude = std::fabs(x[i]);
    // Written so that a NaN stays one.
    if (!(magnitude <= max)) max = magnitude;
    if (std::isnan(max)) return max;
  }
  return max;
}

template <typename Code>
float Quantize(const float* x, int n, float limit, Code* codes) {
  const float max = MaxMagnitude(x, n);
  if (max < kTinyCode || !std::isfinite(max)) {
    std::fill_n(codes, n, Code{0});
    return max < kTinyCode ? 0.0F : NAN;
  }
  const float inverse = limit / max;
  for (int i = 0; i < n; ++i) codes[i] = static_cast<Code>(std::nearbyint(x[i] * inverse));
  return max / limit;
}

float quantize_s8_f32_1x1_scalar(const float* x, int n, int8_t* codes) {
  return Quantize(x, n, 127.0F, codes);
}

float quantize_s16_f32_1x1_scalar(const float* x, int n, float limit, int16_t* codes) {
  return Quantize(x, n, limit, codes);
}

void multiply_s32_s16_s8_1x1_scalar(const int16_t* a, int a_stride, int n_rows, const int8_t* b,
                                    int b_stride, int n, int n_k, int32_t* c, int c_stride) {
  for (int r = 0; r < n_rows; ++r) {
    std::fill_n(c + r * c_stride, n, 0);
    for (int k = 0; k < n_k; k += 2) {
      const int8_t* pairs = b + k * b_stride;
      const int32_t first = a[r * a_stride + k];
      const int32_t second = a[r * a_stride + k + 1];
      for (int j = 0; j < n; ++j) {
        c[r * c_stride + j] += first * pairs[2 * j] + second * pairs[2 * j + 1];
      }
    }
  }
}

void softmax_s16_s32_1x1_scalar(const int32_t* dots, int n, float query_scale,
                                const float* key_scales, const float* value_scales, SoftmaxRow* row,
                                int16_t* weights) {
  float scores[kTilePositions];
  float max = row->max;
  for (int p = 0; p < n; ++p) {
    scores[p] = static_cast<float>(dots[p]) * (query_scale * key_scales[p]);
    max = std::max(max, scores[p]);
  }
  float correction[1] = {row->max};
  ScalarKernels().exp_sum(correction, 1, max);
  row->correction = correction[0];
  row->sum = row->sum * row->correction + ScalarKernels().exp_sum(scores, n, max);
  row->max = max;
  float largest = 0;
  for (int p = 0; p < n; ++p) {
    scores[p] *= value_scales[p];
    // A NaN stays: nothing is greater.
    if (scores[p] > largest || std::isnan(scores[p])) largest = scores[p];
  }
  std::fill_n(weights, kTilePositions, int16_t{0});
  if (!(largest >= kTinyCode && largest <= 3e38F)) {
    row->weight_scale = largest < kTinyCode ? 0.0F : NAN;
    return;
  }
  const float inverse = kWeightLimit / largest;
  for (int p = 0; p < n; ++p) {
    weights[p] = static_cast<int16_t>(std::nearbyint(std::max(scores[p], 0.0F) * inverse));
  }
  row->weight_scale = largest / kWeightLimit;
}

void accumulate_f32_s32_1x1_scalar(const int32_t* c, float correction, float scale, int n,
                                   float* out) {
  for (int i = 0; i < n; ++i) out[i] = out[i] * correction + static_cast<float>(c[i]) * scale;
}

}  // namespace

const IntegerAttention kIntegerAttentionScalar = {
    .hadamard = hadamard_f32_1x1_scalar,
    .quantize_s8 = quantize_s8_f32_1x1_scalar,
    .quantize_s16 = quantize_s16_f32_1x1_scalar,
    .multiply = multiply_s32_s16_s8_1x1_scalar,
    .softmax = softmax_s16_s32_1x1_scalar,
    .accumulate = accumulate_f32_s32_1x1_scalar,
};

}  // namespace tandem::kernels
