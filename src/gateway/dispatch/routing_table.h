// One version of everything that decides how requests are answered. The configuration makes it,
// the dispatcher swaps it as a whole.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <expected>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/dispatch/canary_control.h"
#include "gateway/dispatch/confidence.h"
#include "gateway/provider/provider.h"
#include "gateway/relay/retry_budget.h"
#include "gateway/router/breaker.h"
#include "gateway/router/policy.h"

namespace tandem::gateway::dispatch {

// How calls of one target are run. Zero means no limit.
struct TargetRun {
  std::chrono::milliseconds first_token_timeout{0};
  std::chrono::milliseconds between_tokens_timeout{0};
  std::chrono::milliseconds total_timeout{0};
  // The beginning of an answer is held back until so many pieces of text or so much time, so that a
  // bad one is never seen.
  int hold_tokens = 0;
  std::chrono::milliseconds hold{0};
  // The next candidate starts as well when there is no first token by then.
  std::optional<std::chrono::milliseconds> hedge_after;
  int max_retries = 2;
  enum class Continuation {
    kAuto,  // exactly where the provider can, else by being asked to
    kNone,  // it is not asked to go on with another's answer
    kPrompted,
  } continuation = Continuation::kAuto;
  // A first token later than this counts as a slow call in the breaker; 0: none is slow.
  std::chrono::milliseconds slow_after{0};

  friend bool operator==(const TargetRun&, const TargetRun&) = default;
};

// A local answer is looked at before it is shown, and the next candidate asked where the model was
// unsure of its beginning.
struct Cascade {
  int tokens = 28;                      // looked at, or as many as come
  std::chrono::milliseconds time{400};  // within so long after the first
  // Of the answer to be right, as the calibrator tells it from its beginning; below: given up.
  // Absent: the mean log probability decides.
  std::optional<double> min_probability = {};
  std::shared_ptr<const Calibrator> calibrator = {};  // null: Calibrator::Builtin
  double min_mean_logprob = -1.5;                     // natural logarithm; below: given up
  // In its place, by TaskClass, for a class that it was calibrated for.
  std::array<std::optional<double>, kTaskClassCount> by_task = {};

  friend bool operator==(const Cascade&, const Cascade&) = default;
};

// A strategy and how its targets are run.
struct RunnableStrategy {
  Strategy strategy;                      // valid
  std::map<std::string, TargetRun> runs;  // by target id; absent: TargetRun's defaults
  std::chrono::milliseconds deadline{0};  // for the whole chain of providers; 0: none
  bool hand_off = true;                   // another provider may continue an answer
  // Of the requests that both sides may answer, those that both are asked: the one whose answer is
  // shown, and the first candidate of the other side for its figures.
  double shadow_share = 0;
};

struct RoutingTable {
  std::string digest;                        // SHA-256 of the configuration, hexadecimal
  std::vector<RunnableStrategy> strategies;  // the first is the default; at least one
  BreakerOptions breaker;
  Privacy privacy = Privacy::kAny;          // of every request at the least
  std::vector<std::string> redacted_names;  // of people and things, for Privacy::kRedacted
  std::optional<Cascade> cascade;
  relay::RetryBudgetOptions retry_budget;
  std::optional<CanaryPlan> canary;  // started when it differs from the one that ran last
};

// What others know about the targets; app/ implements it over the engine, the fleet and the
// configured upstreams. Thread: any. Called for every request: nothing in it may wait.
class TargetSource {
 public:
  virtual ~TargetSource() = default;

  struct Found {
    std::shared_ptr<Provider> provider;  // null: cannot be called, and `state` says why
    TargetState state;                   // installed, enabled, queue and memory figures
    bool continues = false;              // takes GenerateRequest::assistant_prefix
  };
  virtual Found Find(const Target& target) = 0;

  // A model that no strategy names, as a target of its own.
  // Errors: kModelNotFound; kModelNotInstalled with the command that installs it.
  virtual std::expected<Target, Failure> Resolve(std::string_view model) = 0;

  virtual DeviceState ReadDevice() = 0;
};

}  // namespace tandem::gateway::dispatch
