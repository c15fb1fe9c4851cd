#include "engine/executor/known_answer.h"

#include <cmath>
#include <limits>
#include <set>

#include <gtest/gtest.h>

#include "engine/executor/fake_executor.h"

namespace tandem::executor {
namespace {

constexpr int32_t kVocabulary = 500;

// The next token of a sequence depends on all of it.
int32_t Next(std::span<const int32_t> sequence) {
  uint64_t hash = 7;
  for (const int32_t id : sequence) hash = hash * 31 + static_cast<uint64_t>(id);
  return static_cast<int32_t>(hash % kVocabulary);
}

FakeExecutor MakeExecutor() {
  return {kVocabulary, kKnownAnswerContextTokens, kKnownAnswerLimits, Next};
}

KnownAnswers Ask(FakeExecutor& executor) {
  auto answers = AskKnownAnswers(executor, FakeClock());
  EXPECT_TRUE(answers) << answers.error().message;
  return answers ? *std::move(answers) : KnownAnswers{};
}

TEST(KnownAnswerTest, ExecutorsThatDoTheSameAgreeExactly) {
  FakeExecutor one = MakeExecutor();
  FakeExecutor two = MakeExecutor();
  const KnownAnswers reference = Ask(one);
  EXPECT_GE(reference.n_rows(), 20);
  const AnswerComparison comparison = CompareAnswers(reference, Ask(two), 1e-9);
  EXPECT_TRUE(comparison.passed());
  EXPECT_EQ(comparison.worst_relative_error, 0);
  EXPECT_EQ(one.n_slots(), 0) << "all slots are given back";
}

TEST(KnownAnswerTest, ACopiedPrefixThatIsNotQuiteTheSameIsSeen) {
  FakeExecutor honest = MakeExecutor();
  const KnownAnswers reference = Ask(honest);
  FakeExecutor wrong = MakeExecutor();
  wrong.on_step = [](std::span<const SlotStep> batch) -> Status {
    std::vector<int32_t>& held = FakeExecutor::TokensOf(*batch.front().slot);
    if (held.size() == 20) held[0] ^= 1;  // the copy
    return {};
  };
  EXPECT_FALSE(CompareAnswers(reference, Ask(wrong), 0.5).passed());
}

TEST(KnownAnswerTest, ItUsesTheWholeVocabulary) {
  FakeExecutor executor = MakeExecutor();
  std::set<int32_t> seen;
  executor.on_step = [&](std::span<const SlotStep> batch) -> Status {
    for (const SlotStep& step : batch) seen.insert(step.token_ids.begin(), step.token_ids.end());
    return {};
  };
  Ask(executor);
  EXPECT_LT(*seen.begin(), kVocabulary / 20);
  EXPECT_GT(*seen.rbegin(), kVocabulary - kVocabulary / 20);
}

TEST(KnownAnswerTest, WhatIsNotANumberFailsWhateverTheBound) {
  FakeExecutor honest = MakeExecutor();
  FakeExecutor wrong = MakeExecutor();
  int n_rows = 0;
  wrong.on_row = [&](std::span<const int32_t>, std::span<float> row) {
    if (++n_rows == 9) row[3] = std::numeric_limits<float>::quiet_NaN();
  };
  const AnswerComparison comparison = CompareAnswers(Ask(honest), Ask(wrong), 1e9);
  EXPECT_FALSE(comparison.finite);
  EXPECT_FALSE(comparison.passed());
}

TEST(KnownAnswerTest, AnOffsetOfAWholeRowIsNoErrorAndAScaledRowIs) {
  FakeExecutor honest = MakeExecutor();
  FakeExecutor shifted = MakeExecutor();
  shifted.on_row = [](std::span<const int32_t>, std::span<float> row) {
    for (float& logit : row) logit += 3;
  };
  FakeExecutor scaled = MakeExecutor();
  scaled.on_row = [](std::span<const int32_t>, std::span<float> row) {
    for (float& logit : row) logit *= 1.25F;
  };
  const KnownAnswers reference = Ask(honest);
  EXPECT_LT(CompareAnswers(reference, Ask(shifted), 0).worst_relative_error, 1e-6);
  EXPECT_NEAR(CompareAnswers(reference, Ask(scaled), 0).worst_relative_error, 0.25, 1e-4);
}

TEST(KnownAnswerTest, ErrorsOfTheExecutorComeThrough) {
  FakeExecutor executor = MakeExecutor();
  executor.on_step = [n = 0](std::span<const SlotStep>) mutable -> Status {
    if (++n < 5) return {};
    return Err(ErrorCode::kUnavailable, "gone");
  };
  EXPECT_EQ(AskKnownAnswers(executor, FakeClock()).error().message, "gone");
}

TEST(KnownAnswerTest, TheBoundGrowsWithTheRootOfTheDepth) {
  EXPECT_NEAR(KnownAnswerBound(6), 0.085, 0.001);
  EXPECT_NEAR(KnownAnswerBound(24), 2 * KnownAnswerBound(6), 1e-12);
}

}  // namespace
}  // namespace tandem::executor
