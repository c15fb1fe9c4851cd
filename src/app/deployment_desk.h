// The gateway's desk for deployments, over a Deployer and a thread of its own.
#pragma once

#include <thread>
#include <variant>

#include "app/deployer.h"
#include "base/bounded_queue.h"
#include "gateway/deployment_desk.h"

namespace tandem::app {

// Thread: any. The deployer must outlive it. Destroying it stops what runs, and answers what waits.
class DeploymentDesk final : public gateway::DeploymentDesk {
 public:
  explicit DeploymentDesk(Deployer* deployer);
  ~DeploymentDesk() override;

  void Deploy(Order order, OnDeployed done) override;
  void ResetAccelerators(OnReset done) override;

 private:
  struct DeployJob {
    Order order;
    OnDeployed done;
  };
  struct ResetJob {
    OnReset done;
  };
  using Job = std::variant<DeployJob, ResetJob>;
  void Run(const std::stop_token& stop);

  static constexpr size_t kMaxWaiting = 16;

  Deployer* const deployer_;
  BoundedQueue<Job> jobs_{kMaxWaiting};
  std::jthread thread_;  // last: it uses both
};

}  // namespace tandem::app
