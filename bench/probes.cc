#include "probes.h"

#include <algorithm>
#include <ctime>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "os/cpu.h"

namespace tandem::bench {
namespace {

#if defined(__x86_64__)
constexpr int kRounds = 20'000'000;

// Twelve independent chains, more than two units times the latency of three or four cycles need.
// The empty asm keeps each product from being computed once and for all.
__attribute__((target("avx2"))) double ProductsPerSecondAvx2() {
  __m256i sums[12];
  const __m256i code = _mm256_set1_epi8(3);
  for (__m256i& sum : sums) sum = _mm256_set1_epi8(1);
  const double begin = CpuSeconds();
  for (int round = 0; round < kRounds; ++round) {
#pragma clang loop unroll(full)
    for (__m256i& sum : sums) {
      sum = _mm256_maddubs_epi16(code, sum);
      asm volatile("" : "+x"(sum));
    }
  }
  return 12.0 * 32 * kRounds / (CpuSeconds() - begin);
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

double CpuSeconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

double ReadBandwidth(std::span<const uint64_t> buffer, int passes) {
  double best = 0;
  for (int pass = 0; pass < passes; ++pass) {
    uint64_t lanes[8] = {};
    const double begin = CpuSeconds();
    for (size_t i = 0; i + 8 <= buffer.size(); i += 8) {
      __builtin_prefetch(buffer.data() + i + 512);
      for (int l = 0; l < 8; ++l) lanes[l] ^= buffer[i + l];
    }
    asm volatile("" : : "r"(lanes) : "memory");
    const double seconds = CpuSeconds() - begin;
    best = std::max(best, static_cast<double>(buffer.size_bytes()) / seconds);
  }
  return best;
}

double Int8Peak() {
#if defined(__x86_64__)
  if (os::HostCpu().avx512vnni) return ProductsPerSecondAvx512Vnni();
  if (os::HostCpu().avx2) return ProductsPerSecondAvx2();
#endif
  return 0;
}

const char* Int8PeakInstruction() {
#if defined(__x86_64__)
  if (os::HostCpu().avx512vnni) return "vpdpbusd zmm";
  if (os::HostCpu().avx2) return "vpmaddubsw ymm";
#endif
  return "none";
}

}  // namespace tandem::bench
