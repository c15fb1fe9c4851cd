// `tandem doctor`: what this device is, what is installed on it, and what stands in the way.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "fleet/advice.h"
#include "os/cpu.h"

namespace tandem::app {

struct DoctorOptions {
  std::filesystem::path data_dir;
  std::filesystem::path root = "/";  // where the probe looks; tests offer other devices
  bool measure_bandwidth = false;    // reads 512 MiB three times
};

struct DoctorReport {
  fleet::DeviceProbe probe;
  os::CpuFeatures cpu;
  int usable_cores = 0;
  std::string instruction_set;  // what the kernels compute with; empty: why not is a finding
  std::optional<double> bandwidth_bytes_per_s;
  std::optional<uint64_t> free_disk_bytes;  // where the data directory is
  struct InstalledModel {
    std::string name;
    uint64_t size_bytes = 0;
    bool certified = false;
    std::string certificate;  // what it says, or why there is none
  };
  std::vector<InstalledModel> models;
  // What somebody should know or do, in sentences; empty: nothing was found.
  std::vector<std::string> findings;
};

// Looks at everything; what cannot be read is a finding, not an error.
// Cost: small files, and one read of a bundled model for its digest; see measure_bandwidth.
DoctorReport Examine(const DoctorOptions& options, const Clock& clock);

}  // namespace tandem::app
