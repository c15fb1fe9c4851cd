#include "engine/session/step_timer.h"

#include <chrono>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/executor/fake_executor.h"
#include "engine/session/testing/fixtures.h"

namespace tandem::session {
namespace {

using executor::FakeExecutor;
using executor::KvPrecision;
using executor::SlotStep;
using ::testing::Each;
using ::testing::ElementsAre;
using testing::kVocabSize;

class StepTimerTest : public ::testing::Test {
 protected:
  StepTimerTest() {
    // A step takes 10 ms, and 1 ms more for each of its tokens.
    executor_.on_step = [this](std::span<const SlotStep> batch) -> Status {
      size_t n_tokens = 0;
      std::string text;
      for (const SlotStep& step : batch) {
        n_tokens += step.token_ids.size();
        text += fmt::format("{}{}@{}", text.empty() ? "" : " ", step.token_ids.size(),
                            step.slot->length());
        if (step.n_logit_rows > 0) text += "!";
      }
      steps_.push_back(text);
      clock_.Advance(std::chrono::milliseconds(10 + n_tokens));
      return {};
    };
  }

  FakeClock clock_;
  FakeExecutor executor_{
      kVocabSize, 50, {.max_tokens = 6, .max_logit_rows = 4}, testing::HashedLetter};
  std::unique_ptr<executor::Slot> slot_ = executor_.NewSlot(KvPrecision::kF16).value();
  StepTimer timer_{&executor_, slot_.get(), KvPrecision::kF16, &clock_};
  std::vector<std::string> steps_;  // "tokens@position", with "!" where logits were asked for
};

TEST_F(StepTimerTest, PrefillTimesItsChunksAndAsksForOneRow) {
  EXPECT_EQ(timer_.Prefill(14, 0).value(), 3 * 10 + 14);
  EXPECT_THAT(steps_, ElementsAre("6@0", "6@6", "2@12!"));
}

TEST_F(StepTimerTest, DepthIsComputedOnceAndNotTimed) {
  EXPECT_EQ(timer_.Prefill(3, 8).value(), 13);
  EXPECT_THAT(steps_, ElementsAre("6@0", "2@6", "3@8!"));
  steps_.clear();
  EXPECT_EQ(timer_.Prefill(3, 8).value(), 13);
  EXPECT_THAT(steps_, ElementsAre("3@8!"));
}

TEST_F(StepTimerTest, DecodeTimesEachStepOfSequencesSideBySide) {
  EXPECT_THAT(timer_.Decode(3, 2, 2).value(), ElementsAre(13, 13));
  EXPECT_THAT(steps_, ElementsAre("2@0", "2@0", "2@0", "1@2! 1@2! 1@2!", "1@3! 1@3! 1@3!"));
  steps_.clear();
  EXPECT_THAT(timer_.Decode(1, 2, 3).value(), ElementsAre(11, 11, 11));
  EXPECT_THAT(steps_, ElementsAre("1@2!", "1@3!", "1@4!"));
}

TEST_F(StepTimerTest, WhatDoesNotFitIsRefusedBeforeAnyStep) {
  for (const auto& [tokens, depth] :
       {std::pair{0, 0}, {1, -1}, {1, 50}, {51, 0}, {2, 2147483647}}) {
    EXPECT_EQ(timer_.Prefill(tokens, depth).error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(timer_.Decode(1, depth, tokens).error().code, ErrorCode::kInvalidArgument);
  }
  EXPECT_EQ(timer_.Decode(0, 0, 1).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(timer_.Decode(5, 0, 1).error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(steps_, ElementsAre());
  EXPECT_TRUE(timer_.Prefill(50, 0));
}

TEST_F(StepTimerTest, AStepThatFailsIsReported) {
  executor_.on_step = [](std::span<const SlotStep>) -> Status {
    return Err(ErrorCode::kInternal, "broken");
  };
  EXPECT_EQ(timer_.Prefill(1, 0).error().code, ErrorCode::kInternal);
  EXPECT_EQ(timer_.Decode(1, 0, 1).error().code, ErrorCode::kInternal);
}

}  // namespace
}  // namespace tandem::session
