#include "gateway/relay/relay.h"

#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gateway/relay/relay_harness.h"

namespace tandem::gateway::relay {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;

// ---- faults: before and after the commit, hand-off allowed or not ------------------------------

enum class When { kBefore, kAfter };

struct Fault {
  std::string name;
  void (*apply)(Harness&);
  FailureCode told;  // in the attempt
  // Where no other candidate answers; nothing: the second one does.
  std::optional<FailureCode> before;
  std::optional<FailureCode> after;  // with hand-off allowed
  FailureCode forbidden;             // after, hand-off not allowed
  bool relay_cancels = false;        // the first call is still running
};

std::vector<Fault> Faults() {
  using enum FailureCode;
  const auto fails = [](auto code) {
    return +[](Harness& h) { h.call(0).Emit(FailedWith(decltype(code)::value)); };
  };
#define TANDEM_FAILS(code) fails(std::integral_constant<FailureCode, code>())
  return {
      {"connect refused, 5xx, cut, malformed chunk, in-band error",
       TANDEM_FAILS(kUnavailable),
       kUnavailable,
       {},
       {},
       kUnavailable},
      {"429", TANDEM_FAILS(kRateLimited), kRateLimited, {}, {}, kRateLimited},
      {"quota spent", TANDEM_FAILS(kQuotaExhausted), kQuotaExhausted, {}, {}, kQuotaExhausted},
      {"key rejected",
       TANDEM_FAILS(kCredentialRejected),
       kCredentialRejected,
       {},
       {},
       kCredentialRejected},
      {"out of memory", TANDEM_FAILS(kOutOfMemory), kOutOfMemory, {}, {}, kOutOfMemory},
      {"window too small",
       TANDEM_FAILS(kContextLengthExceeded),
       kContextLengthExceeded,
       {},
       {},
       kContextLengthExceeded},
      {"not installed",
       TANDEM_FAILS(kModelNotInstalled),
       kModelNotInstalled,
       {},
       {},
       kModelNotInstalled},
      {"prefix not supported", TANDEM_FAILS(kUnsupported), kUnsupported, {}, {}, kUnsupported},
      {"accelerator",
       TANDEM_FAILS(kNpuContextCreateFailed),
       kNpuContextCreateFailed,
       {},
       {},
       kNpuContextCreateFailed},
      {"shutting down", TANDEM_FAILS(kShuttingDown), kShuttingDown, {}, {}, kShuttingDown},
      {"internal", TANDEM_FAILS(kInternal), kInternal, {}, {}, kInternal},
      {"the provider's own time limit",
       TANDEM_FAILS(kDeadlineExceeded),
       kDeadlineExceeded,
       {},
       {},
       kDeadlineExceeded},
      {"bad request", TANDEM_FAILS(kInvalidRequest), kInvalidRequest, kInvalidRequest,
       kInvalidRequest, kInvalidRequest},
      {"budget spent", TANDEM_FAILS(kBudgetExceeded), kBudgetExceeded, kBudgetExceeded,
       kBudgetExceeded, kBudgetExceeded},
      {"loop",
       [](Harness& h) {
         h.call(0).Emit(Finished{.reason = FinishReason::kDegenerate, .detail = "tail_period: x"});
       },
       kOutputValidationFailed,
       {},
       {},
       kOutputValidationFailed},
      {"gave up",
       [](Harness& h) { h.call(0).Emit(Finished{.reason = FinishReason::kCancelled}); },
       kUnavailable,
       {},
       {},
       kUnavailable},
      {"stall",
       [](Harness& h) { h.Advance(1500); },
       kDeadlineExceeded,
       {},
       {},
       kDeadlineExceeded,
       true},
      {"deadline of the chain",
       [](Harness& h) {
         // Tokens keep coming, so that no other limit is met.
         for (int i = 0; i < 12 && !h.client.over(); ++i) {
           h.Advance(900);
           if (!h.client.text.empty()) h.call(0).EmitText(fmt::format(" w{}", i));
           if (h.client.text.empty()) h.call(0).EmitText("");
         }
       },
       kDeadlineExceeded, kDeadlineExceeded, kDeadlineExceeded, kDeadlineExceeded, true},
  };
#undef TANDEM_FAILS
}

TEST(RelayFaultsTest, EveryFaultHasItsOutcome) {
  for (const Fault& fault : Faults()) {
    for (const When when : {When::kBefore, When::kAfter}) {
      for (const bool allowed : {true, false}) {
        SCOPED_TRACE(fmt::format("{}, {} the commit, hand-off {}", fault.name,
                                 when == When::kBefore ? "before" : "after",
                                 allowed ? "allowed" : "forbidden"));
        Harness harness(2);
        harness.candidates[0].timeouts = {milliseconds(1000), milliseconds(1000), milliseconds(0)};
        harness.options.deadline = milliseconds(10'000);
        harness.options.hand_off_allowed = allowed;
        harness.Start();
        if (when == When::kAfter) harness.call(0).EmitText("Hello");
        fault.apply(harness);
        EXPECT_EQ(harness.call(0).cancels() > 0, fault.relay_cancels);

        const std::optional<FailureCode> expected = when == When::kBefore ? fault.before
                                                    : allowed             ? fault.after
                                                              : std::optional(fault.forbidden);
        if (!expected) {
          ASSERT_EQ(harness.n_calls(1), 1u);
          EXPECT_FALSE(harness.client.over());
          EXPECT_EQ(harness.call(1).request().assistant_prefix,
                    when == When::kAfter ? "Hello" : "");
          harness.call(1).EmitText(when == When::kAfter ? " again" : "Hello again");
          harness.call(1).Emit(Finished{.usage = {9, 4, 0}});
          // A first call that was only cancelled says when it ended; the answer waits a little.
          if (!harness.call(0).done()) {
            harness.call(0).Emit(Finished{.reason = FinishReason::kCancelled});
          }
          ASSERT_TRUE(harness.client.finished);
          EXPECT_EQ(harness.client.text, "Hello again");
          EXPECT_THAT(Outcomes(harness.client.attempts()),
                      ElementsAre(when == When::kAfter ? kHandedOff : kFailedAttempt, kAnswered));
        } else {
          EXPECT_EQ(harness.n_calls(1), 0u);
          ASSERT_TRUE(harness.client.failed);
          EXPECT_EQ(harness.client.failed->failure.code, *expected);
          EXPECT_THAT(Outcomes(harness.client.attempts()), ElementsAre(kFailedAttempt));
          EXPECT_TRUE(harness.client.text.starts_with(when == When::kAfter ? "Hello" : ""));
        }
        EXPECT_EQ(harness.client.attempts()[0].failure, fault.told);
        EXPECT_FALSE(harness.client.attempts()[0].detail.empty());
        harness.providers[0]->FinishAll();
        EXPECT_EQ(harness.observer->ended.size(), expected ? 1u : 2u);
        EXPECT_TRUE(harness.observer->done);
        EXPECT_EQ(harness.timers.size(), 0u);
      }
    }
  }
}

TEST(RelayFaultsTest, EmptyAnswerMovesOn) {
  for (const char* text : {"", " \n"}) {
    Harness harness(2);
    harness.Start();
    harness.call(0).EmitText(text);
    harness.call(0).Emit(Finished{});
    ASSERT_EQ(harness.n_calls(1), 1u);
    harness.call(1).EmitText("Hello");
    harness.call(1).Emit(Finished{});
    EXPECT_EQ(harness.client.text, "Hello");
    EXPECT_EQ(harness.client.attempts()[0].failure, FailureCode::kOutputValidationFailed);
  }
}

TEST(RelayFaultsTest, NothingButWhiteSpaceMovesOnBeforeItFillsTheMemory) {
  Harness harness(2);
  harness.Start();
  for (int i = 0; i < 64; ++i) harness.call(0).EmitText("\n");
  EXPECT_EQ(harness.call(0).cancels(), 1);
  EXPECT_EQ(harness.n_calls(1), 1u);
  EXPECT_EQ(harness.client.text, "");
}

TEST(RelayFaultsTest, EmptyAnswerOfLengthOrFilterIsAnAnswer) {
  for (const FinishReason reason : {FinishReason::kLength, FinishReason::kContentFilter}) {
    Harness harness(2);
    harness.Start();
    harness.call(0).Emit(Finished{.reason = reason, .usage = {3, 1, 0}});
    ASSERT_TRUE(harness.client.finished);
    EXPECT_EQ(harness.client.finished->reason, reason);
    EXPECT_EQ(harness.client.finished->usage, (Usage{3, 1, 0}));
  }
}

TEST(RelayFaultsTest, MostTellingFailureIsReportedWhenAllFail) {
  Harness harness(3);
  harness.Start();
  harness.call(0).Emit(FailedWith(FailureCode::kOutOfMemory, "4 GB wanted, 2 GB free"));
  harness.call(1).Emit(FailedWith(FailureCode::kUnavailable, "refused"));
  Failed last = FailedWith(FailureCode::kRateLimited, "slow down");
  last.failure.retry_after = milliseconds(5000);
  harness.call(2).Emit(std::move(last));
  ASSERT_TRUE(harness.client.failed);
  EXPECT_EQ(harness.client.failed->failure.message, "4 GB wanted, 2 GB free");
  EXPECT_EQ(harness.client.failed->failure.retry_after, milliseconds(5000));
  EXPECT_EQ(harness.client.failed->attempts.size(), 3u);
  EXPECT_EQ(harness.observer->done->failure->code, FailureCode::kOutOfMemory);
  EXPECT_EQ(harness.observer->committed, std::nullopt);
}

TEST(RelayFaultsTest, OpenBreakersAreSkipped) {
  Harness harness(3);
  harness.observer->closed = {{0, true}, {2, true}};
  harness.Start();
  EXPECT_EQ(harness.n_calls(0), 0u);
  harness.call(1).Emit(FailedWith(FailureCode::kUnavailable, "refused"));
  ASSERT_TRUE(harness.client.failed);
  EXPECT_EQ(harness.client.failed->failure.message, "refused");
  EXPECT_THAT(Outcomes(harness.client.attempts()), ElementsAre(kSkipped, kFailedAttempt, kSkipped));
  EXPECT_EQ(harness.observer->ended.size(), 1u);
}

TEST(RelayFaultsTest, AllBreakersOpenIsUnavailable) {
  Harness harness(2);
  harness.observer->closed = {{0, true}, {1, true}};
  harness.Start();
  ASSERT_TRUE(harness.client.failed);
  EXPECT_EQ(harness.client.failed->failure.code, FailureCode::kUnavailable);
  EXPECT_TRUE(harness.observer->done);
}

// ---- retries ----------------------------------------------------------------------------------

TEST(RelayFaultsTest, FastFailuresAreRetriedWithJitterThenMoveOn) {
  Harness harness(2);
  harness.candidates[0].max_retries = 2;
  harness.Start();
  harness.call(0).Emit(FailedWith(FailureCode::kUnavailable));
  EXPECT_EQ(harness.n_calls(0), 1u);
  harness.Advance(124);
  EXPECT_EQ(harness.n_calls(0), 1u);
  harness.Advance(1);
  EXPECT_EQ(harness.n_calls(0), 2u);
  harness.call(0).Emit(FailedWith(FailureCode::kUnavailable));
  harness.Advance(250);
  EXPECT_EQ(harness.n_calls(0), 3u);
  harness.call(0).Emit(FailedWith(FailureCode::kUnavailable));
  EXPECT_EQ(harness.n_calls(1), 1u);
  harness.call(1).EmitText("Hello");
  harness.call(1).Emit(Finished{});
  const std::vector<Attempt>& attempts = harness.client.attempts();
  ASSERT_EQ(attempts.size(), 4u);
  EXPECT_EQ(attempts[2].retry, 2);
  EXPECT_EQ(attempts[2].started_ms, 375);
  EXPECT_EQ(attempts[3].retry, 0);
}

TEST(RelayFaultsTest, RetryThatAnswersIsTheAnswer) {
  Harness harness(2);
  harness.candidates[0].max_retries = 1;
  harness.Start();
  harness.call(0).Emit(FailedWith(FailureCode::kRateLimited));
  harness.Advance(1000);
  harness.call(0).EmitText("Hello");
  harness.call(0).Emit(Finished{});
  EXPECT_EQ(harness.client.text, "Hello");
  EXPECT_THAT(Outcomes(harness.client.attempts()), ElementsAre(kFailedAttempt, kAnswered));
}

TEST(RelayFaultsTest, SlowAndPermanentFailuresAreNotRetried) {
  for (const FailureCode code : {FailureCode::kDeadlineExceeded, FailureCode::kOutOfMemory,
                                 FailureCode::kCredentialRejected}) {
    Harness harness(2);
    harness.candidates[0].max_retries = 2;
    harness.Start();
    harness.call(0).Emit(FailedWith(code));
    EXPECT_EQ(harness.n_calls(1), 1u);
  }
  Harness harness(2);
  harness.candidates[0].max_retries = 2;
  harness.candidates[0].timeouts.first_token = milliseconds(100);
  harness.Start();
  harness.Advance(100);
  EXPECT_EQ(harness.n_calls(1), 1u);
}

TEST(RelayFaultsTest, NothingIsRetriedAfterTheCommit) {
  Harness harness(1);
  harness.candidates[0].max_retries = 2;
  harness.Start();
  harness.call(0).EmitText("Hello");
  harness.call(0).Emit(FailedWith(FailureCode::kUnavailable));
  EXPECT_TRUE(harness.client.failed);
}

TEST(RelayFaultsTest, RetryAfterIsHonouredUnlessItIsTooLong) {
  struct Row {
    int retry_after_ms;
    int deadline_ms;
    bool retried;
  };
  for (const Row& row : {Row{2000, 0, true}, Row{2000, 10'000, true}, Row{2000, 1500, false},
                         Row{9000, 0, false}, Row{9000, 60'000, false}}) {
    Harness harness(2);
    harness.candidates[0].max_retries = 1;
    harness.options.deadline = milliseconds(row.deadline_ms);
    harness.Start();
    Failed failed = FailedWith(FailureCode::kRateLimited);
    failed.failure.retry_after = milliseconds(row.retry_after_ms);
    harness.call(0).Emit(std::move(failed));
    EXPECT_EQ(harness.n_calls(1), row.retried ? 0u : 1u) << row.retry_after_ms;
    if (!row.retried) continue;
    harness.Advance(row.retry_after_ms - 1);
    EXPECT_EQ(harness.n_calls(0), 1u);
    harness.Advance(1);
    EXPECT_EQ(harness.n_calls(0), 2u);
  }
}

TEST(RelayFaultsTest, RetriesNeedTheBudget) {
  FakeClock clock;
  RetryBudget budget(&clock, {.share = 0.1, .burst = 1, .per_second = 0});
  for (const bool retried : {true, false}) {
    Harness harness(2);
    harness.candidates[0].max_retries = 2;
    harness.options.retry_budget = &budget;
    harness.Start();
    harness.call(0).Emit(FailedWith(FailureCode::kUnavailable));
    EXPECT_EQ(harness.n_calls(1), retried ? 0u : 1u);
  }
}

TEST(RelayFaultsTest, RetryWhoseBreakerOpenedMovesOn) {
  Harness harness(2);
  harness.candidates[0].max_retries = 1;
  harness.Start();
  harness.call(0).Emit(FailedWith(FailureCode::kUnavailable));
  harness.observer->closed[0] = true;
  harness.Advance(1000);
  EXPECT_EQ(harness.n_calls(0), 1u);
  EXPECT_EQ(harness.n_calls(1), 1u);
}

}  // namespace
}  // namespace tandem::gateway::relay
