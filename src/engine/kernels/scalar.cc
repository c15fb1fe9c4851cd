// The reference: plain loops in the order that kernels.h promises. Also what runs on a CPU that no
// other set supports.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/kernels/kernel_set.h"
#include "engine/quant/codec.h"

namespace tandem::kernels {
namespace {

using quant::Type;

struct Lanes {
  float lane[8] = {};

  // Element i of a and b belongs to lane i mod 8; call with whole multiples of 8 until the last.
  void Add(const float* a, const float* b, int64_t n) {
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
      for (int l = 0; l < 8; ++l) lane[l] += a[i + l] * b[i + l];
    }
    for (int l = 0; i + l < n; ++l) lane[l] += a[i + l] * b[i + l];
  }

  float Sum() const {
    const float even = (lane[0] + lane[4]) + (lane[2] + lane[6]);
    const float odd = (lane[1] + lane[5]) + (lane[3] + lane[7]);
    return even + odd;
  }
};

// A whole number of blocks of every type, and a multiple of 8.
constexpr int64_t kChunk = 256;

template <Type type>
void gemv_f32_f32_any_1x8_scalar(const std::byte* weights, size_t row_bytes, int64_t n_rows,
                                 int64_t k, const float* x, float* y) {
  float chunk[kChunk];
  const size_t chunk_bytes = quant::RowBytes(type, kChunk);
  for (int64_t r = 0; r < n_rows; ++r) {
    Lanes lanes;
    const std::byte* row = weights + r * row_bytes;
    for (int64_t begin = 0; begin < k; begin += kChunk, row += chunk_bytes) {
      const int64_t n = std::min(kChunk, k - begin);
      quant::DequantizeRow(type, row, chunk, n);
      lanes.Add(chunk, x + begin, n);
    }
    y[r] = lanes.Sum();
  }
}

template <Type type>
void unpack_f32_any_1x1_scalar(const std::byte* weights, int64_t k, float* dst) {
  quant::DequantizeRow(type, weights, dst, k);
}

float dot_f32_f32_f32_1x8_scalar(const float* a, const float* b, int64_t n) {
  Lanes lanes;
  lanes.Add(a, b, n);
  return lanes.Sum();
}

void gemm_f32_f32_f32_1x1_scalar(const float* panel, int64_t panel_stride, int64_t n_rows,
                                 int64_t k, const float* x, int64_t x_stride, int64_t n_tokens,
                                 float* y, int64_t y_stride) {
  for (int64_t t = 0; t < n_tokens; ++t) {
    for (int64_t r = 0; r < n_rows; ++r) {
      y[t * y_stride + r] =
          dot_f32_f32_f32_1x8_scalar(panel + r * panel_stride, x + t * x_stride, k);
    }
  }
}

// One row of a cache plane as floats.
template <typename Element>
void LoadRow(const std::byte* row, int head_dim, float* dst) {
  if constexpr (sizeof(Element) == sizeof(float)) {
    std::memcpy(dst, row, sizeof(float) * head_dim);
  } else {
    for (int d = 0; d < head_dim; ++d) {
      uint16_t half;
      std::memcpy(&half, row + 2 * d, 2);
      dst[d] = quant::HalfToFloat(half);
    }
  }
}

// Any head_dim, eight elements at a time, so that no buffer bounds it.
template <typename Element>
void qk_f32_f32_any_1x8_scalar(const float* queries, int n_queries, const std::byte* keys,
                               int n_positions, int head_dim, float scale, float* scores) {
  for (int p = 0; p < n_positions; ++p) {
    const std::byte* key = keys + static_cast<size_t>(p) * head_dim * sizeof(Element);
    Lanes lanes[kMaxQueries];
    for (int d = 0; d < head_dim; d += 8) {
      float values[8];
      LoadRow<Element>(key + d * sizeof(Element), 8, values);
      for (int q = 0; q < n_queries; ++q) lanes[q].Add(queries + q * head_dim + d, values, 8);
    }
    for (int q = 0; q < n_queries; ++q) scores[q * kTilePositions + p] = lanes[q].Sum() * scale;
  }
}

template <typename Element>
void av_f32_f32_any_1x8_scalar(const float* weights, int n_queries, const std::byte* values,
                               int n_positions, int head_dim, float* out) {
  for (int p = 0; p < n_positions; ++p) {
    const std::byte* value = values + static_cast<size_t>(p) * head_dim * sizeof(Element);
    for (int d = 0; d < head_dim; d += 8) {
      float row[8];
      LoadRow<Element>(value + d * sizeof(Element), 8, row);
      for (int q = 0; q < n_queries; ++q) {
        for (int l = 0; l < 8; ++l) {
          out[q * head_dim + d + l] += weights[q * kTilePositions + p] * row[l];
        }
      }
    }
  }
}

// exp for x in [-87.3, 88]: 2^n * e^r with |r| <= ln2 / 2, e^r by its Taylor series to degree 7,
// whose remainder is below 6e-9.
float Exp(float x) {
  if (std::isnan(x)) return x;  // no integer to scale by
  constexpr float kLog2E = 1.44269504F;
  constexpr float kLn2High = 0.693359375F;    // few bits: n * kLn2High is exact
  constexpr float kLn2Low = -2.12194440e-4F;  // ln 2 - kLn2High
  const float n = std::nearbyint(x * kLog2E);
  const float r = (x - n * kLn2High) - n * kLn2Low;
  float e = 1.0F / 5040;
  e = e * r + 1.0F / 720;
  e = e * r + 1.0F / 120;
  e = e * r + 1.0F / 24;
  e = e * r + 1.0F / 6;
  e = e * r + 0.5F;
  e = e * r + 1.0F;
  e = e * r + 1.0F;
  return std::ldexp(e, static_cast<int>(n));
}

float exp_sum_f32_1x8_scalar(float* x, int64_t n, float max) {
  float lanes[8] = {};
  for (int64_t i = 0; i < n; ++i) {
    const float shifted = x[i] - max;
    // The comparison is written so that a NaN stays one.
    x[i] = shifted < kExpZeroBelow ? 0.0F : Exp(shifted);
    lanes[i % 8] += x[i];
  }
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
         ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

void silu_mul_f32_1x8_scalar(const float* gate, const float* up, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) {
    const float negated = std::min(std::max(-gate[i], kExpZeroBelow), kExpLargest);
    out[i] = gate[i] / (1.0F + Exp(negated)) * up[i];
  }
}

void half_from_float_1x1_scalar(const float* src, int64_t n, uint16_t* dst) {
  for (int64_t i = 0; i < n; ++i) dst[i] = quant::FloatToHalf(src[i]);
}

template <Type type>
constexpr void Register(KernelSet* set) {
  set->types[static_cast<int>(type)] = {.gemv = gemv_f32_f32_any_1x8_scalar<type>,
                                        .unpack = unpack_f32_any_1x1_scalar<type>};
}

consteval KernelSet MakeSet() {
  KernelSet set;
  set.isa = Isa::kScalar;
  Register<Type::kF32>(&set);
  Register<Type::kF16>(&set);
  Register<Type::kBF16>(&set);
  Register<Type::kQ8_0>(&set);
  Register<Type::kQ4_0>(&set);
  Register<Type::kQ4_1>(&set);
  Register<Type::kQ5_0>(&set);
  Register<Type::kQ4_K>(&set);
  Register<Type::kQ5_K>(&set);
  Register<Type::kQ6_K>(&set);
  Register<Type::kIQ4_NL>(&set);
  set.attention_f32 = {.qk = qk_f32_f32_any_1x8_scalar<float>,
                       .av = av_f32_f32_any_1x8_scalar<float>};
  set.attention_f16 = {.qk = qk_f32_f32_any_1x8_scalar<uint16_t>,
                       .av = av_f32_f32_any_1x8_scalar<uint16_t>};
  set.attention_int8 = &kIntegerAttentionScalar;
  set.gemm = gemm_f32_f32_f32_1x1_scalar;
  set.dot = dot_f32_f32_f32_1x8_scalar;
  set.exp_sum = exp_sum_f32_1x8_scalar;
  set.silu_mul = silu_mul_f32_1x8_scalar;
  set.half_from_float = half_from_float_1x1_scalar;
  set.tiles = &kTilesScalar;
  return set;
}

constexpr KernelSet kScalarSet = MakeSet();

}  // namespace

const KernelSet& ScalarKernels() { return kScalarSet; }

}  // namespace tandem::kernels
