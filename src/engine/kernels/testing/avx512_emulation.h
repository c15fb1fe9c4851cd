// The AVX-512 instructions that the files *_avx512vnni.cc use, as loops over their lanes: so that
// its arithmetic, its addressing and its edges are tested on machines that cannot run it. What this
// cannot show is that the compiler's instructions do the same; the self-test does, at start, where
// they exist. Semantics: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "engine/kernels/kernel_set.h"
#include "engine/quant/half.h"

// Not inlined: unrolled kernels would become a hundred thousand lines for the optimiser.
#define TANDEM_EMULATED [[maybe_unused]] __attribute__((noinline))

namespace tandem::kernels {
namespace {

// NOLINTBEGIN(bugprone-reserved-identifier): the names are Intel's
struct __m512i {
  int32_t lane[16];
};
struct __m512 {
  float lane[16];
};
struct __m256i {
  uint16_t lane[16];
};

constexpr int _MM_HINT_T0 = 3;
inline void _mm_prefetch(const char*, int) {}

template <typename Use>
inline __m512i Lanes(Use use) {
  __m512i out;
  for (int l = 0; l < 16; ++l) out.lane[l] = static_cast<int32_t>(use(l));
  return out;
}
template <typename Use>
inline __m512 FloatLanes(Use use) {
  __m512 out;
  for (int l = 0; l < 16; ++l) out.lane[l] = use(l);
  return out;
}

TANDEM_EMULATED __m512i _mm512_loadu_si512(const void* p) {
  __m512i out;
  std::memcpy(&out, p, sizeof out);
  return out;
}
TANDEM_EMULATED void _mm512_storeu_si512(void* p, __m512i v) { std::memcpy(p, &v, sizeof v); }
TANDEM_EMULATED __m256i _mm256_loadu_si256(const __m256i* p) {
  __m256i out;
  std::memcpy(&out, p, sizeof out);
  return out;
}
TANDEM_EMULATED __m512i _mm512_setzero_si512() { return {}; }
TANDEM_EMULATED __m512i _mm512_set1_epi32(int32_t v) {
  return Lanes([&](int) { return v; });
}
TANDEM_EMULATED __m512i _mm512_set1_epi8(char v) {
  return Lanes([&](int) { return 0x01010101U * static_cast<uint8_t>(v); });
}
TANDEM_EMULATED __m512i _mm512_and_si512(__m512i a, __m512i b) {
  return Lanes([&](int l) { return a.lane[l] & b.lane[l]; });
}
TANDEM_EMULATED __m512i _mm512_xor_si512(__m512i a, __m512i b) {
  return Lanes([&](int l) { return a.lane[l] ^ b.lane[l]; });
}
TANDEM_EMULATED __m512i _mm512_srli_epi16(__m512i a, int n) {
  return Lanes([&](int l) {
    const auto v = static_cast<uint32_t>(a.lane[l]);
    return ((v & 0xFFFF) >> n) | (((v >> 16) >> n) << 16);
  });
}
TANDEM_EMULATED __m512i _mm512_srai_epi32(__m512i a, int n) {
  return Lanes([&](int l) { return a.lane[l] >> n; });
}
TANDEM_EMULATED __m512i _mm512_slli_epi32(__m512i a, int n) {
  return Lanes([&](int l) { return static_cast<uint32_t>(a.lane[l]) << n; });
}
TANDEM_EMULATED __m512i _mm512_add_epi32(__m512i a, __m512i b) {
  return Lanes([&](int l) { return static_cast<uint32_t>(a.lane[l]) + b.lane[l]; });
}
TANDEM_EMULATED __m512i _mm512_sub_epi32(__m512i a, __m512i b) {
  return Lanes([&](int l) { return static_cast<uint32_t>(a.lane[l]) - b.lane[l]; });
}
// Four products of an unsigned (b) and a signed (c) byte a lane, added without saturation.
TANDEM_EMULATED __m512i _mm512_dpbusd_epi32(__m512i a, __m512i b, __m512i c) {
  return Lanes([&](int l) {
    int64_t sum = a.lane[l];
    for (int j = 0; j < 4; ++j) {
      const auto x = static_cast<uint8_t>(b.lane[l] >> (8 * j));
      const auto y = static_cast<int8_t>(c.lane[l] >> (8 * j));
      sum += int{x} * int{y};
    }
    return sum;
  });
}
using __mmask16 = uint16_t;
using __mmask32 = uint32_t;
TANDEM_EMULATED __m256i _mm256_maskz_loadu_epi8(__mmask32 mask, const void* p) {
  uint8_t bytes[32] = {};
  for (int i = 0; i < 32; ++i) {
    if ((mask >> i & 1) != 0) bytes[i] = static_cast<const uint8_t*>(p)[i];
  }
  __m256i out;
  std::memcpy(&out, bytes, sizeof out);
  return out;
}
TANDEM_EMULATED void _mm512_mask_storeu_epi32(void* p, __mmask16 mask, __m512i v) {
  for (int l = 0; l < 16; ++l) {
    if ((mask >> l & 1) != 0) std::memcpy(static_cast<char*>(p) + 4 * l, &v.lane[l], 4);
  }
}
// Two bytes become the two words of a lane.
TANDEM_EMULATED __m512i _mm512_cvtepi8_epi16(__m256i v) {
  return Lanes([&](int l) {
    const auto low = static_cast<uint16_t>(static_cast<int8_t>(v.lane[l] & 0xFF));
    const auto high = static_cast<uint16_t>(static_cast<int8_t>(v.lane[l] >> 8));
    return uint32_t{low} | uint32_t{high} << 16;
  });
}
// Two products of signed words a lane, added without saturation.
TANDEM_EMULATED __m512i _mm512_dpwssd_epi32(__m512i a, __m512i b, __m512i c) {
  return Lanes([&](int l) {
    int64_t sum = a.lane[l];
    for (int j = 0; j < 2; ++j) {
      const auto x = static_cast<int16_t>(b.lane[l] >> (16 * j));
      const auto y = static_cast<int16_t>(c.lane[l] >> (16 * j));
      sum += int{x} * int{y};
    }
    return sum;
  });
}
TANDEM_EMULATED __m512 _mm512_set1_ps(float v) {
  return FloatLanes([&](int) { return v; });
}
TANDEM_EMULATED __m512 _mm512_load_ps(const float* p) {
  return FloatLanes([&](int l) { return p[l]; });
}
TANDEM_EMULATED void _mm512_store_ps(float* p, __m512 v) { std::memcpy(p, &v, sizeof v); }
TANDEM_EMULATED __m512 _mm512_cvtph_ps(__m256i v) {
  return FloatLanes([&](int l) { return quant::HalfToFloat(v.lane[l]); });
}
TANDEM_EMULATED __m512 _mm512_cvtepi32_ps(__m512i v) {
  return FloatLanes([&](int l) { return static_cast<float>(v.lane[l]); });
}
TANDEM_EMULATED __m512 _mm512_mul_ps(__m512 a, __m512 b) {
  return FloatLanes([&](int l) { return a.lane[l] * b.lane[l]; });
}
TANDEM_EMULATED __m512 _mm512_fmadd_ps(__m512 a, __m512 b, __m512 c) {
  return FloatLanes([&](int l) { return std::fma(a.lane[l], b.lane[l], c.lane[l]); });
}

// NOLINTEND(bugprone-reserved-identifier)

// Activations come from the reference.
inline void quantize_q8_f32_1x8_avx2(const float* x, int64_t n_cols, int group, int block_tokens,
                                     int slot, std::byte* block) {
  kTilesScalar.quantize(x, n_cols, group, block_tokens, slot, block);
}
inline void norm_quantize_q8_f32_1x8_avx2(const float* x, const float* weight, double eps,
                                          int64_t n_cols, int group, int block_tokens, int slot,
                                          std::byte* block) {
  kTilesScalar.norm_quantize(x, weight, eps, n_cols, group, block_tokens, slot, block);
}
inline float fine_dot_f32_q8_qf_1x1_avx2(const std::byte* codes, const std::byte* scales, int bits,
                                         int group, int64_t n_tiles, const std::byte* block) {
  return kTilesScalar.fine_dot(codes, scales, bits, group, n_tiles, block);
}

}  // namespace
}  // namespace tandem::kernels
