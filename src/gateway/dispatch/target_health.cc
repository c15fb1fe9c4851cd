#include "gateway/dispatch/target_health.h"

#include <algorithm>

namespace tandem::gateway::dispatch {
namespace {

// Free memory must exceed what is wanted by this much after it was short once.
constexpr double kMemoryHysteresis = 1.1;

double SecondsUntil(SteadyTime then, SteadyTime now) {
  return std::max(0.0, MillisecondsBetween(now, then) / 1e3);
}

Verdict VerdictOfFailure(FailureCode code) {
  using Effect = Verdict::Effect;
  switch (code) {
    case FailureCode::kUnavailable:
    case FailureCode::kDeadlineExceeded:
    case FailureCode::kInternal:
    case FailureCode::kNpuContextCreateFailed:
      return {CallOutcome::kFailure, Effect::kNone};
    case FailureCode::kRateLimited:
    case FailureCode::kShuttingDown:
      return {CallOutcome::kNeutral, Effect::kCoolDown};
    case FailureCode::kQuotaExhausted:
      return {CallOutcome::kNeutral, Effect::kQuota};
    case FailureCode::kCredentialRejected:
      return {CallOutcome::kNeutral, Effect::kCredential};
    case FailureCode::kOutOfMemory:
      return {CallOutcome::kNeutral, Effect::kMemoryPressure};
    default:
      // The request's own fault, or the client's wish. Degenerate text too says more about prompt
      // and model than about whether the target works; the canary counts it.
      return {CallOutcome::kNeutral, Effect::kNone};
  }
}

}  // namespace

Verdict VerdictOf(const Attempt& attempt) {
  switch (attempt.outcome) {
    case AttemptOutcome::kAnswered:
      return {CallOutcome::kSuccess, Verdict::Effect::kNone};
    case AttemptOutcome::kFailed:
    case AttemptOutcome::kHandedOff:
      return VerdictOfFailure(attempt.failure.value_or(FailureCode::kUnavailable));
    case AttemptOutcome::kCancelled:
    case AttemptOutcome::kSkipped:
      return {};
  }
  return {};
}

std::optional<TargetHealth::Ticket> TargetHealth::Begin(SteadyTime now, double random,
                                                        bool forced) {
  std::lock_guard lock(mutex_);
  if (auto permit = breaker_.Acquire(now, random)) return Ticket{permit};
  if (forced) return Ticket{};
  return std::nullopt;
}

void TargetHealth::End(const Ticket& ticket, const Attempt& attempt, bool slow, SteadyTime now,
                       double random) {
  const Verdict verdict = VerdictOf(attempt);
  std::lock_guard lock(mutex_);
  if (ticket.permit) breaker_.Record(*ticket.permit, verdict.outcome, slow, now, random);
  switch (verdict.effect) {
    case Verdict::Effect::kNone:
      break;
    case Verdict::Effect::kCoolDown: {
      const std::chrono::milliseconds wait = attempt.retry_after.value_or(kDefaultCoolDown);
      cool_until_ = now + std::clamp<std::chrono::milliseconds>(wait, std::chrono::milliseconds(0),
                                                                kMaxCoolDown);
      break;
    }
    case Verdict::Effect::kQuota:
      quota_until_ = now + kQuotaPause;
      break;
    case Verdict::Effect::kCredential:
      credential_rejected_ = true;
      break;
    case Verdict::Effect::kMemoryPressure:
      memory_until_ = now + kMemoryPause;
      break;
  }
  const bool gave_text = attempt.ttft_ms.has_value() && attempt.usage.prompt_tokens > 0;
  if (gave_text) {
    curve_.AddFirstToken(
        std::max<int64_t>(0, attempt.usage.prompt_tokens - attempt.usage.cached_tokens),
        *attempt.ttft_ms);
  }
  if (verdict.outcome == CallOutcome::kSuccess && attempt.ttft_ms) {
    curve_.AddDecode(attempt.usage.completion_tokens - 1,
                     attempt.ended_ms - attempt.started_ms - *attempt.ttft_ms);
  }
}

void TargetHealth::Describe(SteadyTime now, TargetState* state) const {
  std::lock_guard lock(mutex_);
  state->breaker_open = breaker_.state(now) == Breaker::State::kOpen;
  state->failure_share = breaker_.failure_share(now);
  state->cooling_down = now < cool_until_;
  state->credential_rejected = credential_rejected_ || now < quota_until_;
  state->retry_after_s = 0;
  if (state->breaker_open) {
    state->retry_after_s = SecondsUntil(breaker_.retry_at(), now);
  } else if (now < quota_until_) {
    state->retry_after_s = SecondsUntil(quota_until_, now);
  } else if (state->cooling_down) {
    state->retry_after_s = SecondsUntil(cool_until_, now);
  } else if (now < memory_until_) {
    state->retry_after_s = SecondsUntil(memory_until_, now);
  }
  if (now < memory_until_ && state->memory_wanted_bytes) {
    state->memory_wanted_bytes =
        static_cast<uint64_t>(static_cast<double>(*state->memory_wanted_bytes) * kMemoryHysteresis);
  }
  // A memory failure where nobody knows the figures: sorted last until the pause is over.
  if (now < memory_until_ && !state->memory_wanted_bytes) state->cooling_down = true;
  state->network_ms = curve_.network_ms();
  state->prefill_tokens_per_second = curve_.prefill_tokens_per_second();
  state->decode_tokens_per_second = curve_.decode_tokens_per_second();
}

Breaker::State TargetHealth::breaker_state(SteadyTime now) const {
  std::lock_guard lock(mutex_);
  return breaker_.state(now);
}

int TargetHealth::times_opened() const {
  std::lock_guard lock(mutex_);
  return breaker_.times_opened();
}

void TargetHealth::ForgetCredential() {
  std::lock_guard lock(mutex_);
  credential_rejected_ = false;
  quota_until_ = {};
}

}  // namespace tandem::gateway::dispatch
