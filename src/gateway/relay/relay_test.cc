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
using testing::HasSubstr;

std::vector<AttemptOutcome> Outcomes(const std::vector<Attempt>& attempts) {
  std::vector<AttemptOutcome> outcomes;
  for (const Attempt& attempt : attempts) outcomes.push_back(attempt.outcome);
  return outcomes;
}

constexpr auto kAnswered = AttemptOutcome::kAnswered;
constexpr auto kHandedOff = AttemptOutcome::kHandedOff;
constexpr auto kFailedAttempt = AttemptOutcome::kFailed;
constexpr auto kCancelledAttempt = AttemptOutcome::kCancelled;
constexpr auto kSkipped = AttemptOutcome::kSkipped;

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

TEST(RelayTest, EveryFaultHasItsOutcome) {
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

TEST(RelayTest, EmptyAnswerMovesOn) {
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

TEST(RelayTest, NothingButWhiteSpaceMovesOnBeforeItFillsTheMemory) {
  Harness harness(2);
  harness.Start();
  for (int i = 0; i < 64; ++i) harness.call(0).EmitText("\n");
  EXPECT_EQ(harness.call(0).cancels(), 1);
  EXPECT_EQ(harness.n_calls(1), 1u);
  EXPECT_EQ(harness.client.text, "");
}

TEST(RelayTest, EmptyAnswerOfLengthOrFilterIsAnAnswer) {
  for (const FinishReason reason : {FinishReason::kLength, FinishReason::kContentFilter}) {
    Harness harness(2);
    harness.Start();
    harness.call(0).Emit(Finished{.reason = reason, .usage = {3, 1, 0}});
    ASSERT_TRUE(harness.client.finished);
    EXPECT_EQ(harness.client.finished->reason, reason);
    EXPECT_EQ(harness.client.finished->usage, (Usage{3, 1, 0}));
  }
}

TEST(RelayTest, MostTellingFailureIsReportedWhenAllFail) {
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

TEST(RelayTest, OpenBreakersAreSkipped) {
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

TEST(RelayTest, AllBreakersOpenIsUnavailable) {
  Harness harness(2);
  harness.observer->closed = {{0, true}, {1, true}};
  harness.Start();
  ASSERT_TRUE(harness.client.failed);
  EXPECT_EQ(harness.client.failed->failure.code, FailureCode::kUnavailable);
  EXPECT_TRUE(harness.observer->done);
}

// ---- hand-off ---------------------------------------------------------------------------------

TEST(RelayTest, OnlyCandidatesThatCanContinueAreAskedAfterTheCommit) {
  Harness harness(3);
  harness.candidates[1].continuation = Continuation::kNone;
  harness.Start();
  harness.call(0).EmitText("Hello");
  harness.call(0).Emit(FailedWith(FailureCode::kUnavailable));
  EXPECT_EQ(harness.n_calls(1), 0u);
  EXPECT_EQ(harness.call(2).request().assistant_prefix, "Hello");
}

TEST(RelayTest, TextOfABrokenAnswerIsShownBeforeItsError) {
  Harness harness(1);
  harness.Start();
  harness.call(0).EmitText("We met in the morning");
  harness.call(0).EmitText(" in the");  // held: it stands there already
  EXPECT_EQ(harness.client.text, "We met in the morning");
  harness.call(0).Emit(FailedWith(FailureCode::kUnavailable, "cut"));
  EXPECT_EQ(harness.client.text, "We met in the morning in the");
  EXPECT_EQ(harness.client.failed->failure.message, "cut");
  EXPECT_EQ(harness.client.attempts()[0].text_end, 28u);
}

TEST(RelayTest, TextOfALoopIsNotShownBeforeItsError) {
  Harness harness(1);
  harness.Start();
  harness.call(0).EmitText("A word");
  for (int i = 0; i < 60; ++i) harness.call(0).EmitText(" word");
  harness.call(0).Emit(Finished{.reason = FinishReason::kDegenerate,
                                .usage = {3, 61, 0},
                                .detail = "tail_period: the last 60 tokens repeat a cycle of 1"});
  EXPECT_EQ(harness.client.text, "A word");
  ASSERT_TRUE(harness.client.failed);
  EXPECT_EQ(harness.client.failed->failure.code, FailureCode::kOutputValidationFailed);
  EXPECT_THAT(harness.client.failed->failure.message, HasSubstr("a cycle of 1"));
  EXPECT_EQ(harness.client.failed->usage, (Usage{3, 61, 0}));
}

TEST(RelayTest, ContinuationThatFailsIsContinuedByTheNext) {
  Harness harness(4);
  harness.Start();
  harness.call(0).EmitText("One");
  harness.call(0).Emit(FailedWith(FailureCode::kUnavailable));
  harness.call(1).Emit(FailedWith(FailureCode::kUnsupported));
  harness.call(2).EmitText(" two");
  harness.call(2).Emit(FailedWith(FailureCode::kUnavailable));
  EXPECT_EQ(harness.call(3).request().assistant_prefix, "One two");
  harness.call(3).EmitText(" three.");
  harness.call(3).Emit(Finished{});
  EXPECT_EQ(harness.client.text, "One two three.");
  EXPECT_THAT(Outcomes(harness.client.attempts()),
              ElementsAre(kHandedOff, kFailedAttempt, kHandedOff, kAnswered));
  EXPECT_EQ(harness.client.attempts()[2].text_begin, 3u);
  EXPECT_EQ(harness.client.attempts()[2].text_end, 7u);
}

TEST(RelayTest, ContinuationThatSaysTheOldTextAgainShowsNoneOfIt) {
  Harness harness(3);
  harness.Start();
  harness.call(0).EmitText("The cat sat on the mat.");
  harness.call(0).Emit(FailedWith(FailureCode::kUnavailable));
  for (int i = 0; i < 60 && harness.call(1).cancels() == 0; ++i) {
    for (const char* word : {" The", " cat", " sat", " on", " the", " mat."}) {
      harness.call(1).EmitText(word);
    }
  }
  EXPECT_EQ(harness.client.text, "The cat sat on the mat.");
  harness.call(2).EmitText(" The dog did not.");
  harness.call(2).Emit(Finished{});
  EXPECT_EQ(harness.client.text, "The cat sat on the mat. The dog did not.");
}

TEST(RelayTest, ContinuationMayHaveNothingToAdd) {
  Harness harness(2);
  harness.Start();
  harness.call(0).EmitText("Done.");
  harness.call(0).Emit(FailedWith(FailureCode::kUnavailable));
  harness.call(1).Emit(Finished{});
  ASSERT_TRUE(harness.client.finished);
  EXPECT_EQ(harness.client.text, "Done.");
}

TEST(RelayTest, ClientsOwnPrefixComesFirst) {
  Harness harness(2);
  harness.Start({.assistant_prefix = "Dear "});
  harness.call(0).EmitText("Ms");
  harness.call(0).Emit(FailedWith(FailureCode::kUnavailable));
  EXPECT_EQ(harness.call(1).request().assistant_prefix, "Dear Ms");
}

TEST(RelayTest, SpentMaxTokensEndTheAnswerInsteadOfAHandOff) {
  Harness harness(2);
  harness.Start({.max_tokens = 3});
  for (const char* piece : {"a", " b", " c"}) harness.call(0).EmitText(piece);
  harness.call(0).Emit(FailedWith(FailureCode::kUnavailable));
  ASSERT_TRUE(harness.client.finished);
  EXPECT_EQ(harness.client.finished->reason, FinishReason::kLength);
  EXPECT_EQ(harness.n_calls(1), 0u);
}

TEST(RelayTest, StopStringAcrossTheSeamEndsTheAnswer) {
  Harness harness(2);
  harness.Start({.stop = {"\nUser:"}});
  harness.call(0).EmitText("Yes.\nUs");
  EXPECT_EQ(harness.client.text, "Yes.");
  harness.call(0).Emit(FailedWith(FailureCode::kUnavailable));
  EXPECT_EQ(harness.call(1).request().assistant_prefix, "Yes.");
  harness.call(1).EmitText("\nUser");
  harness.call(1).EmitText(": more");
  EXPECT_GT(harness.call(1).cancels(), 0);
  harness.call(1).Emit(Finished{.reason = FinishReason::kCancelled, .usage = {7, 2, 0}});
  ASSERT_TRUE(harness.client.finished);
  EXPECT_EQ(harness.client.text, "Yes.");
  EXPECT_EQ(harness.client.finished->reason, FinishReason::kStop);
}

TEST(RelayTest, RestartedContinuationIsRefusedAndTheNextOneAsked) {
  Harness harness(3);
  harness.candidates[1].continuation = Continuation::kPrompted;
  harness.Start();
  const std::string said = "To bake bread you need flour, water, salt and a little yeast. Mix them";
  harness.call(0).EmitText(said);
  harness.call(0).Emit(FailedWith(FailureCode::kUnavailable));
  harness.call(1).EmitText("To bake bread you need flour, water, salt and a little yeast. Put");
  EXPECT_GT(harness.call(1).cancels(), 0);
  harness.call(2).EmitText(" well.");
  harness.call(2).Emit(Finished{});
  harness.call(1).Emit(Finished{.reason = FinishReason::kCancelled});
  EXPECT_EQ(harness.client.text, said + " well.");
}

TEST(RelayTest, PromptedContinuationIsAskedInTheConversation) {
  Harness harness(2);
  harness.candidates[1].continuation = Continuation::kPrompted;
  harness.Start({.messages = {{.role = "user", .content = "How?"}}, .max_tokens = 100});
  harness.call(0).EmitText("Mix the flour");
  harness.call(0).EmitText(" with water and");
  harness.call(0).Emit(FailedWith(FailureCode::kUnavailable));
  const GenerateRequest& request = harness.call(1).request();
  EXPECT_EQ(request.assistant_prefix, "");
  EXPECT_EQ(request.max_tokens, 98);
  ASSERT_EQ(request.messages.size(), 3u);
  EXPECT_EQ(request.messages[0].content, "How?");
  EXPECT_EQ(request.messages[1].role, "assistant");
  EXPECT_EQ(request.messages[1].content, "Mix the flour with water and");
  EXPECT_EQ(request.messages[2].role, "user");
  EXPECT_THAT(request.messages[2].content, HasSubstr("the flour with water and\n---"));
  // It takes the run-up that it was asked for.
  harness.call(1).EmitText("the flour with");
  EXPECT_EQ(harness.client.text, "Mix the flour with water and");
  harness.call(1).EmitText(" water and knead");
  harness.call(1).Emit(Finished{});
  EXPECT_EQ(harness.client.text, "Mix the flour with water and knead");
}

TEST(RelayTest, CallThatIsNotWholeIsWrittenByTheNextOne) {
  Harness harness(2);
  harness.Start({.tools_json = "[{}]"});
  harness.call(0).EmitText("One moment.\n<tool_call>\n{\"name\": \"f\",");
  EXPECT_EQ(harness.client.text, "One moment.\n");
  harness.call(0).Emit(FailedWith(FailureCode::kUnavailable));
  EXPECT_EQ(harness.call(1).request().assistant_prefix, "One moment.\n");
  harness.call(1).EmitText("<tool_call>\n{\"name\": \"g\"}\n</tool_call>");
  harness.call(1).Emit(Finished{});
  EXPECT_EQ(harness.client.text, "One moment.\n<tool_call>\n{\"name\": \"g\"}\n</tool_call>");
}

// ---- JSON -------------------------------------------------------------------------------------

TEST(RelayTest, JsonThatBreaksIsContinuedFromTheLastGoodByte) {
  Harness harness(2);
  harness.options.expect_json = true;
  harness.Start();
  harness.call(0).EmitText("{\"a\": 1");
  harness.call(0).EmitText(", oops");
  EXPECT_EQ(harness.call(1).request().assistant_prefix, "{\"a\": 1");
  harness.call(1).EmitText("}");
  harness.call(1).Emit(Finished{});
  harness.call(0).Emit(Finished{.reason = FinishReason::kCancelled});
  EXPECT_EQ(harness.client.text, "{\"a\": 1}");
  EXPECT_TRUE(harness.client.finished);
}

TEST(RelayTest, JsonThatBreaksAtOnceIsNeverSeen) {
  Harness harness(2);
  harness.options.expect_json = true;
  harness.Start();
  harness.call(0).EmitText("Sure! {");
  EXPECT_EQ(harness.client.text, "");
  harness.call(1).EmitText("{}");
  harness.call(1).Emit(Finished{});
  EXPECT_EQ(harness.client.text, "{}");
  EXPECT_EQ(harness.client.attempts()[0].outcome, kFailedAttempt);
}

TEST(RelayTest, JsonThatStaysUnfinishedFailsValidation) {
  Harness harness(1);
  harness.options.expect_json = true;
  harness.Start();
  harness.call(0).EmitText("{\"a\": [1");
  harness.call(0).Emit(Finished{});
  ASSERT_TRUE(harness.client.failed);
  EXPECT_EQ(harness.client.failed->failure.code, FailureCode::kOutputValidationFailed);
  EXPECT_THAT(harness.client.failed->failure.message, HasSubstr("at byte 8"));
}

TEST(RelayTest, JsonCutByItsLengthIsWhatItIs) {
  Harness harness(2);
  harness.options.expect_json = true;
  harness.Start();
  harness.call(0).EmitText("{\"a\": [1");
  harness.call(0).Emit(Finished{.reason = FinishReason::kLength});
  ASSERT_TRUE(harness.client.finished);
  EXPECT_EQ(harness.client.finished->reason, FinishReason::kLength);
}

TEST(RelayTest, TextBehindAJsonValueEndsTheAnswer) {
  Harness harness(1);
  harness.options.expect_json = true;
  harness.Start();
  harness.call(0).EmitText("{\"a\": 1}");
  harness.call(0).EmitText("\nI hope this helps");
  EXPECT_GT(harness.call(0).cancels(), 0);
  harness.call(0).Emit(Finished{.reason = FinishReason::kCancelled, .usage = {4, 9, 0}});
  ASSERT_TRUE(harness.client.finished);
  EXPECT_EQ(harness.client.text, "{\"a\": 1}\n");
  EXPECT_EQ(harness.client.finished->reason, FinishReason::kStop);
  EXPECT_EQ(harness.client.finished->usage, (Usage{4, 9, 0})) << "the answer waits for figures";
}

// ---- time -------------------------------------------------------------------------------------

TEST(RelayTest, FiguresThatDoNotComeAreEstimated) {
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

TEST(RelayTest, EachTimeLimitMovesOn) {
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

TEST(RelayTest, TokensInTimeKeepACallAlive) {
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

TEST(RelayTest, BadBeginningIsNeverSeenWhileItIsHeld) {
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

TEST(RelayTest, HoldEndsWithItsTokensOrItsTime) {
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

TEST(RelayTest, BufferIsBounded) {
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

// ---- retries ----------------------------------------------------------------------------------

TEST(RelayTest, FastFailuresAreRetriedWithJitterThenMoveOn) {
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

TEST(RelayTest, RetryThatAnswersIsTheAnswer) {
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

TEST(RelayTest, SlowAndPermanentFailuresAreNotRetried) {
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

TEST(RelayTest, NothingIsRetriedAfterTheCommit) {
  Harness harness(1);
  harness.candidates[0].max_retries = 2;
  harness.Start();
  harness.call(0).EmitText("Hello");
  harness.call(0).Emit(FailedWith(FailureCode::kUnavailable));
  EXPECT_TRUE(harness.client.failed);
}

TEST(RelayTest, RetryAfterIsHonouredUnlessItIsTooLong) {
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

TEST(RelayTest, RetriesNeedTheBudget) {
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

TEST(RelayTest, RetryWhoseBreakerOpenedMovesOn) {
  Harness harness(2);
  harness.candidates[0].max_retries = 1;
  harness.Start();
  harness.call(0).Emit(FailedWith(FailureCode::kUnavailable));
  harness.observer->closed[0] = true;
  harness.Advance(1000);
  EXPECT_EQ(harness.n_calls(0), 1u);
  EXPECT_EQ(harness.n_calls(1), 1u);
}

// ---- hedging ----------------------------------------------------------------------------------

TEST(RelayTest, LateCandidateIsHedgedAndTheFirstTextWins) {
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

TEST(RelayTest, TextInTimeStartsNoHedge) {
  Harness harness(2);
  harness.candidates[0].hedge_after = milliseconds(100);
  harness.candidates[0].hold_tokens = 10;
  harness.Start();
  harness.Advance(50);
  harness.call(0).EmitText("Hello");
  harness.Advance(1000);
  EXPECT_EQ(harness.n_calls(1), 0u);
}

TEST(RelayTest, HedgeTakesOverWhenTheHeldBeginningIsBad) {
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

TEST(RelayTest, HedgeThatIsAlreadyCompleteWaitsForTheOneBefore) {
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

TEST(RelayTest, LoserOfAHedgeMayStillContinue) {
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

TEST(RelayTest, FailureOfOneOfTwoLeavesTheOther) {
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
