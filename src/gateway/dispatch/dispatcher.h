// Charter of gateway/dispatch: the live side of routing. It joins what decides (gateway/router,
// gateway/classify) with what runs (gateway/relay) and what must be kept (gateway/usage,
// gateway/privacy): the policy in force, how every target has been doing, and one run for each
// request. Deliberately absent: HTTP and its forms (gateway/), where models and figures of the
// device come from (a TargetSource of app/), files of configuration (app/).
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <expected>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "gateway/dispatch/canary_control.h"
#include "gateway/dispatch/incoming.h"
#include "gateway/dispatch/routed_request.h"
#include "gateway/dispatch/routing_table.h"
#include "gateway/dispatch/target_health.h"
#include "gateway/privacy/conversations.h"
#include "gateway/privacy/redactor.h"
#include "gateway/relay/retry_budget.h"
#include "gateway/relay/timers.h"
#include "gateway/router/record.h"

namespace tandem::gateway::dispatch {

// Strategies by the digest that decision records name, beyond the life of a process. Thread: any.
class StrategyArchive {
 public:
  virtual ~StrategyArchive() = default;
  virtual Status Keep(std::string_view digest, std::string_view json) = 0;
  virtual Result<std::optional<std::string>> Find(std::string_view digest) = 0;
};

// What the dispatcher works with. All of it outlives the dispatcher and every answer; null where
// the text says so.
struct Services {
  const Clock* clock = nullptr;
  relay::Timers* timers = nullptr;
  TargetSource* targets = nullptr;
  privacy::Conversations* conversations = nullptr;  // null: none is remembered
  RecordSink* records = nullptr;                    // null: none is kept
  std::function<double()> random;                   // in [0, 1); thread: any
  CanaryControl::Audit audit;                       // may be empty
  CanaryStore* canary_store = nullptr;              // null: the roll-out ends with this process
  std::string node;                                 // this process among those that share it
  StrategyArchive* strategies = nullptr;            // null: only the newest are known by digest
};

// How one target of the default strategy stands, for people.
struct TargetReport {
  std::string strategy;
  std::string target;
  std::string model;
  Tier tier = Tier::kCloud;
  TargetState state;
  Breaker::State breaker = Breaker::State::kClosed;
  int times_opened = 0;
};

// Thread: any.
class Dispatcher {
 public:
  // Errors: those of Apply.
  static Result<std::unique_ptr<Dispatcher>> Create(Services services, RoutingTable table);
  ~Dispatcher();

  // Errors: kInvalidArgument: no strategy, two of one name, a run or a canary for a target that
  // does not exist; those of Validate.
  static Status Check(const RoutingTable& table);

  // Another routing table from now on; requests that run keep the one they were decided by. What is
  // known of targets that keep strategy, id and model is kept, but a rejected credential is
  // forgotten.
  // Errors: those of Check; the old table then stays.
  Status Apply(RoutingTable table);

  // Decides who answers. Nothing is called before RoutedRequest::Start.
  // Failures: those of Decision, and of TargetSource::Resolve for a model that nobody knows. A
  // failure is recorded like an answer.
  std::expected<std::shared_ptr<RoutedRequest>, Failure> Route(Incoming incoming);

  // The record of a request that was refused before it could be decided. What it demands of its
  // conversation counts all the same.
  void RecordRefusal(const Incoming& incoming, const Failure& failure);

  // What Route would decide, without running or recording anything.
  std::expected<DecisionRecord, Failure> Explain(const Incoming& incoming);

  CanaryControl& canary() { return canary_; }
  // Errors: as CanaryControl::Start; kInvalidArgument where the default strategy has no such
  // target.
  Status StartCanary(CanaryPlan plan, std::string_view who);
  // The application reports that the user made use of an answer. Remembered for the last
  // kRememberedAnswers answers of a roll-out. Errors: kNotFound.
  Status Engage(std::string_view request_id);

  std::vector<TargetReport> Targets() const;
  std::string digest() const;  // of the configuration in force
  // A strategy by the digest that decision records name: one of the newest few, or from the
  // archive. Errors: the archive's.
  Result<std::optional<std::string>> FindStrategyJson(std::string_view digest) const;

  static constexpr size_t kRememberedAnswers = 4096;

 private:
  struct LiveStrategy {
    Strategy strategy;
    std::string digest;
    std::vector<std::shared_ptr<TargetHealth>> health;  // of its targets
    std::vector<TargetRun> runs;                        // likewise
    std::chrono::milliseconds deadline{0};
    bool hand_off = true;
    double shadow_share = 0;
  };
  // One table and what belongs to it.
  struct Live {
    RoutingTable table;
    std::vector<std::shared_ptr<const LiveStrategy>> strategies;
    std::shared_ptr<const privacy::Redactor> redactor;
    std::shared_ptr<relay::RetryBudget> retry_budget;
  };
  // A request up to its decision.
  struct Prepared {
    std::shared_ptr<const Live> live;
    std::shared_ptr<const LiveStrategy> strategy;
    std::vector<TargetSource::Found> found;  // of its targets
    DecisionRecord record;
    std::optional<privacy::Conversations::Fingerprint> fingerprint;
  };

  explicit Dispatcher(Services services);
  Result<std::shared_ptr<const Live>> Build(RoutingTable table);
  std::shared_ptr<const Live> live() const;
  std::expected<std::shared_ptr<const LiveStrategy>, Failure> ChooseStrategy(
      const Live& live, std::string_view model);
  std::shared_ptr<TargetHealth> HealthOf(const std::string& strategy, const Target& target,
                                         const BreakerOptions& options);
  std::expected<Prepared, Failure> Prepare(const Incoming& incoming);
  RunPlan NewPlan(const Prepared& prepared) const;
  void AddCandidate(const Prepared& prepared, const Incoming& incoming, const Candidate& candidate,
                    bool last, RunPlan* plan) const;
  void StartShadow(const Prepared& prepared, const Incoming& incoming);
  // That the conversation has to stay, where it does.
  void Remember(const privacy::Conversations::Fingerprint& fingerprint, Privacy privacy,
                const Incoming& incoming);
  void RememberArm(const std::string& request_id, bool canary);

  const Services services_;
  CanaryControl canary_;
  mutable std::mutex mutex_;  // guards all below
  std::shared_ptr<const Live> live_;
  struct KnownHealth {
    std::string model;
    BreakerOptions options;
    std::shared_ptr<TargetHealth> health;
  };
  std::map<std::string, KnownHealth> health_;                       // by "strategy/target"
  std::map<std::string, std::string, std::less<>> strategy_texts_;  // by digest
  std::vector<std::string> strategy_order_;                         // oldest first
  std::map<std::string, bool, std::less<>> arms_;                   // by request id
  std::vector<std::string> arm_order_;                              // a ring over arms_
  size_t next_arm_ = 0;
};

}  // namespace tandem::gateway::dispatch
