#include "gateway/dispatch/target_health.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace tandem::gateway::dispatch {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

Attempt Failed(FailureCode code) {
  return {.target = "t", .outcome = AttemptOutcome::kFailed, .failure = code};
}
Attempt Answered(int64_t prompt, double ttft_ms, int64_t tokens, double ms) {
  Attempt attempt{.target = "t", .outcome = AttemptOutcome::kAnswered};
  attempt.usage = {.prompt_tokens = prompt, .completion_tokens = tokens};
  attempt.ttft_ms = ttft_ms;
  attempt.ended_ms = ttft_ms + ms;
  return attempt;
}

class TargetHealthTest : public ::testing::Test {
 protected:
  void Call(const Attempt& attempt) {
    const auto ticket = health_.Begin(now_, 0.5, false);
    ASSERT_TRUE(ticket);
    health_.End(*ticket, attempt, false, now_, 0.5);
  }
  TargetState State() {
    TargetState state;
    health_.Describe(now_, &state);
    return state;
  }
  SteadyTime now_ = SteadyTime{} + std::chrono::hours(1);
  TargetHealth health_{BreakerOptions{}};
};

TEST_F(TargetHealthTest, EveryFailureHasItsVerdict) {
  using Effect = Verdict::Effect;
  const struct {
    FailureCode code;
    CallOutcome outcome;
    Effect effect;
  } rows[] = {
      {FailureCode::kInvalidRequest, CallOutcome::kNeutral, Effect::kNone},
      {FailureCode::kUnsupported, CallOutcome::kNeutral, Effect::kNone},
      {FailureCode::kContextLengthExceeded, CallOutcome::kNeutral, Effect::kNone},
      {FailureCode::kUnauthenticated, CallOutcome::kNeutral, Effect::kNone},
      {FailureCode::kPermissionDenied, CallOutcome::kNeutral, Effect::kNone},
      {FailureCode::kPrivacyRefused, CallOutcome::kNeutral, Effect::kNone},
      {FailureCode::kModelNotFound, CallOutcome::kNeutral, Effect::kNone},
      {FailureCode::kModelNotInstalled, CallOutcome::kNeutral, Effect::kNone},
      {FailureCode::kPayloadTooLarge, CallOutcome::kNeutral, Effect::kNone},
      {FailureCode::kRateLimited, CallOutcome::kNeutral, Effect::kCoolDown},
      {FailureCode::kShuttingDown, CallOutcome::kNeutral, Effect::kCoolDown},
      {FailureCode::kOutOfMemory, CallOutcome::kNeutral, Effect::kMemoryPressure},
      {FailureCode::kNpuContextCreateFailed, CallOutcome::kFailure, Effect::kNone},
      {FailureCode::kOutputValidationFailed, CallOutcome::kNeutral, Effect::kNone},
      {FailureCode::kCancelled, CallOutcome::kNeutral, Effect::kNone},
      {FailureCode::kDeadlineExceeded, CallOutcome::kFailure, Effect::kNone},
      {FailureCode::kUnavailable, CallOutcome::kFailure, Effect::kNone},
      {FailureCode::kCredentialRejected, CallOutcome::kNeutral, Effect::kCredential},
      {FailureCode::kQuotaExhausted, CallOutcome::kNeutral, Effect::kQuota},
      {FailureCode::kInternal, CallOutcome::kFailure, Effect::kNone},
  };
  for (const auto& row : rows) {
    for (const AttemptOutcome outcome : {AttemptOutcome::kFailed, AttemptOutcome::kHandedOff}) {
      Attempt attempt = Failed(row.code);
      attempt.outcome = outcome;
      const Verdict verdict = VerdictOf(attempt);
      EXPECT_EQ(verdict.outcome, row.outcome) << static_cast<int>(row.code);
      EXPECT_EQ(verdict.effect, row.effect) << static_cast<int>(row.code);
    }
  }
  Attempt cancelled = Failed(FailureCode::kUnavailable);
  cancelled.outcome = AttemptOutcome::kCancelled;
  EXPECT_EQ(VerdictOf(cancelled).outcome, CallOutcome::kNeutral);
}

TEST_F(TargetHealthTest, RateLimitCoolsDownForAsLongAsItSays) {
  Attempt attempt = Failed(FailureCode::kRateLimited);
  attempt.retry_after = milliseconds(7000);
  Call(attempt);
  EXPECT_TRUE(State().cooling_down);
  EXPECT_DOUBLE_EQ(State().retry_after_s, 7);
  EXPECT_FALSE(State().breaker_open);
  now_ += milliseconds(7001);
  EXPECT_FALSE(State().cooling_down);
  EXPECT_DOUBLE_EQ(State().retry_after_s, 0);
}

TEST_F(TargetHealthTest, AbsurdRetryAfterIsBounded) {
  Attempt attempt = Failed(FailureCode::kRateLimited);
  attempt.retry_after = std::chrono::hours(24 * 365);
  Call(attempt);
  now_ += TargetHealth::kMaxCoolDown + seconds(1);
  EXPECT_FALSE(State().cooling_down);
}

TEST_F(TargetHealthTest, RejectedCredentialStaysOffUntilItIsChanged) {
  Call(Failed(FailureCode::kCredentialRejected));
  now_ += std::chrono::hours(100);
  EXPECT_TRUE(State().credential_rejected);
  health_.ForgetCredential();
  EXPECT_FALSE(State().credential_rejected);
}

TEST_F(TargetHealthTest, SpentQuotaPausesForLong) {
  Call(Failed(FailureCode::kQuotaExhausted));
  EXPECT_TRUE(State().credential_rejected);
  EXPECT_NEAR(State().retry_after_s, 600, 1e-9);
  now_ += TargetHealth::kQuotaPause + seconds(1);
  EXPECT_FALSE(State().credential_rejected);
}

TEST_F(TargetHealthTest, FiveFailuresInARowOpenTheBreakerAndForcedCallsStillPass) {
  for (int i = 0; i < 5; ++i) Call(Failed(FailureCode::kUnavailable));
  EXPECT_TRUE(State().breaker_open);
  EXPECT_GT(State().retry_after_s, 50);
  EXPECT_FALSE(health_.Begin(now_, 0.5, false));
  const auto forced = health_.Begin(now_, 0.5, true);
  ASSERT_TRUE(forced);
  EXPECT_FALSE(forced->permit);
  health_.End(*forced, Answered(10, 5, 3, 5), false, now_, 0.5);
  EXPECT_TRUE(State().breaker_open) << "a forced call is no probe";
  EXPECT_EQ(health_.times_opened(), 1);
}

TEST_F(TargetHealthTest, MemoryThatWasShortMustExceedTheNeedByATenth) {
  TargetState state;
  state.memory_wanted_bytes = 1000;
  Call(Failed(FailureCode::kOutOfMemory));
  health_.Describe(now_, &state);
  EXPECT_EQ(state.memory_wanted_bytes, 1100u);
  EXPECT_FALSE(state.cooling_down);
  EXPECT_TRUE(State().cooling_down) << "without figures it is sorted last";
  now_ += TargetHealth::kMemoryPause + seconds(1);
  state.memory_wanted_bytes = 1000;
  health_.Describe(now_, &state);
  EXPECT_EQ(state.memory_wanted_bytes, 1000u);
}

TEST_F(TargetHealthTest, AnswersTeachTheCurves) {
  for (int i = 0; i < 20; ++i) Call(Answered(100 + 50 * (i % 5), 20 + 100 + 50 * (i % 5), 11, 100));
  EXPECT_NEAR(*State().network_ms, 20, 1e-6);
  EXPECT_NEAR(*State().prefill_tokens_per_second, 1000, 1e-6);
  EXPECT_NEAR(*State().decode_tokens_per_second, 100, 1e-6);
}

// Half-open lets three probes in at a time, however many threads ask.
TEST_F(TargetHealthTest, HalfOpenAdmitsThreeProbesUnderConcurrency) {
  for (int i = 0; i < 5; ++i) Call(Failed(FailureCode::kUnavailable));
  now_ += seconds(67);  // recovery_timeout + 10 %
  std::atomic<int> admitted{0};
  std::vector<std::jthread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < 50; ++k) {
        if (health_.Begin(now_, 0.5, false)) ++admitted;
      }
    });
  }
  threads.clear();
  EXPECT_EQ(admitted, 3);
}

}  // namespace
}  // namespace tandem::gateway::dispatch
