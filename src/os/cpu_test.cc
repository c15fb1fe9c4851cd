#include "os/cpu.h"

#include <sched.h>

#include <thread>

#include <gtest/gtest.h>

#include "os/file.h"

namespace tandem::os {
namespace {

#if defined(__x86_64__)
TEST(CpuTest, FeaturesAgreeWithTheKernel) {
  const auto cpuinfo = ReadFile("/proc/cpuinfo", 1 << 22);
  ASSERT_TRUE(cpuinfo);
  const size_t at = cpuinfo->find("flags");
  ASSERT_NE(at, std::string::npos);
  const std::string flags = cpuinfo->substr(at, cpuinfo->find('\n', at) - at) + " ";
  const auto has = [&](const char* flag) {
    return flags.find(std::string(" ") + flag + " ") != std::string::npos;
  };
  EXPECT_EQ(HostCpu().avx2, has("avx2"));
  EXPECT_EQ(HostCpu().fma, has("fma"));
  EXPECT_EQ(HostCpu().f16c, has("f16c"));
  EXPECT_EQ(HostCpu().avx512vnni, has("avx512_vnni"));
}
#endif

TEST(CpuTest, AffinityLimitsTheCount) {
  int pinned = 0;
  // In a thread of its own: the mask of the test's main thread stays as it is.
  std::thread([&] {
    cpu_set_t all;
    ASSERT_EQ(sched_getaffinity(0, sizeof(all), &all), 0);
    cpu_set_t one;
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &all)) {
        CPU_SET(cpu, &one);
        break;
      }
    }
    ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
    pinned = UsableCpuCount();
    const std::vector<int> cpus = AffinityCpus();
    ASSERT_EQ(cpus.size(), 1U);
    EXPECT_TRUE(CPU_ISSET(cpus[0], &one));
  }).join();
  EXPECT_EQ(pinned, 1);
  EXPECT_GE(UsableCpuCount(), 1);
}

}  // namespace
}  // namespace tandem::os
