#include "gateway/usage/record.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace tandem::gateway::usage {
namespace {

TEST(RecordTest, OutcomeIsTheFailureOrTheFinishReason) {
  UsageRecord record;
  EXPECT_EQ(OutcomeName(record), "unknown");
  record.finish_reason = FinishReason::kLength;
  EXPECT_EQ(OutcomeName(record), "length");
  record.failure = FailureCode::kPrivacyRefused;
  EXPECT_EQ(OutcomeName(record), "privacy_refused");
}

TEST(InterTokenTimesTest, QuantilesAreOffByAtMostASixteenth) {
  InterTokenTimes times;
  for (int i = 1; i <= 1000; ++i) times.Add(i * 0.5);
  EXPECT_EQ(times.count(), 1000u);
  EXPECT_EQ(times.max_ms(), 500);
  for (const double q : {0.01, 0.25, 0.5, 0.95, 0.99}) {
    EXPECT_NEAR(times.Quantile(q), q * 500, q * 500 / 16) << q;
  }
  EXPECT_LE(times.Quantile(1), 500);
}

TEST(InterTokenTimesTest, ExtremesAndNonsenseLandInTheOuterBuckets) {
  InterTokenTimes times;
  EXPECT_EQ(times.Quantile(0.5), 0);
  EXPECT_EQ(Summarise(times), std::nullopt);
  for (const double gap : {0.0, -1.0, 0.001, std::nan("")}) times.Add(gap);
  EXPECT_EQ(times.bucket(0), 4u);
  times.Add(1e12);
  times.Add(std::numeric_limits<double>::infinity());
  EXPECT_EQ(times.bucket(InterTokenTimes::kBuckets - 1), 2u);
  EXPECT_EQ(times.count(), 6u);
}

TEST(InterTokenTimesTest, EveryBucketsMiddleFallsIntoIt) {
  for (int i = 0; i < InterTokenTimes::kBuckets; ++i) {
    InterTokenTimes times;
    times.Add(InterTokenTimes::MiddleOf(i));
    EXPECT_EQ(times.bucket(i), 1u) << i;
  }
}

TEST(InterTokenTimesTest, SummaryNeverExceedsTheLargestGap) {
  InterTokenTimes times;
  times.Add(10.0);
  const auto summary = Summarise(times);
  ASSERT_TRUE(summary.has_value());
  EXPECT_EQ(summary->max_ms, 10.0);
  EXPECT_LE(summary->p50_ms, 10.0);
  EXPECT_LE(summary->p95_ms, 10.0);
  EXPECT_GT(summary->p50_ms, 9.0);
}

}  // namespace
}  // namespace tandem::gateway::usage
