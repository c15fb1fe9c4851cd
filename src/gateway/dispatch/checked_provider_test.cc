#include "gateway/dispatch/checked_provider.h"

#include <gtest/gtest.h>

#include "gateway/provider/fake_provider.h"

namespace tandem::gateway::dispatch {
namespace {

struct Outcome {
  std::string text;
  int pieces = 0;
  std::optional<Finished> finished;
  std::optional<Failed> failed;
};

class CheckedProviderTest : public ::testing::Test {
 protected:
  Outcome Run(std::vector<GenerateEvent> script, GenerateRequest request = {}) {
    inner_->SetScript(std::move(script));
    CheckedProvider checked(inner_);
    Outcome outcome;
    const auto generation = checked.Start(std::move(request), [&](GenerateEvent event) {
      if (auto* delta = std::get_if<TextDelta>(&event)) {
        outcome.text += delta->text;
        ++outcome.pieces;
      }
      if (auto* finished = std::get_if<Finished>(&event)) outcome.finished = *finished;
      if (auto* failed = std::get_if<Failed>(&event)) outcome.failed = *failed;
    });
    return outcome;
  }
  std::shared_ptr<FakeProvider> inner_ = std::make_shared<FakeProvider>("m");
};

TEST_F(CheckedProviderTest, GoodAnswerComesWholeAtTheEnd) {
  const Outcome outcome =
      Run({TextDelta{"Yes, we ", {}}, TextDelta{"ship there.", {}}, Finished{.usage = {3, 4, 0}}});
  EXPECT_EQ(outcome.text, "Yes, we ship there.");
  EXPECT_EQ(outcome.pieces, 1);
  EXPECT_EQ(outcome.finished.value().usage.completion_tokens, 4);
}

TEST_F(CheckedProviderTest, LoopIsAFailureAndNoneOfItIsShown) {
  std::vector<GenerateEvent> script;
  for (int i = 0; i < 60; ++i) script.emplace_back(TextDelta{"again and again ", {}});
  script.emplace_back(Finished{.reason = FinishReason::kLength, .usage = {3, 180, 0}});
  const Outcome outcome = Run(std::move(script));
  EXPECT_EQ(outcome.text, "");
  EXPECT_EQ(outcome.failed.value().failure.code, FailureCode::kOutputValidationFailed);
  EXPECT_EQ(outcome.failed->usage.completion_tokens, 180);
}

TEST_F(CheckedProviderTest, EmptyAnswerIsAFailureButAFunctionCallIsNot) {
  EXPECT_TRUE(Run({TextDelta{"  \n", {}}, Finished{}}).failed);
  GenerateRequest with_tools;
  with_tools.tools_json = "[{}]";
  const std::string call = "<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>";
  EXPECT_EQ(Run({TextDelta{call, {}}, Finished{}}, with_tools).text, call);
}

TEST_F(CheckedProviderTest, CancelledAndFailedAnswersPassAsTheyAre) {
  const Outcome cancelled =
      Run({TextDelta{"half", {}}, Finished{.reason = FinishReason::kCancelled}});
  EXPECT_EQ(cancelled.text, "half");
  EXPECT_EQ(cancelled.finished.value().reason, FinishReason::kCancelled);
  const Outcome failed = Run({TextDelta{"half", {}}, Failed{{FailureCode::kUnavailable, "cut"}}});
  EXPECT_EQ(failed.text, "");
  EXPECT_EQ(failed.failed.value().failure.message, "cut");
}

TEST_F(CheckedProviderTest, VeryLongAnswerIsPassedOnAsItComes) {
  const std::string big(CheckedProvider::kMaxBytes, 'a');
  const Outcome outcome =
      Run({TextDelta{big, {}}, TextDelta{"b", {}}, TextDelta{"c", {}}, Finished{}});
  EXPECT_EQ(outcome.pieces, 2);
  EXPECT_EQ(outcome.text.size(), big.size() + 2);
}

}  // namespace
}  // namespace tandem::gateway::dispatch
