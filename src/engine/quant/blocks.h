// The blocks as they stand in a file: little-endian, packed, `d` and `m` in IEEE half. A row of
// ne[0] elements is ne[0] / kElements consecutive blocks; rows follow without padding.
// `y` is what an element decodes to, `lo` and `hi` are a byte's low and high four bits. docs:
// GGUF's block formats, https://github.com/ggml-org/ggml (ggml-common.h).
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace tandem::quant {

static_assert(
    std::endian::native == std::endian::little,
    "blocks and GGUF files are mapped, not decoded: a big-endian machine cannot use them");

// y[j] = (lo(qs[j]) - 8) d, y[j + 16] = (hi(qs[j]) - 8) d, for j in 0..15.
struct BlockQ4_0 {
  static constexpr int kElements = 32;
  uint16_t d;
  uint8_t qs[16];
};
static_assert(sizeof(BlockQ4_0) == 18);

// y[j] = lo(qs[j]) d + m, y[j + 16] = hi(qs[j]) d + m.
struct BlockQ4_1 {
  static constexpr int kElements = 32;
  uint16_t d;
  uint16_t m;
  uint8_t qs[16];
};
static_assert(sizeof(BlockQ4_1) == 20);

// As Q4_0 with a fifth bit: bit j of the little-endian word qh belongs to element j; y = (q - 16)
// d.
struct BlockQ5_0 {
  static constexpr int kElements = 32;
  uint16_t d;
  uint8_t qh[4];
  uint8_t qs[16];
};
static_assert(sizeof(BlockQ5_0) == 22);

// y[j] = qs[j] d.
struct BlockQ8_0 {
  static constexpr int kElements = 32;
  uint16_t d;
  int8_t qs[32];
};
static_assert(sizeof(BlockQ8_0) == 34);

// Eight sub-blocks of 32: y = (d sc) q - (dmin m), sc and m of six bits (UnpackScaleMin).
// Bytes qs[32g .. 32g+31] hold sub-block 2g in their low and 2g + 1 in their high halves.
struct BlockQ4_K {
  static constexpr int kElements = 256;
  uint16_t d;
  uint16_t dmin;
  uint8_t scales[12];
  uint8_t qs[128];
};
static_assert(sizeof(BlockQ4_K) == 144);

// As Q4_K with a fifth bit: bit s of qh[l] belongs to element l of sub-block s.
struct BlockQ5_K {
  static constexpr int kElements = 256;
  uint16_t d;
  uint16_t dmin;
  uint8_t scales[12];
  uint8_t qh[32];
  uint8_t qs[128];
};
static_assert(sizeof(BlockQ5_K) == 176);

// Sixteen sub-blocks of 16, each with a signed scale: y = (d sc) (q - 32). Two halves of 128
// elements; in half n, l = 0..31, element l + 32 k takes two high bits from bits 2k, 2k + 1 of
// qh[32n + l], and four low ones from: k = 0 lo(ql[64n + l]), 1 lo(ql[64n + l + 32]),
// 2 hi(ql[64n + l]), 3 hi(ql[64n + l + 32]).
struct BlockQ6_K {
  static constexpr int kElements = 256;
  uint8_t ql[128];
  uint8_t qh[64];
  int8_t scales[16];
  uint16_t d;
};
static_assert(sizeof(BlockQ6_K) == 210);

// As Q4_0, but the four bits index kIq4NlLevels: y = d T[q].
struct BlockIQ4_NL {
  static constexpr int kElements = 32;
  uint16_t d;
  uint8_t qs[16];
};
static_assert(sizeof(BlockIQ4_NL) == 18);

inline constexpr std::array<int8_t, 16> kIq4NlLevels = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                        1,    13,   25,  38,  53,  69,  89,  113};

struct ScaleMin {
  uint8_t scale;  // 0..63
  uint8_t min;    // 0..63
};

// Sub-block s (0..7) of the twelve packed bytes of Q4_K and Q5_K. Internal linkage, so that a
// kernel compiled for one instruction set never lends its copy to code for another.
static inline ScaleMin UnpackScaleMin(const uint8_t* packed, int s) {
  if (s < 4) {
    return {static_cast<uint8_t>(packed[s] & 63), static_cast<uint8_t>(packed[s + 4] & 63)};
  }
  return {static_cast<uint8_t>((packed[s + 4] & 15) | ((packed[s - 4] >> 6) << 4)),
          static_cast<uint8_t>((packed[s + 4] >> 4) | ((packed[s] >> 6) << 4))};
}

}  // namespace tandem::quant
