// A program run to its end in a process of its own, which may hang, crash or eat memory without
// taking this one along.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/error.h"

namespace tandem::os {

struct ChildOptions {
  std::vector<std::string> argv;  // argv[0] is the program's path
  // After so long it is killed, with all that it started. 0: it may take for ever.
  std::chrono::milliseconds timeout{0};
  // What it may allocate (RLIMIT_DATA: private memory; files that it maps read-only do not count).
  // 0: no limit of its own.
  uint64_t data_limit_bytes = 0;
  // What is kept of its standard output, and of the end of its standard error.
  size_t max_output_bytes = size_t{1} << 20;
};

struct ChildOutcome {
  enum class End { kExited, kSignalled, kTimedOut };
  End end = End::kExited;
  int code = 0;  // exit status, or the number of the signal that ended it
  std::string out;
  std::string err;
  uint64_t peak_resident_bytes = 0;
};

// Runs it and waits. Its standard input is empty; it inherits the environment and no open file; it
// is killed when this process dies. Thread: any.
// Errors: kInvalidArgument for an empty argv; kNotFound, kPermissionDenied for a program that
// cannot be run; kResourceExhausted, kIo where the system refuses a process. How the program ended
// is no error.
Result<ChildOutcome> RunChild(const ChildOptions& options);

// The file of the program that runs now, to run it again as a child.
Result<std::filesystem::path> OwnProgram();

}  // namespace tandem::os
