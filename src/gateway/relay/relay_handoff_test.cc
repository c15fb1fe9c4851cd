#include "gateway/relay/relay.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gateway/relay/relay_harness.h"

namespace tandem::gateway::relay {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// ---- hand-off ---------------------------------------------------------------------------------

TEST(RelayHandOffTest, OnlyCandidatesThatCanContinueAreAskedAfterTheCommit) {
  Harness harness(3);
  harness.candidates[1].continuation = Continuation::kNone;
  harness.Start();
  harness.call(0).EmitText("Hello");
  harness.call(0).Emit(FailedWith(FailureCode::kUnavailable));
  EXPECT_EQ(harness.n_calls(1), 0u);
  EXPECT_EQ(harness.call(2).request().assistant_prefix, "Hello");
}

TEST(RelayHandOffTest, TextOfABrokenAnswerIsShownBeforeItsError) {
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

TEST(RelayHandOffTest, TextOfALoopIsNotShownBeforeItsError) {
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

TEST(RelayHandOffTest, ContinuationThatFailsIsContinuedByTheNext) {
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

TEST(RelayHandOffTest, ContinuationThatSaysTheOldTextAgainShowsNoneOfIt) {
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

TEST(RelayHandOffTest, ContinuationMayHaveNothingToAdd) {
  Harness harness(2);
  harness.Start();
  harness.call(0).EmitText("Done.");
  harness.call(0).Emit(FailedWith(FailureCode::kUnavailable));
  harness.call(1).Emit(Finished{});
  ASSERT_TRUE(harness.client.finished);
  EXPECT_EQ(harness.client.text, "Done.");
}

TEST(RelayHandOffTest, ClientsOwnPrefixComesFirst) {
  Harness harness(2);
  harness.Start({.assistant_prefix = "Dear "});
  harness.call(0).EmitText("Ms");
  harness.call(0).Emit(FailedWith(FailureCode::kUnavailable));
  EXPECT_EQ(harness.call(1).request().assistant_prefix, "Dear Ms");
}

TEST(RelayHandOffTest, SpentMaxTokensEndTheAnswerInsteadOfAHandOff) {
  Harness harness(2);
  harness.Start({.max_tokens = 3});
  for (const char* piece : {"a", " b", " c"}) harness.call(0).EmitText(piece);
  harness.call(0).Emit(FailedWith(FailureCode::kUnavailable));
  ASSERT_TRUE(harness.client.finished);
  EXPECT_EQ(harness.client.finished->reason, FinishReason::kLength);
  EXPECT_EQ(harness.n_calls(1), 0u);
}

TEST(RelayHandOffTest, StopStringAcrossTheSeamEndsTheAnswer) {
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

TEST(RelayHandOffTest, RestartedContinuationIsRefusedAndTheNextOneAsked) {
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

TEST(RelayHandOffTest, PromptedContinuationIsAskedInTheConversation) {
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

TEST(RelayHandOffTest, CallThatIsNotWholeIsWrittenByTheNextOne) {
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

TEST(RelayHandOffTest, JsonThatBreaksIsContinuedFromTheLastGoodByte) {
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

TEST(RelayHandOffTest, JsonThatBreaksAtOnceIsNeverSeen) {
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

TEST(RelayHandOffTest, JsonThatStaysUnfinishedFailsValidation) {
  Harness harness(1);
  harness.options.expect_json = true;
  harness.Start();
  harness.call(0).EmitText("{\"a\": [1");
  harness.call(0).Emit(Finished{});
  ASSERT_TRUE(harness.client.failed);
  EXPECT_EQ(harness.client.failed->failure.code, FailureCode::kOutputValidationFailed);
  EXPECT_THAT(harness.client.failed->failure.message, HasSubstr("at byte 8"));
}

TEST(RelayHandOffTest, JsonCutByItsLengthIsWhatItIs) {
  Harness harness(2);
  harness.options.expect_json = true;
  harness.Start();
  harness.call(0).EmitText("{\"a\": [1");
  harness.call(0).Emit(Finished{.reason = FinishReason::kLength});
  ASSERT_TRUE(harness.client.finished);
  EXPECT_EQ(harness.client.finished->reason, FinishReason::kLength);
}

TEST(RelayHandOffTest, TextBehindAJsonValueEndsTheAnswer) {
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

}  // namespace
}  // namespace tandem::gateway::relay
