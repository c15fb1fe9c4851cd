#include <cstring>

#include "base/check.h"
#include "engine/quant/blocks.h"
#include "engine/quant/codec.h"

namespace tandem::quant {
namespace {

void Decode(const BlockQ4_0& block, float* y) {
  const float d = HalfToFloat(block.d);
  for (int j = 0; j < 16; ++j) {
    y[j] = static_cast<float>((block.qs[j] & 15) - 8) * d;
    y[j + 16] = static_cast<float>((block.qs[j] >> 4) - 8) * d;
  }
}

void Decode(const BlockQ4_1& block, float* y) {
  const float d = HalfToFloat(block.d);
  const float m = HalfToFloat(block.m);
  for (int j = 0; j < 16; ++j) {
    y[j] = static_cast<float>(block.qs[j] & 15) * d + m;
    y[j + 16] = static_cast<float>(block.qs[j] >> 4) * d + m;
  }
}

void Decode(const BlockQ5_0& block, float* y) {
  const float d = HalfToFloat(block.d);
  uint32_t qh;
  std::memcpy(&qh, block.qh, sizeof(qh));
  for (int j = 0; j < 16; ++j) {
    const int low = (block.qs[j] & 15) | static_cast<int>(((qh >> j) & 1) << 4);
    const int high = (block.qs[j] >> 4) | static_cast<int>(((qh >> (j + 16)) & 1) << 4);
    y[j] = static_cast<float>(low - 16) * d;
    y[j + 16] = static_cast<float>(high - 16) * d;
  }
}

void Decode(const BlockQ8_0& block, float* y) {
  const float d = HalfToFloat(block.d);
  for (int j = 0; j < 32; ++j) y[j] = static_cast<float>(block.qs[j]) * d;
}

void Decode(const BlockQ4_K& block, float* y) {
  const float d = HalfToFloat(block.d);
  const float dmin = HalfToFloat(block.dmin);
  for (int s = 0; s < 8; ++s) {
    const ScaleMin packed = UnpackScaleMin(block.scales, s);
    const float scale = d * static_cast<float>(packed.scale);
    const float min = dmin * static_cast<float>(packed.min);
    const uint8_t* qs = block.qs + 32 * (s / 2);
    const int shift = 4 * (s % 2);
    for (int l = 0; l < 32; ++l) {
      y[32 * s + l] = scale * static_cast<float>((qs[l] >> shift) & 15) - min;
    }
  }
}

void Decode(const BlockQ5_K& block, float* y) {
  const float d = HalfToFloat(block.d);
  const float dmin = HalfToFloat(block.dmin);
  for (int s = 0; s < 8; ++s) {
    const ScaleMin packed = UnpackScaleMin(block.scales, s);
    const float scale = d * static_cast<float>(packed.scale);
    const float min = dmin * static_cast<float>(packed.min);
    const uint8_t* qs = block.qs + 32 * (s / 2);
    const int shift = 4 * (s % 2);
    for (int l = 0; l < 32; ++l) {
      const int q = ((qs[l] >> shift) & 15) | (((block.qh[l] >> s) & 1) << 4);
      y[32 * s + l] = scale * static_cast<float>(q) - min;
    }
  }
}

void Decode(const BlockQ6_K& block, float* y) {
  const float d = HalfToFloat(block.d);
  for (int n = 0; n < 2; ++n) {
    const uint8_t* ql = block.ql + 64 * n;
    const uint8_t* qh = block.qh + 32 * n;
    for (int k = 0; k < 4; ++k) {
      const uint8_t* low = ql + 32 * (k % 2);
      const int shift = 4 * (k / 2);
      for (int l = 0; l < 32; ++l) {
        const int q = ((low[l] >> shift) & 15) | (((qh[l] >> (2 * k)) & 3) << 4);
        const int sub_block = 8 * n + 2 * k + l / 16;
        const float scale = d * static_cast<float>(block.scales[sub_block]);
        y[128 * n + 32 * k + l] = scale * static_cast<float>(q - 32);
      }
    }
  }
}

void Decode(const BlockIQ4_NL& block, float* y) {
  const float d = HalfToFloat(block.d);
  for (int j = 0; j < 16; ++j) {
    y[j] = d * static_cast<float>(kIq4NlLevels[block.qs[j] & 15]);
    y[j + 16] = d * static_cast<float>(kIq4NlLevels[block.qs[j] >> 4]);
  }
}

template <typename Block>
void DecodeRow(const std::byte* src, float* dst, int64_t n) {
  const auto* blocks = reinterpret_cast<const Block*>(src);
  for (int64_t b = 0; b < n / Block::kElements; ++b) Decode(blocks[b], dst + b * Block::kElements);
}

template <float (*kToFloat)(uint16_t)>
void DecodeWords(const std::byte* src, float* dst, int64_t n) {
  const auto* words = reinterpret_cast<const uint16_t*>(src);
  for (int64_t i = 0; i < n; ++i) dst[i] = kToFloat(words[i]);
}

}  // namespace

void DequantizeRow(Type type, const std::byte* src, float* dst, int64_t n) {
  TANDEM_CHECK(n >= 0 && n % GetType(type).block_elements == 0);
  if (n == 0) return;  // src and dst may be null
  switch (type) {
    case Type::kF32:
      std::memcpy(dst, src, static_cast<size_t>(n) * sizeof(float));
      return;
    case Type::kF16:
      return DecodeWords<HalfToFloat>(src, dst, n);
    case Type::kBF16:
      return DecodeWords<BFloat16ToFloat>(src, dst, n);
    case Type::kQ4_0:
      return DecodeRow<BlockQ4_0>(src, dst, n);
    case Type::kQ4_1:
      return DecodeRow<BlockQ4_1>(src, dst, n);
    case Type::kQ5_0:
      return DecodeRow<BlockQ5_0>(src, dst, n);
    case Type::kQ8_0:
      return DecodeRow<BlockQ8_0>(src, dst, n);
    case Type::kQ4_K:
      return DecodeRow<BlockQ4_K>(src, dst, n);
    case Type::kQ5_K:
      return DecodeRow<BlockQ5_K>(src, dst, n);
    case Type::kQ6_K:
      return DecodeRow<BlockQ6_K>(src, dst, n);
    case Type::kIQ4_NL:
      return DecodeRow<BlockIQ4_NL>(src, dst, n);
  }
}

}  // namespace tandem::quant
