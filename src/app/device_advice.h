// What a device can run: the gateway's two calls over the fleet wing, and `tandem plan`.
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/error.h"
#include "fleet/advice.h"
#include "gateway/device_advisor.h"

namespace tandem::app {

// Thread: any. The clock outlives it.
class DeviceAdvice final : public gateway::DeviceAdvisor {
 public:
  DeviceAdvice(const std::filesystem::path& data_dir, const Clock* clock)
      : store_(fleet::OpenCatalogueStore(data_dir)), clock_(clock) {}

  Result<Compatibility> CheckCompatibility(const CompatibilityQuestion& question) override;
  Result<NpuCompatibility> CheckNpu(const NpuQuestion& question) override;

  // What the disk adds to the catalogue counts for so long.
  static constexpr std::chrono::milliseconds kRecheck{1000};

 private:
  // The built-in table where the data directory's manifests do not go with it.
  std::shared_ptr<const fleet::Catalogue> catalogue();

  const fleet::CatalogueStore store_;
  const Clock* const clock_;
  std::mutex mutex_;  // guards both below
  std::shared_ptr<const fleet::Catalogue> catalogue_;
  SteadyTime checked_{};
};

struct PlanQuestion {
  std::string model;
  std::string device;    // an SoC's name; empty: this machine
  std::string platform;  // empty: this machine's, or of a named device "android" (Apple's: "ios")
  std::string npu_driver;
  std::optional<double> free_ram_gb;
  std::optional<double> bandwidth_gb_s;
  std::optional<uint64_t> memory_limit_bytes;
  int32_t context_tokens = fleet::kDefaultContextTokens;
};

struct Plan {
  std::shared_ptr<const fleet::Catalogue> catalogue;  // what the verdict points into
  fleet::DeviceFacts device;
  fleet::Compatibility verdict;
};

// Everything that `tandem plan` prints; nothing is downloaded.
// Errors: kNotFound for a model; kInvalidArgument for a driver's version, or for a device whose
// name fits several or none: the message names what was perhaps meant.
Result<Plan> MakePlan(const std::filesystem::path& data_dir, const PlanQuestion& question);

}  // namespace tandem::app
