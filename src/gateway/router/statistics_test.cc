#include "gateway/router/statistics.h"

#include <cmath>
#include <random>

#include <gtest/gtest.h>

namespace tandem::gateway {
namespace {

// Published example: 10 of 100 at 95 % is 0.0552 .. 0.1744.
TEST(StatisticsTest, WilsonMatchesAPublishedExample) {
  const ShareInterval interval = WilsonInterval(10, 100, 1.959964);
  EXPECT_NEAR(interval.low, 0.05522, 1e-4);
  EXPECT_NEAR(interval.high, 0.17437, 1e-4);
}

TEST(StatisticsTest, WilsonStaysInsideZeroToOne) {
  EXPECT_EQ(WilsonInterval(0, 0, 2).low, 0);
  EXPECT_EQ(WilsonInterval(0, 0, 2).high, 1);
  EXPECT_EQ(WilsonInterval(0, 5, 2).low, 0);
  EXPECT_GT(WilsonInterval(0, 5, 2).high, 0.3);
  EXPECT_LE(WilsonInterval(5, 5, 2).high, 1);
}

TEST(StatisticsTest, NormalQuantilesMatchTheTables) {
  EXPECT_NEAR(NormalUpperQuantile(0.025), 1.959963985, 1e-8);
  EXPECT_NEAR(NormalUpperQuantile(0.05), 1.644853627, 1e-8);
  EXPECT_NEAR(NormalUpperQuantile(0.001), 3.090232306, 1e-8);
  EXPECT_NEAR(NormalUpperQuantile(0.4), 0.253347103, 1e-8);
}

// The boundary's promise, checked by simulation: 30 looks at data without any difference.
TEST(StatisticsTest, ThirtyLooksRaiseAFalseAlarmAtAboutAlphaWhereNaivePeekingRaisesMany) {
  constexpr int kLooks = 30;
  constexpr int kRuns = 20'000;
  std::mt19937_64 random(3);
  std::normal_distribution<double> normal;
  int bounded = 0;
  int naive = 0;
  for (int run = 0; run < kRuns; ++run) {
    double sum = 0;
    bool bounded_alarm = false;
    bool naive_alarm = false;
    for (int look = 1; look <= kLooks; ++look) {
      sum += normal(random);
      const double z = sum / std::sqrt(look);
      bounded_alarm |= z > OBrienFlemingBoundary(look, kLooks, 0.05);
      naive_alarm |= z > NormalUpperQuantile(0.05);
    }
    bounded += bounded_alarm;
    naive += naive_alarm;
  }
  EXPECT_LT(bounded, kRuns * 0.055);
  EXPECT_GT(bounded, kRuns * 0.03);
  EXPECT_GT(naive, kRuns * 0.2);
}

}  // namespace
}  // namespace tandem::gateway
