#include "fleet/device/probe.h"

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/testing/temp_dir.h"

namespace tandem::fleet {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

// A root directory of another machine.
class FakeRoot {
 public:
  void File(const std::string& path, std::string_view text = "") const {
    const auto file = dir_.path() / path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << text;
  }
  void Link(const std::string& path, const std::string& target) const {
    const auto link = dir_.path() / path;
    std::filesystem::create_directories(link.parent_path());
    std::filesystem::create_symlink(target, link);
  }
  DeviceProbe Probe() const { return ProbeDevice(dir_.path()); }

 private:
  os::TempDir dir_;
};

TEST(ProbeTest, AnEmptyRootHasNothingAndIsNoError) {
  const DeviceProbe probe = FakeRoot().Probe();
  EXPECT_FALSE(probe.memory);
  EXPECT_THAT(probe.accelerators, IsEmpty());
  EXPECT_THAT(probe.thermal_zones, IsEmpty());
  EXPECT_THAT(probe.soc_names, IsEmpty());
  EXPECT_EQ(probe.soc, nullptr);
  EXPECT_FALSE(probe.battery);
  EXPECT_EQ(probe.vulkan_loader, "");
  EXPECT_EQ(probe.platform, HostPlatform());
}

TEST(ProbeTest, AServerWithAGraphicsCard) {
  FakeRoot root;
  root.File("proc/meminfo", "MemTotal: 16000000 kB\nMemAvailable: 8000000 kB\n");
  root.File("proc/self/cgroup", "0::/box\n");
  root.File("sys/fs/cgroup/box/memory.max", "4096000000\n");
  root.File("sys/fs/cgroup/box/memory.current", "96000000\n");
  root.File("proc/cpuinfo", "processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\n");
  root.File("dev/nvidia0");
  root.File("dev/nvidiactl");
  root.File("dev/nvidia-uvm");
  root.File("proc/driver/nvidia/version",
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 2023\nGCC\n");
  root.File("dev/dri/renderD128");
  root.File("dev/dri/card0");
  root.File("sys/class/drm/renderD128/device/vendor", "0x8086\n");
  root.Link("sys/class/drm/renderD128/device/driver", "../../../bus/pci/drivers/i915");
  root.File("dev/accel/accel0");
  root.File("sys/class/accel/accel0/device/vendor", "0x8086\n");
  root.Link("sys/class/accel/accel0/device/driver", "../bus/pci/drivers/intel_vpu");
  root.File("usr/lib/x86_64-linux-gnu/libvulkan.so.1");
  root.File("usr/share/vulkan/icd.d/intel_icd.json");
  const DeviceProbe probe = root.Probe();
  ASSERT_TRUE(probe.memory) << probe.memory.error().message;
  EXPECT_EQ(probe.memory->limit_bytes, 4096000000U);
  EXPECT_EQ(probe.memory->available_bytes, 4000000000U);
  EXPECT_EQ(probe.cpu, "Some CPU @ 3 GHz");
  ASSERT_THAT(probe.accelerators, SizeIs(3));
  EXPECT_EQ(probe.accelerators[0].name, "Intel GPU");
  EXPECT_EQ(probe.accelerators[0].driver, "i915");
  EXPECT_EQ(probe.accelerators[0].node, "/dev/dri/renderD128");
  EXPECT_EQ(probe.accelerators[1].node, "/dev/nvidia0");
  EXPECT_EQ(probe.accelerators[1].driver, "nvidia 535.129.03");
  EXPECT_EQ(probe.accelerators[2].kind, "npu");
  EXPECT_EQ(probe.accelerators[2].driver, "intel_vpu");
  EXPECT_EQ(probe.vulkan_loader, "/usr/lib/x86_64-linux-gnu/libvulkan.so.1");
  EXPECT_THAT(probe.vulkan_drivers, SizeIs(1));
}

TEST(ProbeTest, APhoneTellsItsSocBatteryAndHeat) {
  FakeRoot root;
  root.File("proc/device-tree/compatible", std::string_view("vendor,board\0qcom,sm8650\0", 25));
  root.File("dev/kgsl-3d0");
  root.File("dev/fastrpc-cdsp");
  root.File("sys/class/thermal/thermal_zone0/type", "cpu-0-0\n");
  root.File("sys/class/thermal/thermal_zone0/temp", "61500\n");
  root.File("sys/class/thermal/thermal_zone0/trip_point_0_type", "passive\n");
  root.File("sys/class/thermal/thermal_zone0/trip_point_0_temp", "60000\n");
  root.File("sys/class/thermal/thermal_zone1/temp", "broken\n");
  root.File("sys/class/power_supply/BAT/type", "Battery\n");
  root.File("sys/class/power_supply/BAT/status", "Discharging\n");
  root.File("sys/class/power_supply/BAT/capacity", "42\n");
  root.File("sys/class/power_supply/AAA/type", "Battery\n");
  root.File("sys/class/power_supply/AAA/scope", "Device\n");
  root.File("sys/class/power_supply/AAA/capacity", "7\n");
  const DeviceProbe probe = root.Probe();
  ASSERT_NE(probe.soc, nullptr);
  EXPECT_EQ(probe.soc->part, "SM8650");
  ASSERT_THAT(probe.accelerators, SizeIs(2));
  EXPECT_EQ(probe.accelerators[0].name, "Adreno GPU");
  EXPECT_EQ(probe.accelerators[1].kind, "npu");
  ASSERT_THAT(probe.thermal_zones, SizeIs(1));
  EXPECT_EQ(probe.thermal_zones[0].name, "cpu-0-0");
  EXPECT_DOUBLE_EQ(probe.thermal_zones[0].celsius, 61.5);
  EXPECT_TRUE(probe.hot);
  ASSERT_TRUE(probe.battery);
  EXPECT_DOUBLE_EQ(probe.battery->share, 0.42);
  EXPECT_TRUE(probe.battery->discharging);
}

TEST(ProbeTest, TheSocIsFoundInSysAndCpuinfoToo) {
  FakeRoot sys;
  sys.File("sys/devices/soc0/machine", "SM8550\n");
  EXPECT_EQ(sys.Probe().soc->part, "SM8550");
  FakeRoot cpuinfo;
  cpuinfo.File("proc/cpuinfo", "Hardware\t: Qualcomm Technologies, Inc SM8450\n");
  EXPECT_EQ(cpuinfo.Probe().soc->part, "SM8450");
}

TEST(ProbeTest, CgroupVersion1LimitsToo) {
  FakeRoot root;
  root.File("proc/meminfo", "MemTotal: 16000000 kB\nMemAvailable: 8000000 kB\n");
  root.File("proc/self/cgroup", "7:memory:/box\n");
  root.File("sys/fs/cgroup/memory/box/memory.limit_in_bytes", "2000000000\n");
  root.File("sys/fs/cgroup/memory/box/memory.usage_in_bytes", "500000000\n");
  const DeviceProbe probe = root.Probe();
  ASSERT_TRUE(probe.memory);
  EXPECT_EQ(probe.memory->limit_bytes, 2000000000U);
  EXPECT_EQ(probe.memory->available_bytes, 1500000000U);
}

}  // namespace
}  // namespace tandem::fleet
