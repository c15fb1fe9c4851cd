// Accelerators: whether a driver (docs/executor-abi.md) can be trusted with a package. A door of
// the engine. All of it runs the driver's code in this process, which a driver may hang or crash:
// app/ calls it in a child process.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "base/clock.h"
#include "base/error.h"
#include "engine/executor/driver.h"

namespace tandem::engine {

using executor::DeviceInfo;
using executor::DeviceKind;
using executor::DeviceKindName;

// What the driver says of itself and its device. Errors: as executor::Driver.
Result<DeviceInfo> ProbeAccelerator(const std::filesystem::path& driver);

// Tears the device's contexts down, so that they can be made again. Errors: as executor::Driver.
Status ResetAccelerator(const std::filesystem::path& driver);

struct AcceleratorCheck {
  DeviceInfo device;
  bool finite = false;
  double relative_error = 0;  // the worst row of logits, against the CPU's; 0 where not finite
  double error_bound = 0;
  double prefill_tokens_per_second = 0;
  double decode_tokens_per_second = 0;
  double cpu_prefill_tokens_per_second = 0;
  double cpu_decode_tokens_per_second = 0;

  bool right() const { return finite && relative_error <= error_bound; }
  // Decoding is what an answer waits for. As fast as the cores within a measurement's error is fast
  // enough: it leaves them to the app.
  bool fast() const { return decode_tokens_per_second >= 0.8 * cpu_decode_tokens_per_second; }
};

// Runs the known-answer test (engine/executor/known_answer.h) of one package by the driver and by
// this machine's cores. Context creation is retried by nobody here.
// Errors: as Engine::Load() for the package, as executor::CreateDriverExecutor() for the context,
// kUnavailable where a step fails.
Result<AcceleratorCheck> CheckAccelerator(const std::filesystem::path& driver,
                                          const std::filesystem::path& package, const Clock& clock);

}  // namespace tandem::engine
