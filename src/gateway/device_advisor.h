// Which model fits which device: what the gateway asks about it, and the two calls that clients
// ask.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "gateway/provider/failure.h"

namespace tandem::gateway {

// app/ implements it over the fleet. Thread: any. Called on I/O threads: no call may wait.
class DeviceAdvisor {
 public:
  virtual ~DeviceAdvisor() = default;

  struct CompatibilityQuestion {
    std::string model;
    std::string device_platform;  // "android", "android_arm64"
    std::string npu_model;        // "snapdragon_8_gen3"; "none"
    double ram_gb = 0;            // free for the model, 10^9 bytes
    std::optional<int32_t> context_tokens = {};
  };
  // Tokens a second of one session.
  struct Rate {
    double expected = 0;
    double low = 0;
    double high = 0;
    std::string how;
  };
  struct Compatibility {
    bool compatible = false;
    std::string model;    // its own name, not the alias
    std::string variant;  // the one to take, or that lacks least; empty: the model has none
    std::string quantization = {};
    std::string accelerator = {};  // "cpu", "gpu", "npu"; empty with variant
    std::optional<uint64_t> min_ram_gb = {};
    std::vector<std::string> platforms = {};
    std::vector<std::string> unmet = {};  // sentences
    std::vector<std::string> notes = {};  // what is unknown, or good to know
    int32_t context_tokens = 0;
    std::optional<uint64_t> package_bytes = {};
    std::optional<uint64_t> memory_bytes = {};  // while it generates, reserve included
    std::optional<Rate> rate = {};              // empty: unknown
    std::string not_deployable = {};            // why it is not chosen by itself; empty: it may be
  };
  // Errors: kNotFound for a model that nobody knows.
  virtual Result<Compatibility> CheckCompatibility(const CompatibilityQuestion& question) = 0;

  struct NpuQuestion {
    std::string model;
    std::string npu_vendor;
    std::string npu_driver_version;  // "v2.7.1"
    std::string soc_model;           // "sm8650"
  };
  struct NpuCompatibility {
    bool compatible = false;
    std::string model;
    std::string reason;
    std::string fallback;  // "cpu", "gpu", "cloud"
  };
  // Errors: kNotFound; kInvalidArgument (param "npu_driver_version") for one that is no version.
  virtual Result<NpuCompatibility> CheckNpu(const NpuQuestion& question) = 0;
};

// POST /v1/models/compatibility-check and /v1/models/npu-compatibility: from a body to the body of
// the answer. A device that cannot run a model is an answer; a missing or mistyped field is a
// failure that names it, a model that nobody knows is kModelNotFound.
std::expected<std::string, Failure> AnswerCompatibilityCheck(DeviceAdvisor& advisor,
                                                             std::string_view body);
std::expected<std::string, Failure> AnswerNpuCompatibility(DeviceAdvisor& advisor,
                                                           std::string_view body);

}  // namespace tandem::gateway
