// How much memory there is, as far as this process is concerned: the machine's and its cgroup's.
#pragma once

#include <cstdint>
#include <filesystem>

#include "base/error.h"

namespace tandem::os {

struct MemoryStatus {
  uint64_t total_bytes = 0;      // of the machine
  uint64_t limit_bytes = 0;      // what this process may use: the smaller of total and cgroup limit
  uint64_t available_bytes = 0;  // what can be allocated now without swapping, within the limit
  uint64_t process_resident_bytes = 0;
  uint64_t process_peak_bytes = 0;
};

// Reads /proc and the cgroup file system (versions 1 and 2).
// `root` stands for "/" so that tests can offer other machines.
// Errors: kIo or kNotFound where /proc cannot be read. Cost: a few system calls.
Result<MemoryStatus> ReadMemoryStatus(const std::filesystem::path& root = "/");

}  // namespace tandem::os
