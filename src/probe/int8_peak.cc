#include <algorithm>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "os/cpu.h"
#include "probe/probe.h"

namespace tandem::probe {
namespace {

#if defined(__x86_64__)
constexpr int kRounds = 2'000'000;

// Eight chains of sums, more than two adders times a latency of one cycle or two multipliers times
// four need. The empty asm makes the operand new, so that no product is computed once and
// for all.
__attribute__((target("avx2"))) double ProductsPerSecondAvx2() {
  __m256i sums[8];
  __m256i code = _mm256_set1_epi8(3);
  asm volatile("" : "+x"(code));
  for (__m256i& sum : sums) sum = code;
  const double begin = CpuSeconds();
  for (int round = 0; round < kRounds; ++round) {
#pragma clang loop unroll(full)
    for (__m256i& sum : sums) {
      asm volatile("" : "+x"(code));
      sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(code, code));
      asm volatile("" : "+x"(sum));
    }
  }
  return 8.0 * 32 * kRounds / (CpuSeconds() - begin);
}

__attribute__((target("avx512f,avx512vnni"))) double ProductsPerSecondAvx512Vnni() {
  __m512i sums[12];
  __m512i code = _mm512_set1_epi32(0x03030303);
  asm volatile("" : "+v"(code));
  for (__m512i& sum : sums) sum = code;
  const double begin = CpuSeconds();
  for (int round = 0; round < kRounds; ++round) {
#pragma clang loop unroll(full)
    for (__m512i& sum : sums) {
      sum = _mm512_dpbusd_epi32(sum, code, code);
      asm volatile("" : "+v"(sum));
    }
  }
  return 12.0 * 64 * kRounds / (CpuSeconds() - begin);
}
#endif

}  // namespace

double Int8Peak() {
  double best = 0;
#if defined(__x86_64__)
  for (int i = 0; i < 20; ++i) {
    if (os::HostCpu().avx512vnni) {
      best = std::max(best, ProductsPerSecondAvx512Vnni());
    } else if (os::HostCpu().avx2) {
      best = std::max(best, ProductsPerSecondAvx2());
    }
  }
#endif
  return best;
}

const char* Int8PeakInstructions() {
#if defined(__x86_64__)
  if (os::HostCpu().avx512vnni) return "vpdpbusd zmm";
  if (os::HostCpu().avx2) return "vpmaddubsw + vpaddw ymm";
#endif
  return "none";
}

}  // namespace tandem::probe
