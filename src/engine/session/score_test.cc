#include "engine/session/score.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "engine/executor/fake_executor.h"
#include "engine/session/testing/fixtures.h"

namespace tandem::session {
namespace {

using executor::FakeExecutor;
using testing::HashedLetter;
using testing::kVocabSize;

class ScoreTest : public ::testing::Test {
 protected:
  std::unique_ptr<executor::Slot> NewSlot() {
    return executor_.NewSlot(executor::KvPrecision::kF32).value();
  }
  FakeExecutor executor_{kVocabSize, 50, {.max_tokens = 6, .max_logit_rows = 4}, HashedLetter};
};

TEST_F(ScoreTest, EveryPositionComesOnceInOrderWithItsOwnLogits) {
  const std::vector<int32_t> tokens = testing::Bytes("the quick brown");  // not a multiple of 4
  std::vector<int32_t> expected;
  for (size_t i = 1; i <= tokens.size(); ++i) {
    expected.push_back(HashedLetter(std::span(tokens).first(i)));
  }
  std::vector<int32_t> best;
  RowSink row = [&](int32_t position, std::span<const float> logits) -> Status {
    EXPECT_EQ(position, std::ssize(best));
    EXPECT_EQ(logits.size(), static_cast<size_t>(kVocabSize));
    best.push_back(static_cast<int32_t>(std::ranges::max_element(logits) - logits.begin()));
    return {};
  };
  const auto slot = NewSlot();
  ASSERT_TRUE(ScoreTokens(executor_, *slot, tokens, row));
  EXPECT_EQ(best, expected);
}

TEST_F(ScoreTest, ErrorOfTheRowEndsTheRun) {
  int n_rows = 0;
  RowSink row = [&](int32_t position, std::span<const float>) -> Status {
    ++n_rows;
    if (position == 2) return Err(ErrorCode::kIo, "disk full");
    return {};
  };
  const auto slot = NewSlot();
  const Status status = ScoreTokens(executor_, *slot, testing::Bytes("abcdefgh"), row);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kIo);
  EXPECT_EQ(n_rows, 3);
}

TEST_F(ScoreTest, GreedyContinuationFollowsTheModel) {
  const std::vector<int32_t> prompt = testing::Bytes("a prompt longer than a step");
  std::vector<int32_t> sequence = prompt;
  for (int i = 0; i < 20; ++i) sequence.push_back(HashedLetter(sequence));
  const auto slot = NewSlot();
  const auto answer = ContinueGreedily(executor_, *slot, prompt, 20);
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(*answer, std::vector<int32_t>(sequence.begin() + std::ssize(prompt), sequence.end()));
}

TEST_F(ScoreTest, WrongTokensAreTypedErrors) {
  RowSink row = [](int32_t, std::span<const float>) -> Status { return {}; };
  const auto slot = NewSlot();
  for (const std::vector<int32_t>& tokens :
       {std::vector<int32_t>{}, {-1}, {kVocabSize}, std::vector<int32_t>(51, 1)}) {
    const Status status = ScoreTokens(executor_, *slot, tokens, row);
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
  }
  EXPECT_TRUE(ScoreTokens(executor_, *slot, std::vector<int32_t>(50, 1), row));
  const auto other = NewSlot();
  EXPECT_FALSE(ContinueGreedily(executor_, *other, std::vector<int32_t>(40, 1), 11));
  EXPECT_FALSE(ContinueGreedily(executor_, *other, std::vector<int32_t>(40, 1), -1));
  EXPECT_TRUE(ContinueGreedily(executor_, *other, std::vector<int32_t>(40, 1), 10));
}

TEST_F(ScoreTest, FailureOfTheExecutorComesBack) {
  executor_.on_step = [](std::span<const executor::SlotStep>) -> Status {
    return Err(ErrorCode::kInternal, "broken");
  };
  RowSink row = [](int32_t, std::span<const float>) -> Status { return {}; };
  const auto slot = NewSlot();
  EXPECT_EQ(ScoreTokens(executor_, *slot, std::vector<int32_t>{1}, row).error().message, "broken");
  EXPECT_EQ(ContinueGreedily(executor_, *slot, std::vector<int32_t>{1}, 1).error().message,
            "broken");
}

}  // namespace
}  // namespace tandem::session
