#include "gateway/relay/relay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gateway/relay/relay_harness.h"

namespace tandem::gateway::relay {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;

// ---- one candidate ----------------------------------------------------------------------------

TEST(RelayTest, AnswerOfTheFirstCandidatePassesThrough) {
  Harness harness(2);
  harness.Start({.request_id = "r1", .messages = {{.role = "user", .content = "Hi"}}});
  EXPECT_EQ(harness.call(0).request().request_id, "r1");
  harness.clock.Advance(milliseconds(30));
  harness.call(0).EmitText("Hello");
  EXPECT_EQ(harness.client.text, "Hello") << "not held back";
  harness.clock.Advance(milliseconds(20));
  harness.call(0).EmitText(" world");
  harness.call(0).Emit(Finished{.usage = {5, 2, 1}, .egress = Egress{"h:1", 7, "ab"}});

  const Finished& end = *harness.client.finished;
  EXPECT_EQ(harness.client.text, "Hello world");
  EXPECT_EQ(end.reason, FinishReason::kStop);
  EXPECT_EQ(end.usage, (Usage{5, 2, 1}));
  EXPECT_EQ(end.ttft_ms, 30);
  EXPECT_EQ(end.e2e_ms, 50);
  EXPECT_EQ(end.egress, (Egress{"h:1", 7, "ab"}));
  ASSERT_EQ(end.attempts.size(), 1u);
  const Attempt& attempt = end.attempts[0];
  EXPECT_EQ(attempt.target, "t0");
  EXPECT_EQ(attempt.model, "p0");
  EXPECT_EQ(attempt.tier, Tier::kDeviceSmall);
  EXPECT_EQ(attempt.reason, "simple");
  EXPECT_EQ(attempt.outcome, kAnswered);
  EXPECT_EQ(attempt.failure, std::nullopt);
  EXPECT_EQ(attempt.usage, (Usage{5, 2, 1}));
  EXPECT_EQ(attempt.ttft_ms, 30);
  EXPECT_EQ(attempt.ended_ms, 50);
  EXPECT_EQ(attempt.text_end, 11u);
  EXPECT_EQ(harness.n_calls(1), 0u);
  EXPECT_TRUE(harness.call(0).released());
  ASSERT_TRUE(harness.observer->done);
  EXPECT_EQ(harness.observer->done->finish, FinishReason::kStop);
  EXPECT_EQ(harness.observer->done->usage, (Usage{5, 2, 1}));
  EXPECT_EQ(harness.observer->committed, 0u);
  EXPECT_EQ(harness.timers.size(), 0u);
}

TEST(RelayTest, EveryFinishReasonIsPassedOn) {
  for (const FinishReason reason :
       {FinishReason::kStop, FinishReason::kLength, FinishReason::kContentFilter}) {
    Harness harness(2);
    harness.Start();
    harness.call(0).EmitText("text");
    harness.call(0).Emit(Finished{.reason = reason});
    EXPECT_EQ(harness.client.finished->reason, reason);
  }
}

TEST(RelayTest, WhatIsHeldBackIsShownAtTheEnd) {
  Harness harness(1);
  harness.Start();
  for (const char* piece : {"no", ", no", ", no"}) harness.call(0).EmitText(piece);
  EXPECT_NE(harness.client.text, "no, no, no");
  harness.call(0).Emit(Finished{});
  EXPECT_EQ(harness.client.text, "no, no, no");
}

TEST(RelayTest, ProviderThatAnswersInsideStartIsRelayed) {
  Harness harness(2);
  harness.providers[0]->SetScript({TextDelta{"a", {}}, FailedWith(FailureCode::kUnavailable)});
  harness.providers[1]->SetScript({TextDelta{"b", {}}, Finished{}});
  harness.Start();
  EXPECT_EQ(harness.client.text, "ab");
  EXPECT_TRUE(harness.client.finished);
  EXPECT_TRUE(harness.observer->done);
}

TEST(RelayTest, LogprobsArePassedOnWithTheirText) {
  Harness harness(1);
  harness.Start();
  harness.call(0).Emit(TextDelta{.text = "one", .logprobs = {{.token = "one"}}});
  harness.call(0).Emit(TextDelta{.text = " one", .logprobs = {{.token = " one"}}});
  EXPECT_THAT(harness.client.tokens, ElementsAre("one")) << "the repetition is held back";
  harness.call(0).Emit(TextDelta{.text = " two", .logprobs = {{.token = " two"}}});
  EXPECT_THAT(harness.client.tokens, ElementsAre("one", " one", " two"));
}

TEST(RelayTest, ModelAndTierAreThoseThatTheClientSawFirst) {
  Harness harness(3);
  harness.Start();
  EXPECT_EQ(harness.relay->model(), "p0");
  harness.call(0).Emit(FailedWith(FailureCode::kOutOfMemory));
  EXPECT_EQ(harness.relay->tier(), Tier::kDeviceSmall) << "nothing is committed yet";
  harness.call(1).EmitText("text");
  EXPECT_EQ(harness.relay->model(), "p1");
  EXPECT_EQ(harness.relay->tier(), Tier::kCloud);
  harness.call(1).Emit(FailedWith(FailureCode::kUnavailable));
  harness.call(2).EmitText(" more");
  EXPECT_EQ(harness.relay->model(), "p1") << "its headers are out";
}

// ---- cancelling -------------------------------------------------------------------------------

TEST(RelayTest, CancelEndsTheAnswerAtOnceAndDoneWaits) {
  Harness harness(2);
  harness.candidates[0].hedge_after = milliseconds(100);
  harness.Start();
  harness.Advance(100);
  harness.generation->Cancel();
  ASSERT_TRUE(harness.client.finished);
  EXPECT_EQ(harness.client.finished->reason, FinishReason::kCancelled);
  EXPECT_EQ(harness.call(0).cancels(), 1);
  EXPECT_EQ(harness.call(1).cancels(), 1);
  EXPECT_THAT(Outcomes(harness.client.attempts()),
              ElementsAre(kCancelledAttempt, kCancelledAttempt));
  harness.call(0).EmitText("late");
  harness.call(0).Emit(Finished{.reason = FinishReason::kCancelled});
  EXPECT_FALSE(harness.observer->done);
  harness.call(1).Emit(FailedWith(FailureCode::kUnavailable));
  EXPECT_TRUE(harness.observer->done);
  EXPECT_EQ(harness.client.text, "");
  harness.generation->Cancel();
}

TEST(RelayTest, CancelledAnswerHasItsUsageSoFar) {
  Harness harness(1);
  harness.Start();
  harness.call(0).EmitText("Hello");
  harness.call(0).EmitText(" world");
  harness.generation.reset();
  ASSERT_TRUE(harness.client.finished);
  EXPECT_EQ(harness.client.finished->reason, FinishReason::kCancelled);
  EXPECT_EQ(harness.client.finished->usage.completion_tokens, 2);
  EXPECT_TRUE(harness.client.attempts()[0].usage_estimated);
  EXPECT_EQ(harness.client.attempts()[0].text_end, 11u);
}

TEST(RelayTest, CancelOfAnAnswerThatIsCompleteOnlySkipsTheWaitForFigures) {
  Harness harness(1);
  harness.options.expect_json = true;
  harness.Start();
  harness.call(0).EmitText("[1] done");
  EXPECT_FALSE(harness.client.over());
  harness.generation->Cancel();
  ASSERT_TRUE(harness.client.finished);
  EXPECT_EQ(harness.client.finished->reason, FinishReason::kStop);
  EXPECT_EQ(harness.client.attempts()[0].outcome, kAnswered);
}

TEST(RelayTest, CancelFromInsideTheSink) {
  Harness harness(1);
  std::unique_ptr<Generation> generation;
  int n_ends = 0;
  harness.relay = std::make_unique<Relay>(harness.candidates, harness.options, harness.observer);
  generation = harness.relay->Start({}, [&](GenerateEvent event) {
    if (std::holds_alternative<TextDelta>(event)) {
      generation->Cancel();
    } else {
      ++n_ends;
    }
  });
  harness.call(0).EmitText("Hello");
  EXPECT_EQ(n_ends, 1);
  EXPECT_EQ(harness.call(0).cancels(), 1);
}

TEST(RelayTest, CancelDuringAWaitForARetry) {
  Harness harness(2);
  harness.candidates[0].max_retries = 2;
  harness.Start();
  harness.call(0).Emit(FailedWith(FailureCode::kUnavailable));
  harness.generation->Cancel();
  EXPECT_TRUE(harness.client.finished);
  EXPECT_TRUE(harness.observer->done);
  harness.Advance(60'000);
  EXPECT_EQ(harness.n_calls(0), 1u);
}

TEST(RelayTest, AnswerOutlivesItsRelay) {
  Harness harness(2);
  harness.Start();
  harness.relay.reset();
  harness.call(0).Emit(FailedWith(FailureCode::kUnavailable));
  harness.call(1).EmitText("Hello");
  harness.call(1).Emit(Finished{});
  EXPECT_EQ(harness.client.text, "Hello");
}

TEST(RelayTest, NothingIsKeptWhenAllHasEnded) {
  Harness harness(2);
  std::weak_ptr<TestObserver> watch = harness.observer;
  harness.Start();
  harness.call(0).EmitText("Hello");
  harness.call(0).Emit(FailedWith(FailureCode::kUnavailable));
  harness.call(1).Emit(Finished{});
  harness.generation.reset();
  harness.relay.reset();
  harness.observer.reset();
  EXPECT_TRUE(watch.expired());
}

}  // namespace
}  // namespace tandem::gateway::relay
