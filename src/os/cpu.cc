#include "os/cpu.h"

#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "os/file.h"

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace tandem::os {
namespace {

CpuFeatures Detect() {
  CpuFeatures features;
#if defined(__x86_64__)
  __builtin_cpu_init();
  features.avx2 = __builtin_cpu_supports("avx2");
  features.fma = __builtin_cpu_supports("fma");
  features.f16c = __builtin_cpu_supports("f16c");
  features.avx512f = __builtin_cpu_supports("avx512f");
  features.avx512bw = __builtin_cpu_supports("avx512bw");
  features.avx512vl = __builtin_cpu_supports("avx512vl");
  features.avx512vnni = __builtin_cpu_supports("avx512vnni");
#elif defined(__aarch64__)
  features.neon_dotprod = (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
  features.neon_i8mm = (getauxval(AT_HWCAP2) & HWCAP2_I8MM) != 0;
#endif
  return features;
}

// The cgroup (version 2) quota of this process in cores; 0 where there is none.
int CgroupCpuLimit() {
  const auto groups = ReadFile("/proc/self/cgroup", 1 << 16);
  if (!groups || !groups->starts_with("0::/")) return 0;
  std::filesystem::path below = groups->substr(4, groups->find('\n') - 4);
  int limit = 0;
  while (true) {
    const auto content =
        ReadFile(std::filesystem::path("/sys/fs/cgroup") / below / "cpu.max", 4096);
    if (content && !content->starts_with("max")) {
      char* end = nullptr;
      const double quota = std::strtod(content->c_str(), &end);
      const double period = std::strtod(end, nullptr);
      if (quota > 0 && period > 0) {
        const int cores = std::max(1, static_cast<int>((quota + period - 1) / period));
        limit = limit == 0 ? cores : std::min(limit, cores);
      }
    }
    if (below.empty()) return limit;
    below = below.parent_path();
  }
}

}  // namespace

const CpuFeatures& HostCpu() {
  static const CpuFeatures features = Detect();
  return features;
}

int UsableCpuCount() {
  cpu_set_t set;
  CPU_ZERO(&set);
  int count = 1;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) count = std::max(1, CPU_COUNT(&set));
  const int limit = CgroupCpuLimit();
  return limit > 0 ? std::min(count, limit) : count;
}

std::vector<int> AffinityCpus() {
  std::vector<int> cpus;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

}  // namespace tandem::os
