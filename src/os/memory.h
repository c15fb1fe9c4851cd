// How much memory there is, as far as this process is concerned: the machine's and its cgroup's;
// and whole pages of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <utility>

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

// Lets process_peak_bytes begin anew at what is resident now. False where the system cannot, and
// the peak then stays that of the process's whole life.
bool ResetPeakMemory();

// Memory that comes from the system zeroed, becomes resident page by page as it is touched, and
// goes back to the system when its owner lets go: the heap would keep it.
class AnonymousMemory {
 public:
  // Errors: kResourceExhausted where the system has none left.
  static Result<AnonymousMemory> Create(size_t n_bytes);
  AnonymousMemory(AnonymousMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), n_bytes_(std::exchange(other.n_bytes_, 0)) {}
  AnonymousMemory& operator=(AnonymousMemory&&) = delete;
  ~AnonymousMemory();

  std::byte* data() { return data_; }  // aligned to the system's pages
  const std::byte* data() const { return data_; }
  size_t n_bytes() const { return n_bytes_; }

 private:
  AnonymousMemory(std::byte* data, size_t n_bytes) : data_(data), n_bytes_(n_bytes) {}

  std::byte* data_;
  size_t n_bytes_;
};

}  // namespace tandem::os
