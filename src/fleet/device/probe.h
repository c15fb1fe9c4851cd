// What a probe of the operating system finds on the device that it runs on. Files only: nothing is
// opened, loaded or started, so that a driver which hangs cannot hang the probe.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "fleet/device/device_database.h"
#include "os/memory.h"

namespace tandem::fleet {

struct FoundAccelerator {
  std::string kind;    // "gpu", "npu"
  std::string name;    // "Hexagon (FastRPC)", "NVIDIA GPU"
  std::string node;    // "/dev/dri/renderD128"
  std::string driver;  // the kernel's driver, with its version where that is told; empty: unknown
};

struct ThermalZone {
  std::string name;  // "cpu-0-0"
  double celsius = 0;
};

struct Battery {
  double share = 0;  // 0..1
  bool discharging = false;
};

struct DeviceProbe {
  std::string platform;  // "linux_x86_64", as variants name it
  std::string cpu;       // the processor's own name; empty: unknown
  // Names that the system gives its SoC, the most telling first, and what they mean; on a PC none.
  std::vector<std::string> soc_names = {};
  const Soc* soc = nullptr;  // of the built-in database
  Result<os::MemoryStatus> memory = os::MemoryStatus{};
  std::vector<FoundAccelerator> accelerators = {};
  std::string vulkan_loader = {};                // its path; empty: there is none
  std::vector<std::string> vulkan_drivers = {};  // manifests of installed ones
  std::vector<ThermalZone> thermal_zones = {};
  bool hot = false;  // a zone is above where it asks to be cooled
  std::optional<Battery> battery = {};
};

// `root` stands for "/", so that tests can offer other devices. What cannot be read is not there.
// Cost: some dozens of small files.
DeviceProbe ProbeDevice(const std::filesystem::path& root = "/");

// "linux_x86_64": what this program was built for.
std::string HostPlatform();

}  // namespace tandem::fleet
