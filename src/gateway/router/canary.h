// Rolls a new target out on a growing share of traffic, and takes it back when it is worse. Pure:
// time is an argument, assignment is a hash.
//
// Each step compares the canary with the baseline on requests of the same kind (streamed or not,
// prompt length bucket), from its own samples only:
//   - error and degeneration share: a fallback's answer counts as the canary's error;
//   - time to first token and time per output token, at p50, p95 and p99: the share of canary
//     samples that lie above r times the baseline's quantile, whose Wilson bound must not exceed
//     the quantile's own tail. Not total latency, which compares the lengths of answers;
//   - the share of requests with a reported engagement event, where any are reported.
// It is looked at again and again, so a difference must cross a boundary in the manner of O'Brien
// and Fleming, which is strict while there is little information. Too few samples never promote;
// when a step takes three times as long as it should, the canary is held for a person to decide.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "gateway/router/canary_figures.h"

namespace tandem::gateway {

struct CanaryOptions {
  std::string id;  // names the roll-out; salts the hash
  std::vector<double> steps = {0.01, 0.05, 0.10, 0.25, 0.50, 1.0};  // shares of traffic, ascending
  std::chrono::seconds min_step_time{300};
  std::chrono::seconds bake_time{900};   // at a share of 1, before it is promoted
  int max_step_factor = 3;               // a step that lasts so many times its time is held
  std::chrono::seconds step_time{3600};  // expected for one step
  double alpha = 0.05;  // probability that an equal canary is rolled back, over the whole roll-out
  std::array<double, 3> worse_ratio = {1.10, 1.15, 1.25};  // r at p50, p95, p99
  std::array<uint64_t, 3> min_samples = {200, 500, 1000};  // of the canary, for each quantile
  uint64_t min_error_samples = 224;                        // detects 1 % -> 5 %
  int failures_in_a_row = 5;                               // abort at once

  friend bool operator==(const CanaryOptions&, const CanaryOptions&) = default;
};

// Errors: kInvalidArgument, naming the field.
Status Validate(const CanaryOptions& options);

class Canary {
 public:
  enum class State { kRunning, kHeld, kPromoted, kRolledBack };

  // What happened at a look, for the audit log.
  struct Change {
    State state;
    double share;
    std::string reason;  // "step 2 of 6: ...", "p99 of ttft_ms: 31 of 1000 above 1.25 x 420.0"
  };

  // Where it is, beside its figures: what must be kept for it to go on elsewhere.
  struct Position {
    State state = State::kRunning;
    int step = 0;
    SystemTime step_began;
    friend bool operator==(const Position&, const Position&) = default;
  };

  Canary(CanaryOptions options, SystemTime now)
      : Canary(std::move(options), Position{.step_began = now}) {}
  // Goes on from there; a step that its options do not have is the last one.
  Canary(CanaryOptions options, Position position);

  // Whether this subject gets the canary. A subject that does at one share does at every larger
  // one.
  bool Assigned(std::string_view subject) const;

  void Record(const CanarySample& sample) { figures_.Record(sample); }
  void Engage(bool canary) { figures_.Engage(canary); }
  const CanaryFigures& figures() const { return figures_; }
  void SetFigures(CanaryFigures figures) { figures_ = std::move(figures); }

  // Looks at its own figures, or at those of all nodes; gives what changed, if anything did. A new
  // step begins without figures.
  std::vector<Change> Tick(SystemTime now) { return Tick(now, figures_); }
  std::vector<Change> Tick(SystemTime now, const CanaryFigures& figures);

  // By hand. Promote goes to the next step, or to the end with `completely`; Hold stops Tick from
  // changing anything; Promote ends a hold.
  Change Promote(SystemTime now, bool completely, std::string_view who);
  Change Hold(std::string_view who);
  Change RollBack(std::string_view who);

  State state() const { return state_; }
  double share() const;
  int step() const { return static_cast<int>(step_); }
  Position position() const { return {state_, step(), step_began_}; }

 private:
  static constexpr int kStrata = CanaryFigures::kStrata;
  static constexpr std::array<double, 3> kQuantiles = {0.50, 0.95, 0.99};

  struct Verdict {
    bool worse = false;
    bool enough = true;  // samples for every question
    std::string reason;
  };

  double Boundary(uint64_t n, uint64_t planned) const;
  void CompareLatency(std::string_view name,
                      const std::array<metrics::Histogram, kStrata>& baseline,
                      const std::array<metrics::Histogram, kStrata>& canary,
                      Verdict* verdict) const;
  void CompareShare(std::string_view name, const CanaryFigures& figures,
                    uint64_t CanaryFigures::Arm::* hits, bool more_is_worse,
                    Verdict* verdict) const;
  Verdict Compare(const CanaryFigures& figures) const;
  void EnterStep(size_t step, SystemTime now);
  Change End(State state, std::string reason);

  CanaryOptions options_;
  State state_ = State::kRunning;
  size_t step_ = 0;
  SystemTime step_began_;  // by the calendar, which restarts and other nodes share
  CanaryFigures figures_;  // of this step
};

std::string_view CanaryStateName(Canary::State state);

}  // namespace tandem::gateway
