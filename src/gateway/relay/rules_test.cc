#include "gateway/relay/rules.h"

#include <vector>

#include <gtest/gtest.h>

#include "base/clock.h"
#include "gateway/relay/retry_budget.h"

namespace tandem::gateway::relay {
namespace {

using std::chrono::milliseconds;

TEST(RulesTest, OnlyTheRequestsOwnFaultsEndAnAnswer) {
  int n_ending = 0;
  for (int i = 0; i < kFailureCodeCount; ++i) n_ending += EndsAnswer(static_cast<FailureCode>(i));
  EXPECT_EQ(n_ending, 7);
  EXPECT_TRUE(EndsAnswer(FailureCode::kInvalidRequest));
  EXPECT_TRUE(EndsAnswer(FailureCode::kCancelled));
  EXPECT_TRUE(EndsAnswer(FailureCode::kBudgetExceeded));
  EXPECT_FALSE(EndsAnswer(FailureCode::kContextLengthExceeded));
  EXPECT_FALSE(EndsAnswer(FailureCode::kOutOfMemory));
  EXPECT_FALSE(EndsAnswer(FailureCode::kModelNotInstalled));
  EXPECT_FALSE(EndsAnswer(FailureCode::kUnsupported));
  EXPECT_FALSE(EndsAnswer(FailureCode::kCredentialRejected));
}

TEST(RulesTest, OnlyWhatMayPassIsRetried) {
  for (int i = 0; i < kFailureCodeCount; ++i) {
    const auto code = static_cast<FailureCode>(i);
    const bool passes = code == FailureCode::kUnavailable || code == FailureCode::kRateLimited ||
                        code == FailureCode::kInternal;
    EXPECT_EQ(MayRetry(code), passes) << i;
  }
}

TEST(RulesTest, DelayIsFullJitterOverADoublingCappedAtEightSeconds) {
  const Failure failure{FailureCode::kUnavailable, ""};
  EXPECT_EQ(RetryDelay(0, failure, 0.0), milliseconds(0));
  EXPECT_EQ(RetryDelay(0, failure, 0.5), milliseconds(125));
  EXPECT_EQ(RetryDelay(1, failure, 0.5), milliseconds(250));
  EXPECT_EQ(RetryDelay(4, failure, 0.5), milliseconds(2000));
  EXPECT_EQ(RetryDelay(5, failure, 0.5), milliseconds(4000));
  EXPECT_EQ(RetryDelay(50, failure, 0.999), milliseconds(7992));
}

TEST(RulesTest, WhatTheProviderAskedForIsHonoured) {
  const Failure failure{.code = FailureCode::kRateLimited, .retry_after = milliseconds(3000)};
  EXPECT_EQ(RetryDelay(0, failure, 0.1), milliseconds(3000));
}

TEST(RulesTest, MostTellingFailureIsReportedWithTheShortestRetryAfter) {
  std::vector<Failure> failures = {
      {.code = FailureCode::kUnavailable, .message = "a", .retry_after = milliseconds(9000)},
      {.code = FailureCode::kOutOfMemory, .message = "b"},
      {.code = FailureCode::kRateLimited, .message = "c", .retry_after = milliseconds(2000)},
  };
  const Failure told = MostTelling(failures);
  EXPECT_EQ(told.message, "b");
  EXPECT_EQ(told.retry_after, milliseconds(2000));
  // Of two alike the later one.
  failures = {{FailureCode::kUnavailable, "first"}, {FailureCode::kUnavailable, "second"}};
  EXPECT_EQ(MostTelling(failures).message, "second");
  EXPECT_EQ(MostTelling(failures).retry_after, std::nullopt);
}

TEST(RetryBudgetTest, TenRequestsBuyOneRetry) {
  FakeClock clock;
  RetryBudget budget(&clock, {.share = 0.1, .burst = 2, .per_second = 0});
  EXPECT_TRUE(budget.TryTake());
  EXPECT_TRUE(budget.TryTake());
  EXPECT_FALSE(budget.TryTake());
  for (int i = 0; i < 9; ++i) budget.OnRequest();
  EXPECT_FALSE(budget.TryTake());
  budget.OnRequest();
  EXPECT_TRUE(budget.TryTake());
  EXPECT_FALSE(budget.TryTake());
}

TEST(RetryBudgetTest, RetriesStayATenthOfTheTraffic) {
  FakeClock clock;
  RetryBudget budget(&clock, {.share = 0.1, .burst = 10, .per_second = 0});
  int n_retries = 0;
  for (int i = 0; i < 10'000; ++i) {
    budget.OnRequest();
    for (int failure = 0; failure < 3; ++failure) n_retries += budget.TryTake();
  }
  EXPECT_LE(n_retries, 1010);
  EXPECT_GE(n_retries, 1000);
}

TEST(RetryBudgetTest, QuietServerMayRetryNowAndThen) {
  FakeClock clock;
  RetryBudget budget(&clock, {.share = 0.1, .burst = 2, .per_second = 0.1});
  while (budget.TryTake()) {
  }
  clock.Advance(std::chrono::seconds(9));
  EXPECT_FALSE(budget.TryTake());
  clock.Advance(std::chrono::seconds(1));
  EXPECT_TRUE(budget.TryTake());
  clock.Advance(std::chrono::hours(1));
  EXPECT_TRUE(budget.TryTake());
  EXPECT_TRUE(budget.TryTake());
  EXPECT_FALSE(budget.TryTake()) << "no more than the burst is saved up";
}

}  // namespace
}  // namespace tandem::gateway::relay
