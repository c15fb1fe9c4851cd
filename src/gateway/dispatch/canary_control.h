// The roll-out that runs, shared by all requests: who is in it, what they saw, and the orders of
// the people who watch it.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/error.h"
#include "gateway/router/canary.h"

namespace tandem::gateway::dispatch {

struct CanaryPlan {
  CanaryOptions options;
  std::string target;         // the new one: a target's id
  std::string baseline;       // whose place it takes
  std::string strategy = {};  // whose targets these are; empty: the default one's

  friend bool operator==(const CanaryPlan&, const CanaryPlan&) = default;
};

struct CanaryStatus {
  CanaryPlan plan;
  Canary::State state = Canary::State::kRunning;
  double share = 0;
  int step = 0;
  uint64_t canary_samples = 0;
  uint64_t baseline_samples = 0;
  std::string last_reason;  // of the last change
};

// Thread: any.
class CanaryControl {
 public:
  // Told of every change, by the thread that made it happen: for the audit log.
  //   action: "CANARY_START", "CANARY_STEP", "CANARY_HOLD", "CANARY_PROMOTE", "CANARY_ROLLBACK"
  using Audit = std::function<void(std::string_view action, std::string_view who,
                                   const CanaryStatus& status)>;
  CanaryControl(const Clock* clock, Audit audit) : clock_(clock), audit_(std::move(audit)) {}

  // Errors: those of Validate; kFailedPrecondition while another one runs or is held.
  Status Start(CanaryPlan plan, std::string_view who);
  // By hand. Errors: kNotFound where there is none; kFailedPrecondition where it is over.
  Status Promote(bool completely, std::string_view who);
  Status Hold(std::string_view who);
  Status RollBack(std::string_view who);

  std::optional<CanaryStatus> Read() const;

  // What a request must know; nothing while there is no roll-out. A roll-out that was promoted
  // still stands in its baseline's place, for everybody, until the configuration says so; one that
  // was rolled back gets nothing.
  struct Assignment {
    std::string target;
    std::string baseline;
    std::string strategy;
    bool assigned = false;
  };
  std::optional<Assignment> Assign(std::string_view subject) const;

  // One finished request of either arm. Looks at the figures after a failure, else once in
  // kLookInterval, since a look costs some hundred microseconds.
  void Record(const CanarySample& sample);
  // The user made use of an answer: an engagement event of the application.
  void Engage(bool canary);

  static constexpr std::chrono::seconds kLookInterval{1};

 private:
  CanaryStatus ReadLocked() const;
  void Look(std::unique_lock<std::mutex>* lock);
  void Report(std::string_view action, std::string_view who, const Canary::Change& change,
              std::unique_lock<std::mutex>* lock);
  Result<Canary*> RunningLocked();

  const Clock* const clock_;
  const Audit audit_;
  mutable std::mutex mutex_;  // guards all below; not held while audit_ runs
  std::optional<CanaryPlan> plan_;
  std::unique_ptr<Canary> canary_;
  std::string last_reason_;
  SteadyTime last_look_{};
};

}  // namespace tandem::gateway::dispatch
