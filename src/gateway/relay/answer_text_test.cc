#include "gateway/relay/answer_text.h"

#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "gateway/relay/tool_call_hold.h"

namespace tandem::gateway::relay {
namespace {

using Verdict = AnswerText::Verdict;

TextDelta Piece(std::string text) { return {.text = std::move(text), .logprobs = {}}; }

std::string TextOf(const std::optional<TextDelta>& piece) { return piece ? piece->text : ""; }

// ---- ToolCallHold -----------------------------------------------------------------------------

// Where a call is open after `text`, -1 where none is; the same however the text is cut.
int OpenAt(std::string_view text) {
  ToolCallHold at_once;
  at_once.Push(text);
  ToolCallHold one_by_one;
  for (size_t i = 0; i < text.size(); ++i) one_by_one.Push(text.substr(i, 1));
  EXPECT_EQ(at_once.open_at(), one_by_one.open_at()) << text;
  return at_once.open_at() ? static_cast<int>(*at_once.open_at()) : -1;
}

TEST(ToolCallHoldTest, OpenFromItsMarkToItsLastBracket) {
  EXPECT_EQ(OpenAt("no call"), -1);
  EXPECT_EQ(OpenAt("a < b"), -1);
  EXPECT_EQ(OpenAt("text <"), 5);
  EXPECT_EQ(OpenAt("text <tool_"), 5);
  EXPECT_EQ(OpenAt("text <tool_box>"), -1);
  EXPECT_EQ(OpenAt("text <tool_call>\n"), 5);
  EXPECT_EQ(OpenAt("text <tool_call>\n{\"a\":{\"b\":\"}}\\\"}\"}"), 5);
  EXPECT_EQ(OpenAt("text <tool_call>\n{\"a\":{}}"), -1);
  EXPECT_EQ(OpenAt("text <tool_call>\n{\"a\":{}}\n</tool_call>"), -1);
  EXPECT_EQ(OpenAt("text <tool_call>\n{}\n</tool_call><tool_call>"), 32);
  EXPECT_EQ(OpenAt("<|tool_call|>[{\"name\":\"f\"},"), 0);
  EXPECT_EQ(OpenAt("<|tool_call|>[{\"name\":\"f\"}]"), -1);
  EXPECT_EQ(OpenAt("<tool_call>no value"), -1);
  EXPECT_EQ(OpenAt("<<tool_call>"), 1);
}

TEST(ToolCallHoldTest, FunctoolsCountsOnlyAtTheBeginning) {
  EXPECT_EQ(OpenAt(" \nfunctools[{\"name\""), 2);
  EXPECT_EQ(OpenAt(" \nfunctools[{\"name\":\"f\"}]"), -1);
  EXPECT_EQ(OpenAt("The functools[{"), -1);
}

TEST(ToolCallHoldTest, CallThatIsTooLongIsText) {
  ToolCallHold hold;
  hold.Push("<tool_call>{\"a\":\"");
  hold.Push(std::string(ToolCallHold::kMaxCallBytes, 'x'));
  EXPECT_FALSE(hold.open_at());
}

// ---- AnswerText -------------------------------------------------------------------------------

TEST(AnswerTextTest, OrdinaryTextIsShownAtOnce) {
  AnswerText text({});
  EXPECT_EQ(text.Append(Piece("Hello")), Verdict::kGoesOn);
  EXPECT_EQ(TextOf(text.Release()), "Hello");
  EXPECT_EQ(text.Release(), std::nullopt);
}

TEST(AnswerTextTest, RepetitionWaitsAndIsReleasedWhenItBreaks) {
  AnswerText text({});
  text.Append(Piece("red green blue."));
  text.Release();
  text.Append(Piece(" red green"));
  EXPECT_EQ(text.Release(), std::nullopt);
  EXPECT_EQ(text.held(), 10u);
  text.Append(Piece(" yellow"));
  EXPECT_EQ(TextOf(text.Release()), " red green yellow");
}

TEST(AnswerTextTest, LoopIsFoundAndRewoundToItsFirstRound) {
  AnswerText text({});
  std::string shown;
  Verdict verdict = Verdict::kGoesOn;
  for (int i = 0; i < 100 && verdict == Verdict::kGoesOn; ++i) {
    for (const std::string_view word : {" round", " and", " round", " it", " goes,"}) {
      verdict = text.Append(Piece(std::string(word)));
      if (verdict != Verdict::kGoesOn) break;
      shown += TextOf(text.Release());
    }
  }
  EXPECT_EQ(verdict, Verdict::kRepeats);
  EXPECT_EQ(text.finding().check, "tail_period");
  EXPECT_EQ(shown, " round and round it goes,");
  text.Rewind();
  EXPECT_EQ(text.text(), shown);
  EXPECT_EQ(text.ReleaseAll(), std::nullopt);
}

TEST(AnswerTextTest, StopStringEndsTheTextAlsoAcrossASeam) {
  AnswerText text({.stop = {"\n\nUser:", "END"}});
  text.Append(Piece("So it is.\n\nUs"));
  EXPECT_EQ(TextOf(text.Release()), "So it is.");
  // The other writer starts behind what was shown.
  text.Rewind();
  EXPECT_EQ(text.Append(Piece("\n\nUser: hi")), Verdict::kComplete);
  EXPECT_EQ(text.ReleaseAll(), std::nullopt);
  EXPECT_EQ(text.text(), "So it is.");
}

TEST(AnswerTextTest, TextThatOnlyBeganLikeAStopStringIsReleased) {
  AnswerText text({.stop = {"ENDE"}});
  text.Append(Piece("The EN"));
  EXPECT_EQ(TextOf(text.Release()), "The ");
  text.Append(Piece("D of it"));
  EXPECT_EQ(TextOf(text.Release()), "END of it");
}

TEST(AnswerTextTest, StopStringInsideACodePointCutsNone) {
  AnswerText text({.stop = {"é!"}});
  text.Append(Piece("caf\xC3\xA9"));
  EXPECT_EQ(TextOf(text.Release()), "caf");
  EXPECT_EQ(text.Append(Piece("?")), Verdict::kGoesOn);
  EXPECT_EQ(TextOf(text.Release()), "\xC3\xA9?");
}

TEST(AnswerTextTest, CallWaitsUntilItIsWhole) {
  AnswerText text({.detect_repetition = false, .tools = true});
  text.Append(Piece("Wait.\n<tool"));
  EXPECT_EQ(TextOf(text.Release()), "Wait.\n");
  text.Append(Piece("_call>{\"name\":\"f\""));
  EXPECT_EQ(text.Release(), std::nullopt);
  text.Append(Piece("}</tool_call>"));
  EXPECT_EQ(TextOf(text.Release()), "<tool_call>{\"name\":\"f\"}</tool_call>");
}

TEST(AnswerTextTest, JsonIsShownUpToTheByteThatBreaksIt) {
  AnswerText text({.json = true});
  EXPECT_EQ(text.Append(Piece("{\"a\": [1, 2")), Verdict::kGoesOn);
  EXPECT_EQ(TextOf(text.Release()), "{\"a\": [1, 2");
  EXPECT_FALSE(text.whole());
  EXPECT_EQ(text.Append(Piece(", Sorry")), Verdict::kBrokenJson);
  text.Rewind();
  EXPECT_EQ(text.Append(Piece("]}")), Verdict::kGoesOn);
  EXPECT_TRUE(text.whole());
  EXPECT_EQ(TextOf(text.Release()), "]}");
}

TEST(AnswerTextTest, TextBehindTheJsonValueIsDropped) {
  AnswerText text({.json = true});
  EXPECT_EQ(text.Append(Piece("{\"a\": 1}\n\nI hope")), Verdict::kComplete);
  EXPECT_EQ(TextOf(text.ReleaseAll()), "{\"a\": 1}\n\n");
  EXPECT_TRUE(text.whole());
}

TEST(AnswerTextTest, EscapeOfJsonIsNotCut) {
  AnswerText text({.json = true});
  text.Append(Piece("[\"caf\\u00"));
  EXPECT_EQ(TextOf(text.Release()), "[\"caf");
  text.Append(Piece("e9"));
  EXPECT_EQ(TextOf(text.Release()), "\\u00e9");
}

TEST(AnswerTextTest, CallInsteadOfJsonIsAnAnswer) {
  AnswerText text({.json = true, .tools = true});
  EXPECT_EQ(text.Append(Piece("<tool_call>{\"name\":\"f\"}")), Verdict::kGoesOn);
  EXPECT_EQ(TextOf(text.ReleaseAll()), "<tool_call>{\"name\":\"f\"}");
  EXPECT_TRUE(text.whole());
}

TEST(AnswerTextTest, LogprobsComeWithTheTextTheyBelongTo) {
  AnswerText text({.stop = {"abc"}});
  text.Append({.text = "xa", .logprobs = {{.token = "x"}, {.token = "a"}}});
  const auto first = text.Release();
  ASSERT_TRUE(first);
  EXPECT_EQ(first->text, "x");
  EXPECT_TRUE(first->logprobs.empty());
  text.Append({.text = "y", .logprobs = {{.token = "y"}}});
  const auto second = text.Release();
  ASSERT_TRUE(second);
  EXPECT_EQ(second->text, "ay");
  EXPECT_EQ(second->logprobs.size(), 3u);
}

}  // namespace
}  // namespace tandem::gateway::relay
