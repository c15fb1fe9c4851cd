#include "gateway/relay/relay.h"

#include <string>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gateway/relay/relay_harness.h"

namespace tandem::gateway::relay {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;

// ---- time -------------------------------------------------------------------------------------

TEST(RelayTimeTest, FiguresThatDoNotComeAreEstimated) {
  Harness harness(1);
  harness.options.expect_json = true;
  harness.Start();
  harness.call(0).EmitText("[1]");
  harness.call(0).EmitText(" done");
  EXPECT_FALSE(harness.client.over());
  harness.Advance(199);
  EXPECT_FALSE(harness.client.over());
  harness.Advance(1);
  ASSERT_TRUE(harness.client.finished);
  EXPECT_EQ(harness.client.finished->usage.completion_tokens, 2);
  EXPECT_TRUE(harness.client.attempts()[0].usage_estimated);
  EXPECT_FALSE(harness.observer->done);
  harness.call(0).Emit(Finished{.reason = FinishReason::kCancelled, .usage = {4, 7, 0}});
  ASSERT_TRUE(harness.observer->done);
  EXPECT_EQ(harness.observer->done->attempts[0].usage, (Usage{4, 7, 0}));
  EXPECT_FALSE(harness.observer->done->attempts[0].usage_estimated);
}

TEST(RelayTimeTest, PromptOfACallThatBreaksBeforeItsFiguresIsEstimated) {
  Harness harness(3);
  harness.options.prompt_tokens = 40;
  harness.Start();
  // Refused at once: it read no prompt.
  harness.call(0).Emit(Failed{{FailureCode::kRateLimited, "busy", "", std::chrono::seconds(60)}});
  harness.call(1).EmitText("one ");
  harness.call(1).EmitText("two ");
  harness.call(1).Emit(Failed{{FailureCode::kUnavailable, "cut"}});
  harness.call(2).EmitText("three");
  harness.call(2).Emit(Finished{.usage = {50, 1, 0}});
  ASSERT_TRUE(harness.client.finished);
  const std::vector<Attempt>& attempts = harness.client.attempts();
  ASSERT_EQ(attempts.size(), 3u);
  EXPECT_EQ(attempts[0].usage, (Usage{}));
  EXPECT_FALSE(attempts[0].usage_estimated);
  EXPECT_EQ(attempts[1].usage, (Usage{40, 2, 0}));
  EXPECT_TRUE(attempts[1].usage_estimated);
  EXPECT_EQ(attempts[2].usage, (Usage{50, 1, 0})) << "what is told counts";
  EXPECT_FALSE(attempts[2].usage_estimated);
  EXPECT_EQ(harness.client.finished->usage, (Usage{40, 3, 0}));
}

TEST(RelayTimeTest, WhatWasShownBeforeIsPartOfAnEstimatedPrompt) {
  Harness harness(2);
  harness.options.prompt_tokens = 40;
  harness.Start();
  harness.call(0).EmitText("one ");
  harness.call(0).EmitText("two ");
  harness.call(0).Emit(Failed{{FailureCode::kUnavailable, "cut"}, {41, 2, 0}});
  harness.call(1).EmitText("three");
  harness.call(1).Emit(Failed{{FailureCode::kUnavailable, "cut"}});
  ASSERT_TRUE(harness.client.failed);
  EXPECT_EQ(harness.client.attempts()[0].usage, (Usage{41, 2, 0}));
  EXPECT_EQ(harness.client.attempts()[1].usage, (Usage{42, 1, 0}));
}

TEST(RelayTimeTest, EachTimeLimitMovesOn) {
  struct Row {
    Timeouts timeouts;
    bool token_first;
    int at_ms;
  };
  const Row rows[] = {
      {{.first_token = milliseconds(300)}, false, 300},
      {{.between_tokens = milliseconds(200)}, true, 200},
      {{.total = milliseconds(500)}, false, 500},
  };
  for (const Row& row : rows) {
    Harness harness(2);
    harness.candidates[0].timeouts = row.timeouts;
    harness.Start();
    if (row.token_first) harness.call(0).EmitText("Hello");
    harness.Advance(row.at_ms - 1);
    EXPECT_EQ(harness.n_calls(1), 0u) << row.at_ms;
    harness.Advance(1);
    EXPECT_EQ(harness.n_calls(1), 1u) << row.at_ms;
    EXPECT_EQ(harness.call(0).cancels(), 1) << row.at_ms;
  }
}

TEST(RelayTimeTest, TokensInTimeKeepACallAlive) {
  Harness harness(2);
  harness.candidates[0].timeouts = {milliseconds(100), milliseconds(100), milliseconds(0)};
  harness.Start();
  for (int i = 0; i < 50; ++i) {
    harness.Advance(99);
    harness.call(0).EmitText(fmt::format(" n{}", i));
  }
  EXPECT_EQ(harness.n_calls(1), 0u);
  harness.Advance(100);
  EXPECT_EQ(harness.n_calls(1), 1u);
}

TEST(RelayTimeTest, BadBeginningIsNeverSeenWhileItIsHeld) {
  Harness harness(2);
  harness.candidates[0].hold_tokens = 4;
  harness.candidates[0].hold = milliseconds(400);
  harness.Start();
  for (const char* piece : {"%", "$", "#"}) harness.call(0).EmitText(piece);
  EXPECT_EQ(harness.client.text, "");
  harness.call(0).Emit(Finished{.reason = FinishReason::kDegenerate, .detail = "entropy"});
  harness.call(1).EmitText("Hello");
  harness.call(1).Emit(Finished{});
  EXPECT_EQ(harness.client.text, "Hello");
  EXPECT_EQ(harness.call(1).request().assistant_prefix, "");
}

TEST(RelayTimeTest, HoldEndsWithItsTokensOrItsTime) {
  Harness harness(1);
  harness.candidates[0].hold_tokens = 3;
  harness.candidates[0].hold = milliseconds(400);
  harness.Start();
  harness.call(0).EmitText("one");
  harness.call(0).EmitText(" two");
  EXPECT_EQ(harness.client.text, "");
  harness.call(0).EmitText(" three");
  EXPECT_EQ(harness.client.text, "one two three");

  Harness slow(1);
  slow.candidates[0].hold_tokens = 3;
  slow.candidates[0].hold = milliseconds(400);
  slow.Start();
  slow.Advance(1000);
  slow.call(0).EmitText("one");
  slow.Advance(399);
  EXPECT_EQ(slow.client.text, "");
  slow.Advance(1);
  EXPECT_EQ(slow.client.text, "one");

  Harness fast(1);
  fast.candidates[0].hold_tokens = 30;
  fast.Start();
  fast.call(0).EmitText("one");
  fast.call(0).Emit(Finished{});
  EXPECT_EQ(fast.client.text, "one");
  EXPECT_TRUE(fast.client.finished);
}

TEST(RelayTimeTest, BufferIsBounded) {
  Harness harness(1);
  harness.candidates[0].hold_tokens = 1000;
  harness.Start();
  for (int i = 0; i < 63; ++i) harness.call(0).EmitText(fmt::format(" n{}", i));
  EXPECT_EQ(harness.client.text, "");
  harness.call(0).EmitText(" last");
  EXPECT_NE(harness.client.text, "");

  Harness large(1);
  large.candidates[0].hold_tokens = 1000;
  large.options.detect_repetition = false;
  large.Start();
  large.call(0).EmitText("x" + std::string(256 << 10, '.'));
  EXPECT_NE(large.client.text, "");
}

// ---- hedging ----------------------------------------------------------------------------------

TEST(RelayTimeTest, LateCandidateIsHedgedAndTheFirstTextWins) {
  Harness harness(2);
  harness.candidates[0].hedge_after = milliseconds(100);
  harness.Start();
  harness.Advance(99);
  EXPECT_EQ(harness.n_calls(1), 0u);
  harness.Advance(1);
  ASSERT_EQ(harness.n_calls(1), 1u);
  EXPECT_EQ(harness.call(0).cancels(), 0);
  harness.call(1).EmitText("Hello");
  EXPECT_EQ(harness.call(0).cancels(), 1);
  harness.call(0).EmitText("Too late");
  harness.call(1).Emit(Finished{.usage = {5, 1, 0}});
  ASSERT_TRUE(harness.client.finished);
  EXPECT_EQ(harness.client.text, "Hello");
  EXPECT_EQ(harness.client.finished->usage, (Usage{5, 1, 0}));
  EXPECT_THAT(Outcomes(harness.client.attempts()), ElementsAre(kCancelledAttempt, kAnswered));
  EXPECT_TRUE(harness.client.attempts()[1].hedge);
  EXPECT_EQ(harness.observer->committed, 1u);

  EXPECT_FALSE(harness.observer->done) << "the loser has not ended";
  harness.call(0).Emit(Finished{.reason = FinishReason::kCancelled, .usage = {5, 3, 0}});
  ASSERT_TRUE(harness.observer->done);
  EXPECT_EQ(harness.observer->done->attempts[0].usage, (Usage{5, 3, 0}));
  EXPECT_EQ(harness.observer->done->usage, (Usage{5, 1, 0}));
}

TEST(RelayTimeTest, TextInTimeStartsNoHedge) {
  Harness harness(2);
  harness.candidates[0].hedge_after = milliseconds(100);
  harness.candidates[0].hold_tokens = 10;
  harness.Start();
  harness.Advance(50);
  harness.call(0).EmitText("Hello");
  harness.Advance(1000);
  EXPECT_EQ(harness.n_calls(1), 0u);
}

TEST(RelayTimeTest, HedgeTakesOverWhenTheHeldBeginningIsBad) {
  Harness harness(2);
  harness.candidates[0].hedge_after = milliseconds(100);
  harness.candidates[0].hold_tokens = 10;
  harness.Start();
  harness.Advance(100);
  harness.call(0).EmitText("bad");
  harness.call(1).EmitText("Hello");
  EXPECT_EQ(harness.client.text, "") << "the first one with text is still held";
  harness.call(0).Emit(Finished{.reason = FinishReason::kDegenerate});
  EXPECT_EQ(harness.client.text, "Hello");
  harness.call(1).Emit(Finished{});
  EXPECT_TRUE(harness.client.finished);
}

TEST(RelayTimeTest, HedgeThatIsAlreadyCompleteWaitsForTheOneBefore) {
  Harness harness(2);
  harness.candidates[0].hedge_after = milliseconds(100);
  harness.candidates[0].hold_tokens = 10;
  harness.Start();
  harness.Advance(100);
  harness.call(0).EmitText("bad");
  harness.call(1).EmitText("Hello");
  harness.call(1).Emit(Finished{.usage = {1, 1, 0}});
  EXPECT_FALSE(harness.client.over());
  harness.call(0).Emit(FailedWith(FailureCode::kUnavailable));
  ASSERT_TRUE(harness.client.finished);
  EXPECT_EQ(harness.client.text, "Hello");
  EXPECT_EQ(harness.client.finished->usage, (Usage{1, 1, 0}));
}

TEST(RelayTimeTest, LoserOfAHedgeMayStillContinue) {
  Harness harness(2);
  harness.candidates[0].hedge_after = milliseconds(100);
  harness.Start();
  harness.Advance(100);
  harness.call(0).EmitText("Hello");
  EXPECT_EQ(harness.call(1).cancels(), 1);
  harness.call(1).Emit(Finished{.reason = FinishReason::kCancelled});
  harness.call(0).Emit(FailedWith(FailureCode::kUnavailable));
  EXPECT_EQ(harness.n_calls(1), 2u);
  EXPECT_EQ(harness.call(1).request().assistant_prefix, "Hello");
}

TEST(RelayTimeTest, FailureOfOneOfTwoLeavesTheOther) {
  Harness harness(3);
  harness.candidates[0].hedge_after = milliseconds(100);
  harness.Start();
  harness.Advance(100);
  harness.call(0).Emit(FailedWith(FailureCode::kUnavailable));
  EXPECT_EQ(harness.n_calls(2), 0u);
  EXPECT_FALSE(harness.client.over());
  harness.call(1).Emit(FailedWith(FailureCode::kUnavailable));
  EXPECT_EQ(harness.n_calls(2), 1u);
}

}  // namespace
}  // namespace tandem::gateway::relay
