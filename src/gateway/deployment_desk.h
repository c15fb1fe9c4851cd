// Deploying models and resetting accelerators: what the gateway asks about it, and the two calls of
// clients that ask.
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <string>
#include <string_view>

#include "gateway/provider/failure.h"

namespace tandem::gateway {

// app/ implements it over the engine and the fleet. Thread: any. Neither call waits: `done` is
// called once, on a thread of the desk or, where it cannot take the call, at once.
class DeploymentDesk {
 public:
  virtual ~DeploymentDesk() = default;

  struct Order {
    std::string model;
    bool accelerator = false;
    bool software_fallback = true;
    uint64_t memory_limit_bytes = 0;
    std::string device_id;
  };
  struct Deployed {
    std::string id;
    std::string model;
    std::string executor;
    bool software_fallback = false;
    int batch_size = 0;
    int attempts = 0;
    uint64_t memory_bytes = 0;
    std::string reason;
    std::string package_digest;
  };
  using OnDeployed = std::move_only_function<void(std::expected<Deployed, Failure>)>;
  virtual void Deploy(Order order, OnDeployed done) = 0;

  // Tears the accelerators' contexts down; gives their number.
  using OnReset = std::move_only_function<void(std::expected<int, Failure>)>;
  virtual void ResetAccelerators(OnReset done) = 0;
};

// POST /v1/models/deploy: the body as an order. Errors: kInvalidRequest with the field,
// kPayloadTooLarge.
std::expected<DeploymentDesk::Order, Failure> ParseDeployOrder(std::string_view body);
std::string RenderDeployed(const DeploymentDesk::Deployed& deployed);

// POST /v1/models/npu-reset: the body's device_id. Errors: as above.
std::expected<std::string, Failure> ParseResetOrder(std::string_view body);
std::string RenderReset(std::string_view device_id, int n_accelerators);

}  // namespace tandem::gateway
