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
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "metrics/histogram.h"

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

// Prompt lengths up to 256, 1,024, 4,096 tokens, and beyond.
int PromptBucket(int32_t prompt_tokens);

struct CanarySample {
  bool canary = false;
  bool streamed = false;
  int32_t prompt_tokens = 0;
  bool error = false;       // no answer, or a fallback had to give it
  bool degenerate = false;  // the detectors ended it
  double ttft_ms = 0;       // 0: none was measured
  double ms_per_token = 0;  // likewise
  bool engaged = false;     // the application reported that the user made use of the answer
};

class Canary {
 public:
  enum class State { kRunning, kHeld, kPromoted, kRolledBack };

  // What happened at a look, for the audit log.
  struct Change {
    State state;
    double share;
    std::string reason;  // "step 2 of 6: ...", "p99 of ttft_ms: 31 of 1000 above 1.25 x 420.0"
  };

  Canary(CanaryOptions options, SteadyTime now);

  // Whether this subject gets the canary. A subject that does at one share does at every larger
  // one.
  bool Assigned(std::string_view subject) const;

  void Record(const CanarySample& sample);
  // The application reported afterwards that the user made use of an answer of that arm.
  void Engage(bool canary) {
    Arm& arm = arms_[canary ? 1 : 0];
    if (arm.engaged < arm.requests) ++arm.engaged;
  }

  // Looks at the figures; gives what changed, if anything did.
  std::vector<Change> Tick(SteadyTime now);

  // By hand. Promote goes to the next step, or to the end with `completely`; Hold stops Tick from
  // changing anything; Promote ends a hold.
  Change Promote(SteadyTime now, bool completely, std::string_view who);
  Change Hold(std::string_view who);
  Change RollBack(std::string_view who);

  State state() const { return state_; }
  double share() const;
  int step() const { return static_cast<int>(step_); }
  uint64_t samples(bool canary) const { return arms_[canary ? 1 : 0].requests; }
  bool reports_engagement() const { return arms_[0].engaged + arms_[1].engaged > 0; }

 private:
  static constexpr int kStrata = 8;  // streamed or not x four prompt buckets
  static constexpr std::array<double, 3> kQuantiles = {0.50, 0.95, 0.99};

  struct Arm {
    uint64_t requests = 0;
    uint64_t errors = 0;
    uint64_t degenerate = 0;
    uint64_t engaged = 0;
    std::array<metrics::Histogram, kStrata> ttft_ms;
    std::array<metrics::Histogram, kStrata> ms_per_token;
  };
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
  void CompareShare(std::string_view name, uint64_t baseline_hits, uint64_t canary_hits,
                    bool more_is_worse, Verdict* verdict) const;
  Verdict Compare() const;
  void EnterStep(size_t step, SteadyTime now);
  Change End(State state, std::string reason);

  CanaryOptions options_;
  State state_ = State::kRunning;
  size_t step_ = 0;
  SteadyTime step_began_;
  std::array<Arm, 2> arms_;  // baseline, canary; of this step
  int failures_in_a_row_ = 0;
};

std::string_view CanaryStateName(Canary::State state);

}  // namespace tandem::gateway
