#include "app/deployment_desk.h"

#include <utility>

namespace tandem::app {
namespace {

using gateway::Failure;
using gateway::FailureCode;

Failure ToFailure(Error error) {
  if (error.code == ErrorCode::kUnavailable && error.param == "accelerator") {
    return {FailureCode::kNpuContextCreateFailed, std::move(error.message), "model_id"};
  }
  if (error.code == ErrorCode::kResourceExhausted && error.param == "memory") {
    return {FailureCode::kOutOfMemory, std::move(error.message), "memory_limit_mb"};
  }
  if (error.code == ErrorCode::kNotFound) {
    return {FailureCode::kModelNotFound, std::move(error.message), "model_id"};
  }
  if (error.code == ErrorCode::kFailedPrecondition) {
    return {FailureCode::kModelNotInstalled, std::move(error.message), "model_id"};
  }
  return gateway::FailureFromError(std::move(error));
}

const Failure kFull{FailureCode::kRateLimited,
                    "other deployments wait already; try again when they are done", ""};
const Failure kStopping{FailureCode::kShuttingDown, "the server is shutting down", ""};

gateway::DeploymentDesk::Deployed ToAnswer(fleet::Deployment deployment) {
  return {.id = std::move(deployment.id),
          .model = std::move(deployment.model),
          .executor = std::move(deployment.executor),
          .software_fallback = deployment.software_fallback,
          .batch_size = deployment.batch_size,
          .attempts = deployment.attempts,
          .memory_bytes = deployment.memory_bytes,
          .reason = std::move(deployment.reason),
          .package_digest = std::move(deployment.package_digest)};
}

}  // namespace

DeploymentDesk::DeploymentDesk(Deployer* deployer)
    : deployer_(deployer), thread_([this](const std::stop_token& stop) { Run(stop); }) {}

DeploymentDesk::~DeploymentDesk() {
  jobs_.Close();
  thread_.request_stop();
  thread_.join();
  while (auto job = jobs_.TryPop()) {
    std::visit([](auto& waiting) { waiting.done(std::unexpected(kStopping)); }, *job);
  }
}

void DeploymentDesk::Deploy(Order order, OnDeployed done) {
  Job job = DeployJob{std::move(order), std::move(done)};
  if (!jobs_.TryPush(std::move(job))) {
    // NOLINTNEXTLINE(bugprone-use-after-move): a refused item is untouched
    std::get<DeployJob>(job).done(std::unexpected(kFull));
  }
}

void DeploymentDesk::ResetAccelerators(OnReset done) {
  Job job = ResetJob{std::move(done)};
  if (!jobs_.TryPush(std::move(job))) {
    // NOLINTNEXTLINE(bugprone-use-after-move): a refused item is untouched
    std::get<ResetJob>(job).done(std::unexpected(kFull));
  }
}

void DeploymentDesk::Run(const std::stop_token& stop) {
  while (auto job = jobs_.Pop(stop)) {
    if (auto* deploy = std::get_if<DeployJob>(&*job)) {
      auto deployed = deployer_->Deploy({.model = std::move(deploy->order.model),
                                         .accelerator = deploy->order.accelerator,
                                         .software_fallback = deploy->order.software_fallback,
                                         .memory_limit_bytes = deploy->order.memory_limit_bytes,
                                         .device_id = std::move(deploy->order.device_id)},
                                        nullptr, stop);
      if (deployed) {
        deploy->done(ToAnswer(*std::move(deployed)));
      } else {
        deploy->done(std::unexpected(ToFailure(std::move(deployed).error())));
      }
    } else {
      auto reset = deployer_->ResetAccelerators();
      auto& done = std::get<ResetJob>(*job).done;
      if (reset) {
        done(*reset);
      } else {
        Error error = std::move(reset).error();
        if (error.code == ErrorCode::kUnavailable) error.param = "accelerator";
        done(std::unexpected(ToFailure(std::move(error))));
      }
    }
  }
}

}  // namespace tandem::app
