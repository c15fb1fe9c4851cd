#include "engine/ops/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace tandem::ops {
namespace {

using kernels::kMaxQueries;
using kernels::kTilePositions;
using kernels::SoftmaxRow;

// Rows (tokens times their query heads) that go through the tiles together: enough to make the
// fetching of a tile cheap, few enough that their queries and sums stay in the second-level cache.
// A multiple of kMaxQueries, and of 3 as Phi's heads are.
constexpr int kBlockRows = 48;

// The scratch memory of a thread, cut up.
struct Scratch {
  Scratch(std::span<std::byte> bytes, int head_dim)
      : queries(reinterpret_cast<float*>(bytes.data())),
        codes(reinterpret_cast<int16_t*>(queries)),
        out(queries + kBlockRows * static_cast<int64_t>(head_dim)),
        scores(out + kBlockRows * static_cast<int64_t>(head_dim)),
        sums(reinterpret_cast<int32_t*>(scores)) {}

  float* queries;  // [kBlockRows, head_dim]; of kInt8 codes
  int16_t* codes;  // [kBlockRows, head_dim]
  float* out;      // [kBlockRows, head_dim]
  float* scores;   // [kMaxQueries, max(kTilePositions, head_dim)]; of kInt8 sums
  int32_t* sums;
};

// The rows of a call: row r is query head r % n_queries of token r / n_queries.
struct Rows {
  int n = 0;
  int n_queries = 0;
  int first_position = 0;

  // Positions that a row sees of the tile that starts at `begin`; none if not positive.
  int Visible(int row, int begin) const {
    return std::min(kTilePositions, first_position + row / n_queries + 1 - begin);
  }
};

// What codes of a query may reach, so that no sum of head_dim products with 8-bit keys overflows.
float QueryLimit(int head_dim) {
  constexpr int kMaxKey = 127;
  return static_cast<float>(
      std::min(32767, std::numeric_limits<int32_t>::max() / (kMaxKey * head_dim)));
}

void Scale(float* x, int n, float factor) {
  for (int i = 0; i < n; ++i) x[i] *= factor;
}

// One tile for rows of f32 or f16 that see the same positions of it: what is not a number in a
// later position stays there.
void FloatTile(const kernels::KernelSet& kernels, const AttentionShape& shape, const Rows& rows,
               int first_row, int n_rows, int tile_begin, const std::byte* tile, float scale,
               SoftmaxRow* states, const Scratch& scratch) {
  const kernels::AttentionKernels& attention =
      shape.type == KvType::kF16 ? kernels.attention_f16 : kernels.attention_f32;
  const int head_dim = shape.head_dim;
  float* scores = scratch.scores;
  float* out = scratch.out + int64_t{first_row} * head_dim;
  const int n_positions = rows.Visible(first_row, tile_begin);
  attention.qk(scratch.queries + int64_t{first_row} * head_dim, n_rows, tile, n_positions, head_dim,
               scale, scores);
  for (int r = 0; r < n_rows; ++r) {
    float* row = scores + r * kTilePositions;
    SoftmaxRow& state = states[first_row + r];
    const float tile_max = *std::max_element(row, row + n_positions);
    if (tile_max > state.max) {
      // exp(-inf) is 0 in the first tile, where there is nothing to scale yet.
      const float correction = std::exp(state.max - tile_max);
      state.sum *= correction;
      Scale(out + int64_t{r} * head_dim, head_dim, correction);
      state.max = tile_max;
    }
    state.sum += kernels.exp_sum(row, n_positions, state.max);
  }
  attention.av(scores, n_rows, tile + kernels::KvValuesOffset(shape.type, head_dim), n_positions,
               head_dim, out);
}

// The same of kInt8.
void IntegerTile(const kernels::IntegerAttention& attention, int head_dim, const Rows& rows,
                 int first_row, int n_rows, int tile_begin, const std::byte* tile,
                 const float* query_scales, SoftmaxRow* states, const Scratch& scratch) {
  int16_t weights[kMaxQueries * kTilePositions];
  int32_t* sums = scratch.sums;
  const int n_positions = rows.Visible(first_row + n_rows - 1, tile_begin);
  attention.multiply(scratch.codes + int64_t{first_row} * head_dim, head_dim, n_rows,
                     kernels::KeyCodes(tile), kTilePositions, (n_positions + 7) / 8 * 8, head_dim,
                     sums, kTilePositions);
  for (int r = 0; r < n_rows; ++r) {
    int16_t* row = weights + r * kTilePositions;
    SoftmaxRow& state = states[first_row + r];
    const int n = rows.Visible(first_row + r, tile_begin);
    if (n > 0) {
      attention.softmax(sums + r * kTilePositions, n, query_scales[first_row + r],
                        kernels::KeyScales(tile, head_dim), kernels::ValueScales(tile, head_dim),
                        &state, row);
    } else {
      std::fill_n(row, kTilePositions, int16_t{0});
    }
  }
  attention.multiply(weights, kTilePositions, n_rows, kernels::ValueCodes(tile, head_dim), head_dim,
                     head_dim, (n_positions + 1) / 2 * 2, sums, head_dim);
  for (int r = 0; r < n_rows; ++r) {
    if (rows.Visible(first_row + r, tile_begin) <= 0) continue;
    const SoftmaxRow& state = states[first_row + r];
    attention.accumulate(sums + int64_t{r} * head_dim, state.correction, state.weight_scale,
                         head_dim, scratch.out + int64_t{first_row + r} * head_dim);
  }
}

// What comes next is fetched while the processor computes.
void Prefetch(const std::byte* data, size_t n_bytes) {
  for (size_t i = 0; i < n_bytes; i += 64) __builtin_prefetch(data + i);
}

// At most kBlockRows rows, all of query heads that stand together.
void AttendBlock(const kernels::KernelSet& kernels, const AttentionShape& shape, const Rows& rows,
                 const float* queries, int64_t query_stride,
                 std::span<const std::byte* const> tiles, size_t tile_offset, float* out,
                 int64_t out_stride, const Scratch& scratch) {
  const int head_dim = shape.head_dim;
  const bool integers = shape.type == KvType::kInt8;
  const int hadamard = kernels::HadamardBlock(head_dim);
  const size_t tile_bytes = kernels::KvTileBytes(shape.type, head_dim);
  const float limit = QueryLimit(head_dim);
  auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)));
  if (integers) scale /= static_cast<float>(hadamard);
  const auto row_of = [&](auto* base, int64_t stride, int row) {
    return base + row / rows.n_queries * stride + int64_t{row % rows.n_queries} * head_dim;
  };

  SoftmaxRow states[kBlockRows];
  float query_scales[kBlockRows];
  for (int r = 0; r < rows.n; ++r) {
    states[r] = {.max = -std::numeric_limits<float>::infinity()};
    const float* query = row_of(queries, query_stride, r);
    if (integers) {
      // Rotated where its sums will stand.
      float* rotated = scratch.out + int64_t{r} * head_dim;
      std::copy_n(query, head_dim, rotated);
      kernels.attention_int8->hadamard(rotated, head_dim, hadamard);
      query_scales[r] =
          scale * kernels.attention_int8->quantize_s16(rotated, head_dim, limit,
                                                       scratch.codes + int64_t{r} * head_dim);
    } else {
      std::copy_n(query, head_dim, scratch.queries + int64_t{r} * head_dim);
    }
  }
  std::fill_n(scratch.out, int64_t{rows.n} * head_dim, 0.0F);

  for (size_t i = 0; i < tiles.size(); ++i) {
    const int begin = static_cast<int>(i) * kTilePositions;
    const std::byte* tile = tiles[i] + tile_offset;
    if (i + 1 < tiles.size()) Prefetch(tiles[i + 1] + tile_offset, tile_bytes);
    for (int first = 0; first < rows.n; first += kMaxQueries) {
      const int n_rows = std::min(kMaxQueries, rows.n - first);
      const int n_seen = rows.Visible(first + n_rows - 1, begin);
      if (n_seen <= 0) continue;
      if (integers) {
        IntegerTile(*kernels.attention_int8, head_dim, rows, first, n_rows, begin, tile,
                    query_scales, states, scratch);
      } else if (rows.Visible(first, begin) == n_seen) {
        FloatTile(kernels, shape, rows, first, n_rows, begin, tile, scale, states, scratch);
      } else {
        for (int r = first; r < first + n_rows; ++r) {
          if (rows.Visible(r, begin) <= 0) continue;
          FloatTile(kernels, shape, rows, r, 1, begin, tile, scale, states, scratch);
        }
      }
    }
  }
  for (int r = 0; r < rows.n; ++r) {
    float* sums = scratch.out + int64_t{r} * head_dim;
    float* dst = row_of(out, out_stride, r);
    float divisor = states[r].sum;
    if (integers) {
      kernels.attention_int8->hadamard(sums, head_dim, hadamard);
      divisor *= static_cast<float>(hadamard);
    }
    for (int d = 0; d < head_dim; ++d) dst[d] = sums[d] / divisor;
  }
}

}  // namespace

int BlockTokens(const AttentionShape& shape) { return std::max(1, kBlockRows / shape.n_queries); }

int64_t AttentionScratchBytes(int head_dim) {
  const int64_t n_floats =
      2 * kBlockRows * int64_t{head_dim} + kMaxQueries * std::max(kTilePositions, head_dim);
  return n_floats * static_cast<int64_t>(sizeof(float));
}

void StoreKeyAndValue(const kernels::KernelSet& kernels, const AttentionShape& shape,
                      const float* key, const float* value, int slot, std::byte* tile,
                      std::span<std::byte> scratch) {
  const int head_dim = shape.head_dim;
  if (shape.type != KvType::kInt8) {
    const size_t row_bytes = kernels::KvElementBytes(shape.type) * head_dim;
    std::byte* key_row = tile + slot * row_bytes;
    std::byte* value_row = key_row + kernels::KvValuesOffset(shape.type, head_dim);
    if (shape.type == KvType::kF16) {
      kernels.half_from_float(key, head_dim, reinterpret_cast<uint16_t*>(key_row));
      kernels.half_from_float(value, head_dim, reinterpret_cast<uint16_t*>(value_row));
    } else {
      std::memcpy(key_row, key, row_bytes);
      std::memcpy(value_row, value, row_bytes);
    }
    return;
  }
  const kernels::IntegerAttention& attention = *kernels.attention_int8;
  auto* rotated = reinterpret_cast<float*>(scratch.data());
  auto* codes = reinterpret_cast<int8_t*>(rotated + head_dim);
  auto* scales = reinterpret_cast<float*>(tile + kernels::KvScalesOffset(shape.type, head_dim));
  const auto quantize = [&](const float* row) {
    std::copy_n(row, head_dim, rotated);
    attention.hadamard(rotated, head_dim, kernels::HadamardBlock(head_dim));
    return attention.quantize_s8(rotated, head_dim, codes);
  };
  scales[slot] = quantize(key);
  auto* keys = reinterpret_cast<int8_t*>(tile) + 2 * slot;
  for (int d = 0; d < head_dim; d += 2) std::memcpy(keys + d * kTilePositions, codes + d, 2);
  scales[kTilePositions + slot] = quantize(value);
  int8_t* values = reinterpret_cast<int8_t*>(tile) + kernels::KvValuesOffset(shape.type, head_dim) +
                   slot / 2 * 2 * static_cast<size_t>(head_dim) + slot % 2;
  for (int d = 0; d < head_dim; ++d) values[2 * d] = codes[d];
}

void Attend(const kernels::KernelSet& kernels, const AttentionShape& shape, const float* queries,
            int64_t query_stride, int n_tokens, int first_position,
            std::span<const std::byte* const> tiles, size_t tile_offset, float* out,
            int64_t out_stride, std::span<std::byte> scratch) {
  const Scratch parts(scratch, shape.head_dim);
  const int block = BlockTokens(shape);
  for (int head = 0; head < shape.n_queries; head += kBlockRows) {
    const int n_queries = std::min(kBlockRows, shape.n_queries - head);
    for (int t = 0; t < n_tokens; t += block) {
      const int n = std::min(block, n_tokens - t);
      const Rows rows{
          .n = n * n_queries, .n_queries = n_queries, .first_position = first_position + t};
      const int n_positions = first_position + t + n;
      AttendBlock(kernels, shape, rows, queries + t * query_stride + int64_t{head} * shape.head_dim,
                  query_stride, tiles.first((n_positions + kTilePositions - 1) / kTilePositions),
                  tile_offset, out + t * out_stride + int64_t{head} * shape.head_dim, out_stride,
                  parts);
    }
  }
}

}  // namespace tandem::ops
