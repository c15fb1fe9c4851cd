// Drivers: shared libraries that run models on an accelerator, behind the C interface of
// driver_abi.h. Loading one runs its code in this process: who does not know it yet does that in a
// child process (engine/accelerator.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"
#include "engine/executor/driver_abi.h"
#include "engine/executor/executor.h"

namespace tandem::executor {

enum class DeviceKind { kOther, kGpu, kNpu };

// "other", "gpu", "npu": the names in answers and files.
std::string_view DeviceKindName(DeviceKind kind);

struct DeviceInfo {
  DeviceKind kind = DeviceKind::kOther;
  std::string driver_name;
  std::string driver_version;
  std::string device_name;
  uint64_t memory_bytes = 0;  // 0: unknown
};

// A loaded driver. Thread: any.
class Driver {
 public:
  // Errors: kNotFound; kUnsupported for a library that is no driver, or speaks another version of
  // the interface; the message says which.
  static Result<std::shared_ptr<const Driver>> Load(const std::filesystem::path& path);
  ~Driver();
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;

  const std::filesystem::path& path() const { return path_; }

  // Errors: kUnsupported where the device is not there; kInternal; both with the driver's reason.
  Result<DeviceInfo> Probe() const;
  Status Reset() const;

  const tandem_driver& table() const { return *table_; }

 private:
  Driver() = default;

  std::filesystem::path path_;
  void* library_ = nullptr;
  const tandem_driver* table_ = nullptr;
};

struct DriverExecutorOptions {
  std::filesystem::path package;
  int32_t context_tokens = 0;
  StepLimits limits;
  int32_t max_slots = 1;
  uint64_t memory_limit_bytes = 0;  // 0: none
};

// A context on the driver's device. Slots live in the driver's precision, whichever is asked for.
// Errors: kUnavailable where the context cannot be created (a reset may help), kUnsupported,
// kResourceExhausted, kInternal; with the driver's reason. A driver whose figures make no sense is
// kInternal.
Result<std::unique_ptr<Executor>> CreateDriverExecutor(std::shared_ptr<const Driver> driver,
                                                       const DriverExecutorOptions& options);

}  // namespace tandem::executor
