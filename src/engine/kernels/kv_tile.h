// Where keys and values stand in a cache: tiles of 64 positions of one KV head of one layer, which
// attention streams one after the other.
//
//   kF32, kF16  keys [64][head_dim], values [64][head_dim]
//   kInt8       key codes [head_dim / 2][64][2], value codes [32][head_dim][2], both int8, then key
//               scales [64] and value scales [64], f32
//
// The codes of a pair (two elements of a key; the same element of two positions' values) stand
// together, for that is what a 16-bit multiply-add takes at once: both products of attention are
// then the same kernel (IntegerAttention::multiply), without a sum across lanes.
//
// kInt8 keeps Hadamard-rotated keys and values: an orthogonal rotation spreads an outlier over the
// whole head, so that one scale per position and head is enough (QuaRot, arXiv:2404.00456). The
// rotation works on blocks of HadamardBlock() elements, the whole head where its size is a power of
// two. It is not normalised: what multiplies a rotated query with a rotated key divides by the
// block.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/kernels/kernel_set.h"

namespace tandem::kernels {

enum class KvType { kF32, kF16, kInt8 };

constexpr size_t KvElementBytes(KvType type) {
  return type == KvType::kF32 ? 4 : type == KvType::kF16 ? 2 : 1;
}

// The largest power of two that divides a head size.
constexpr int HadamardBlock(int head_dim) { return head_dim & -head_dim; }

// Offsets within a tile; head_dim is a multiple of 8, so all are multiples of 64 bytes.
constexpr size_t KvValuesOffset(KvType type, int head_dim) {
  return KvElementBytes(type) * kTilePositions * static_cast<size_t>(head_dim);
}
constexpr size_t KvScalesOffset(KvType type, int head_dim) {
  return 2 * KvValuesOffset(type, head_dim);
}
constexpr size_t KvTileBytes(KvType type, int head_dim) {
  return KvScalesOffset(type, head_dim) +
         (type == KvType::kInt8 ? 2 * kTilePositions * sizeof(float) : 0);
}

// A kInt8 tile's parts.
inline const int8_t* KeyCodes(const std::byte* tile) {
  return reinterpret_cast<const int8_t*>(tile);
}
inline const int8_t* ValueCodes(const std::byte* tile, int head_dim) {
  return reinterpret_cast<const int8_t*>(tile + KvValuesOffset(KvType::kInt8, head_dim));
}
inline const float* KeyScales(const std::byte* tile, int head_dim) {
  return reinterpret_cast<const float*>(tile + KvScalesOffset(KvType::kInt8, head_dim));
}
inline const float* ValueScales(const std::byte* tile, int head_dim) {
  return KeyScales(tile, head_dim) + kTilePositions;
}

}  // namespace tandem::kernels
