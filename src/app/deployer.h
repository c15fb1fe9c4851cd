// Deploying a model: its package is checked, an accelerator is tried where one is wanted, and only
// then the model's name stands for it. And the loader that an engine pool loads deployed models
// with.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>

#include "app/accelerators.h"
#include "app/engine_pool.h"
#include "app/packages.h"
#include "base/clock.h"
#include "base/error.h"
#include "engine/engine.h"
#include "fleet/deploy/deployments.h"
#include "fleet/deploy/ladder.h"
#include "fleet/fleet.h"

namespace tandem::app {

struct DeployRequest {
  std::string model;         // a name, a reference, or a file's path
  bool accelerator = false;  // try those of this machine first
  // Where no accelerator can be used the cores answer, with a smaller batch; false: an error.
  bool software_fallback = true;
  uint64_t memory_limit_bytes = 0;  // 0: the server's own
  std::string device_id;            // kept for the record
};

// Its parts outlive it. Thread: any; deployments of one data directory run one after the other.
class Deployer {
 public:
  struct Parts {
    const fleet::Fleet* fleet = nullptr;
    const Packages* packages = nullptr;
    Accelerators* accelerators = nullptr;
    fleet::Deployments* deployments = nullptr;
    const Clock* clock = nullptr;
    std::function<double()> random;  // in [0, 1)
    // Waits between attempts; false: stopped. Tests do not wait.
    std::function<bool(std::chrono::milliseconds)> wait;
    std::function<void()> changed = {};  // a name stands for something else now
  };
  // `data_dir` keeps deployed packages below deployed/, as links: a model that is pulled or packed
  // anew does not take them away.
  Deployer(Parts parts, std::filesystem::path data_dir, const engine::EngineOptions& engine)
      : parts_(std::move(parts)), directory_(data_dir / "deployed"), engine_(engine) {}

  // Packs the model where that has not happened yet, reads the package and compares it with its
  // digests, plans its memory, climbs the ladder of accelerators and makes the result the model's
  // current deployment. Nothing has changed where it fails.
  // Errors: those of Fleet::Resolve and Packages::Get; kCorrupt for a package that is damaged;
  // kResourceExhausted with param "memory" where the limit is too small, with the bytes wanted and
  // available; kUnavailable with param "accelerator" where none can be used and the cores may not;
  // kCancelled.
  Result<fleet::Deployment> Deploy(const DeployRequest& request, const PackProgressFn& progress,
                                   const std::stop_token& stop);

  // The deployment before the current one is current again.
  // Errors: those of Deployments::RollBack; kNotFound where its package is gone.
  Result<fleet::Deployment> RollBack(const std::string& model);

  // Tears down the contexts of every accelerator, so that they are tested again. Returns how many
  // there are. Errors: of the first that cannot be reset.
  Result<int> ResetAccelerators();

 private:
  struct Choice {
    std::filesystem::path driver;  // empty: the cores
    std::string executor = "cpu";
    int attempts = 0;
    std::string reason;
  };
  Choice ChooseAccelerator(const std::filesystem::path& package);
  Result<std::filesystem::path> Keep(const std::filesystem::path& package,
                                     const std::string& digest) const;
  void RemoveUnused() const;
  int64_t NowSeconds() const;

  const Parts parts_;
  const std::filesystem::path directory_;
  const engine::EngineOptions engine_;
};

// What an engine pool loads with: each model from its package, which is made first where it is
// missing; on the executor of its deployment where it has one. An accelerator is tested again where
// its driver or the system changed since; where it cannot serve any more, the cores do, with half
// the batch. All must outlive the loader.
EnginePool::Loader DeploymentLoader(const Packages* packages, fleet::Deployments* deployments,
                                    Accelerators* accelerators);

}  // namespace tandem::app
