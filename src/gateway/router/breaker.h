// A circuit breaker for one (upstream, model): stops calling what fails, tries again, comes back
// slowly. Pure: time and randomness are arguments.
//
// Closed: outcomes of the last 60 s are kept in 10 buckets. It opens when
//   - there are at least 20 outcomes and the Wilson lower bound of the failure share exceeds
//     `error_threshold` (the bare share would open for 18 % of the windows of a healthy upstream
//     with 1 % errors), or
//   - 5 failures came in a row, or
//   - there are at least 20 outcomes and the lower bound of the share of slow calls exceeds a half.
// Open: nothing passes for recovery_timeout +/- 10 %; each further opening doubles that, to 600 s.
// Half-open: at most 3 probes at a time; 5 successes close it, one failure opens it again.
// After closing, traffic comes back over 30 s (slow start).
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>

#include "base/clock.h"

namespace tandem::gateway {

struct BreakerOptions {
  double error_threshold = 0.05;  // of the wire contract's circuit_breaker
  std::chrono::milliseconds recovery_timeout{60'000};
  double slow_threshold = 0.5;
  int min_outcomes = 20;
  int failures_in_a_row = 5;
  int max_probes = 3;
  int successes_to_close = 5;
  std::chrono::milliseconds window{60'000};
  std::chrono::milliseconds slow_start{30'000};
  std::chrono::milliseconds max_recovery{600'000};

  friend bool operator==(const BreakerOptions&, const BreakerOptions&) = default;
};

enum class CallOutcome {
  kSuccess,
  kFailure,  // connect, TLS, 5xx, first-token or idle timeout, malformed or cut stream, in-band
             // error
  kNeutral,  // client cancelled, 4xx: says nothing about the upstream
};

// Thread: one at a time.
class Breaker {
 public:
  enum class State { kClosed, kOpen, kHalfOpen };

  // Allows one call, which must end in exactly one Record, also when nothing came of it (kNeutral).
  struct Permit {
    uint64_t epoch = 0;  // outcomes of calls from before a change of state do not count after it
    bool probe = false;
  };

  explicit Breaker(BreakerOptions options) : options_(options) {}

  // Nothing when the call may not be made. `random` in [0, 1) decides during slow start.
  std::optional<Permit> Acquire(SteadyTime now, double random);

  // `slow`: the call succeeded but took longer than its tier allows. `random` spreads the next try.
  void Record(Permit permit, CallOutcome outcome, bool slow, SteadyTime now, double random);

  // What Acquire would find, without asking for a permit.
  State state(SteadyTime now) const;
  // When the next probe is possible; meaningful while open.
  SteadyTime retry_at() const { return retry_at_; }
  // For decisions among open breakers: the share of failures in the window, 0 where unknown.
  double failure_share(SteadyTime now) const;
  int times_opened() const { return times_opened_; }

 private:
  struct Bucket {
    int64_t number = -1;  // which slice of time it holds; older ones are stale
    uint32_t outcomes = 0;
    uint32_t failures = 0;
    uint32_t slow = 0;
  };
  static constexpr int kBuckets = 10;

  int64_t SliceOf(SteadyTime now) const;
  Bucket Sum(SteadyTime now) const;
  bool ShouldOpen(SteadyTime now) const;
  void Open(SteadyTime now, double random);
  void Close(SteadyTime now);
  void BeginHalfOpenIfDue(SteadyTime now);

  BreakerOptions options_;
  State state_ = State::kClosed;
  uint64_t epoch_ = 0;
  std::array<Bucket, kBuckets> buckets_ = {};
  int failures_in_a_row_ = 0;
  int openings_in_a_row_ = 0;
  int times_opened_ = 0;
  int probes_ = 0;
  int probe_successes_ = 0;
  SteadyTime retry_at_{};
  std::optional<SteadyTime> closed_at_;  // start of the slow start; empty for a fresh breaker
};

}  // namespace tandem::gateway
