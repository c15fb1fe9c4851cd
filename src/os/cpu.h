// What the processor can do, and how many of its cores this process may use.
#pragma once

#include <vector>

namespace tandem::os {

// Only sets that a kernel of ours uses. On x86 a flag also means that the operating system saves
// the registers.
struct CpuFeatures {
  bool avx2 = false;
  bool fma = false;
  bool f16c = false;
  bool avx512f = false;
  bool avx512bw = false;
  bool avx512vl = false;
  bool avx512vnni = false;
  bool neon_dotprod = false;
  bool neon_i8mm = false;
};

// Read once. Thread: any.
const CpuFeatures& HostCpu();

// Cores that this process may use at once: its affinity mask, bounded by the cgroup's CPU quota
// (rounded up); at least 1.
int UsableCpuCount();

// The numbers of the cores in this thread's affinity mask, ascending; empty where it cannot be
// read.
std::vector<int> AffinityCpus();

}  // namespace tandem::os
