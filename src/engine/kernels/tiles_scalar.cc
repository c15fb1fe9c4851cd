// The reference of the tile kernels, and what runs where no other set does.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "engine/kernels/fine_plane.h"
#include "engine/kernels/tile_internal.h"
#include "engine/quant/half.h"

namespace tandem::kernels {
namespace {

constexpr int kPanelTokens = 4;

// products[r] of one group: columns [group * kGroup, ...) of the tile.
//   x  the group's chunks of one token, `stride` bytes apart
template <Scheme scheme>
void MultiplyGroup(const uint8_t* codes, const int8_t* x, int64_t stride, int32_t sum,
                   int32_t (&products)[kStripRows]) {
  using Traits = SchemeTraits<scheme>;
  constexpr int kChunks = Traits::kGroup / 4;
  // Nibbles are code + 8.
  for (int32_t& product : products) product = Traits::kInt4 ? -8 * sum : 0;
  for (int chunk = 0; chunk < kChunks; ++chunk, x += stride) {
    const uint8_t* vector = codes + 64 * (Traits::kInt4 ? chunk / 2 : chunk);
    for (int r = 0; r < kStripRows; ++r) {
      for (int j = 0; j < 4; ++j) {
        const uint8_t byte = vector[4 * r + j];
        int code = static_cast<int8_t>(byte);
        if constexpr (Traits::kInt4) code = chunk % 2 == 1 ? byte >> 4 : byte & 15;
        products[r] += code * x[j];
      }
    }
  }
}

template <Scheme scheme>
void gemv_f32_q8_any_16x1_scalar(const std::byte* strips, int64_t n_rows, int64_t n_tiles,
                                 const std::byte* block, int block_tokens, int n_tokens, float* y,
                                 int64_t y_stride) {
  using Traits = SchemeTraits<scheme>;
  const int64_t scale_bytes = RoundUp64(n_tiles * Traits::kTileScaleBytes);
  const int64_t strip_bytes = scale_bytes + n_tiles * Traits::kTileBytes;
  const float* x_scales = BlockScales(block, n_tiles, block_tokens);
  const int32_t* x_sums = BlockSums(block, n_tiles, Traits::kGroup, block_tokens);
  for (int64_t row = 0; row < n_rows; row += kStripRows, strips += strip_bytes) {
    const auto* codes = reinterpret_cast<const uint8_t*>(strips + scale_bytes);
    for (int t = 0; t < n_tokens; ++t) {
      const auto* x = reinterpret_cast<const int8_t*>(block) + 4 * t;
      const int64_t stride = 4 * block_tokens;
      float acc[kStripRows] = {};
      for (int64_t g = 0; g < n_tiles * Traits::kGroupsPerTile; ++g) {
        const int64_t slot = g * block_tokens + t;
        int32_t products[kStripRows];
        MultiplyGroup<scheme>(codes + g * (Traits::kTileBytes / Traits::kGroupsPerTile),
                              x + g * (Traits::kGroup / 4) * stride, stride, x_sums[slot],
                              products);
        for (int r = 0; r < kStripRows; ++r) {
          uint16_t half;
          std::memcpy(&half, strips + (g * kStripRows + r) * 2, sizeof half);
          const float scale = quant::HalfToFloat(half) * x_scales[slot];
          acc[r] = std::fma(static_cast<float>(products[r]), scale, acc[r]);
        }
      }
      const int64_t valid = Min(kStripRows, n_rows - row);
      std::copy_n(acc, valid, y + t * y_stride + row);
    }
  }
}

template <Scheme scheme>
void gemm_f32_q8_any_16x1_scalar(const std::byte* strips, int64_t n_rows, int64_t n_tiles,
                                 const std::byte* blocks, int64_t n_tokens, float* y,
                                 int64_t y_stride) {
  const int64_t block_bytes = BlockBytes(n_tiles, SchemeTraits<scheme>::kGroup, kPanelTokens);
  for (int64_t t = 0; t < n_tokens; t += kPanelTokens, blocks += block_bytes) {
    const auto n = static_cast<int>(std::min<int64_t>(kPanelTokens, n_tokens - t));
    gemv_f32_q8_any_16x1_scalar<scheme>(strips, n_rows, n_tiles, blocks, kPanelTokens, n,
                                        y + t * y_stride, y_stride);
  }
}

// One group of floats into its place; missing columns are zeros in x.
//   offsets  of the group's spans, block_tokens apart
void QuantizeGroup(const float* x, int group, int block_tokens, int8_t* codes, float* scale,
                   int32_t* sum, int32_t* offsets) {
  uint32_t largest = 0;  // as bits: positive floats compare as integers, and a NaN is above all
  for (int i = 0; i < group; ++i) {
    largest = std::max(largest, std::bit_cast<uint32_t>(x[i]) & 0x7FFFFFFF);
  }
  const float magnitude = std::bit_cast<float>(largest);
  const bool finite = std::isfinite(magnitude);
  float factor = 0;
  *scale = 0;
  if (!finite) {
    *scale = std::numeric_limits<float>::quiet_NaN();
  } else if (magnitude >= kTinyActivation) {
    factor = 127.0F / magnitude;
    *scale = magnitude / 127.0F;
  }
  const int span = SpanCols(group);
  *sum = 0;
  for (int begin = 0; begin < group; begin += span) {
    int sums[2] = {};  // of the first and the second half of the chunks
    for (int i = begin; i < begin + span; ++i) {
      const auto code = static_cast<int8_t>(finite ? std::nearbyint(x[i] * factor) : 0.0F);
      codes[i / 4 * 4 * block_tokens + i % 4] = code;
      sums[i % 4 / 2] += code;
    }
    *sum += sums[0] + sums[1];
    const int16_t pair[2] = {static_cast<int16_t>(-8 * sums[0]),
                             static_cast<int16_t>(-8 * sums[1])};
    std::memcpy(offsets + begin / span * block_tokens, pair, sizeof pair);
  }
}

// Quantises what value(i) gives for columns 0..n_cols - 1.
template <typename Value>
void QuantizeToken(int64_t n_cols, int group, int block_tokens, int slot, std::byte* block,
                   Value value) {
  const int64_t n_tiles = TileCount(n_cols);
  auto* codes = reinterpret_cast<int8_t*>(block);
  auto* scales = const_cast<float*>(BlockScales(block, n_tiles, block_tokens));
  auto* sums = const_cast<int32_t*>(BlockSums(block, n_tiles, group, block_tokens));
  auto* offsets = const_cast<int32_t*>(BlockOffsets(block, n_tiles, group, block_tokens));
  for (int64_t g = 0; g < n_tiles * kTileCols / group; ++g) {
    float x[kTileCols] = {};
    for (int64_t i = g * group; i < std::min(n_cols, (g + 1) * group); ++i) {
      x[i - g * group] = value(i);
    }
    QuantizeGroup(x, group, block_tokens, codes + (g * group * block_tokens + 4 * slot),
                  scales + g * block_tokens + slot, sums + g * block_tokens + slot,
                  offsets + g * (group / SpanCols(group)) * block_tokens + slot);
  }
}

void quantize_q8_f32_1x1_scalar(const float* x, int64_t n_cols, int group, int block_tokens,
                                int slot, std::byte* block) {
  QuantizeToken(n_cols, group, block_tokens, slot, block, [&](int64_t i) { return x[i]; });
}

void norm_quantize_q8_f32_1x1_scalar(const float* x, const float* weight, double eps,
                                     int64_t n_cols, int group, int block_tokens, int slot,
                                     std::byte* block) {
  float lanes[16] = {};
  for (int64_t i = 0; i < n_cols; ++i) lanes[i % 16] = std::fma(x[i], x[i], lanes[i % 16]);
  for (int half = 8; half > 0; half /= 2) {
    for (int l = 0; l < half; ++l) lanes[l] += lanes[l + half];
  }
  const double mean = double{lanes[0]} / static_cast<double>(n_cols);
  const auto scale = static_cast<float>(1.0 / std::sqrt(mean + eps));
  QuantizeToken(n_cols, group, block_tokens, slot, block,
                [&](int64_t i) { return x[i] * scale * weight[i]; });
}

float fine_dot_f32_q8_qf_1x1_scalar(const std::byte* codes, const std::byte* scales, int bits,
                                    int group, int64_t n_tiles, const std::byte* block) {
  constexpr int kLanes = 8;
  const auto* x = reinterpret_cast<const int8_t*>(block);
  const float* x_scales = BlockScales(block, n_tiles, 1);
  const float step = 1.0F / static_cast<float>(1 << bits);
  float acc[kLanes] = {};
  for (int64_t tile = 0; tile < n_tiles; ++tile) {
    int8_t fine[kTileCols];
    UnpackFineRow(bits, codes + tile * (kTileCols / 8) * bits, fine);
    for (int begin = 0; begin < kTileCols; begin += group) {
      int32_t sums[kLanes] = {};
      for (int i = begin; i < begin + group; ++i) {
        sums[i / 4 % kLanes] += fine[i] * x[tile * kTileCols + i];
      }
      uint16_t half;
      std::memcpy(&half, scales, sizeof half);
      scales += kStripRows * 2;
      const float scale = quant::HalfToFloat(half) * step * *x_scales++;
      for (int l = 0; l < kLanes; ++l) {
        acc[l] = std::fma(static_cast<float>(sums[l]), scale, acc[l]);
      }
    }
  }
  return ((acc[0] + acc[4]) + (acc[2] + acc[6])) + ((acc[1] + acc[5]) + (acc[3] + acc[7]));
}

template <Scheme scheme>
constexpr void Register(TileSet* set) {
  set->schemes[static_cast<int>(scheme)] = {.gemv = gemv_f32_q8_any_16x1_scalar<scheme>,
                                            .gemm = gemm_f32_q8_any_16x1_scalar<scheme>};
}

consteval TileSet MakeSet() {
  TileSet set;
  Register<Scheme::kInt4G128>(&set);
  Register<Scheme::kInt4G32>(&set);
  Register<Scheme::kInt8G128>(&set);
  Register<Scheme::kInt8G32>(&set);
  set.panel_tokens = kPanelTokens;
  set.quantize = quantize_q8_f32_1x1_scalar;
  set.norm_quantize = norm_quantize_q8_f32_1x1_scalar;
  set.fine_dot = fine_dot_f32_q8_qf_1x1_scalar;
  return set;
}

}  // namespace

constinit const TileSet kTilesScalar = MakeSet();

}  // namespace tandem::kernels
