// Whose work the machine's cores did.
#pragma once

#include <filesystem>

#include "base/error.h"

namespace tandem::os {

// Seconds since the machine started, all cores together.
struct CpuTimes {
  double busy_s = 0;     // anybody's work
  double idle_s = 0;     // waiting for the disk included
  double stolen_s = 0;   // wanted here, given to another guest of the host
  double process_s = 0;  // this process's own work, all its threads; within busy_s
};

// Reads /proc/stat below `root`; process_s is always this process's.
// Errors: those of reading it; kUnsupported where it says something else.
Result<CpuTimes> ReadCpuTimes(const std::filesystem::path& root = "/");

}  // namespace tandem::os
