// How one target has been doing: what its calls taught, as the facts of the next decision.
#pragma once

#include <chrono>
#include <mutex>
#include <optional>
#include <string>

#include "base/clock.h"
#include "gateway/provider/trace.h"
#include "gateway/router/breaker.h"
#include "gateway/router/latency_curve.h"
#include "gateway/router/policy.h"

namespace tandem::gateway::dispatch {

// What an attempt says about its target; the table is in target_health.cc and its test.
struct Verdict {
  CallOutcome outcome = CallOutcome::kNeutral;
  enum class Effect {
    kNone,
    kCoolDown,        // 429: sorted last until Retry-After has passed
    kQuota,           // paid quota spent: off for kQuotaPause
    kCredential,      // the key is not taken: off until the configuration changes
    kMemoryPressure,  // the device had no memory for it: off until memory is there again
  } effect = Effect::kNone;
};
Verdict VerdictOf(const Attempt& attempt);

// Thread: any.
class TargetHealth {
 public:
  explicit TargetHealth(BreakerOptions options) : breaker_(options) {}

  // Whether the target may be called now. `forced`: it is called in spite of its breaker, as the
  // least bad of all. True: exactly one End must follow.
  // The permit must be handed to End; none where the call was forced.
  struct Ticket {
    std::optional<Breaker::Permit> permit;
  };
  std::optional<Ticket> Begin(SteadyTime now, double random, bool forced);

  // `slow`: it took longer than its tier allows.
  void End(const Ticket& ticket, const Attempt& attempt, bool slow, SteadyTime now, double random);

  // Fills in everything that calls can teach. `state` comes with what others know (installed,
  // memory); memory that was short before counts as short until a tenth more than wanted is free,
  // so that the target does not flap.
  void Describe(SteadyTime now, TargetState* state) const;

  Breaker::State breaker_state(SteadyTime now) const;
  int times_opened() const;

  // The operator changed the credential.
  void ForgetCredential();

  static constexpr std::chrono::seconds kDefaultCoolDown{1};
  static constexpr std::chrono::seconds kMaxCoolDown{3600};
  static constexpr std::chrono::seconds kQuotaPause{600};
  static constexpr std::chrono::seconds kMemoryPause{2};

 private:
  mutable std::mutex mutex_;  // guards all below
  Breaker breaker_;
  LatencyCurve curve_;
  SteadyTime cool_until_{};
  SteadyTime quota_until_{};
  SteadyTime memory_until_{};
  bool credential_rejected_ = false;
};

}  // namespace tandem::gateway::dispatch
