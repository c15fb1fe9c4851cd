#include "gateway/router/breaker.h"

#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace tandem::gateway {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class BreakerTest : public testing::Test {
 protected:
  // One call that ends at once.
  bool Call(CallOutcome outcome, bool slow = false) {
    const auto permit = breaker_.Acquire(clock_.Now(), random_);
    if (!permit) return false;
    breaker_.Record(*permit, outcome, slow, clock_.Now(), random_);
    return true;
  }
  void Calls(int n, CallOutcome outcome) {
    for (int i = 0; i < n; ++i) ASSERT_TRUE(Call(outcome));
  }
  Breaker::State state() const { return breaker_.state(clock_.Now()); }

  Breaker breaker_{BreakerOptions{}};
  FakeClock clock_;
  double random_ = 0.5;  // the middle: no jitter
};

TEST_F(BreakerTest, FiveFailuresInARowOpen) {
  Calls(4, CallOutcome::kFailure);
  EXPECT_EQ(state(), Breaker::State::kClosed);
  Calls(1, CallOutcome::kFailure);
  EXPECT_EQ(state(), Breaker::State::kOpen);
  EXPECT_FALSE(Call(CallOutcome::kSuccess));
}

TEST_F(BreakerTest, ASuccessOrNothingInBetweenBreaksTheRow) {
  for (int i = 0; i < 3; ++i) {
    Calls(1, CallOutcome::kSuccess);
    Calls(1, CallOutcome::kFailure);
    Calls(1, CallOutcome::kNeutral);
  }
  EXPECT_EQ(state(), Breaker::State::kClosed);
}

TEST_F(BreakerTest, ShareOpensOnlyWithEnoughOutcomes) {
  for (int i = 0; i < 6; ++i) {
    Calls(2, CallOutcome::kSuccess);
    Calls(1, CallOutcome::kFailure);
  }
  EXPECT_EQ(state(), Breaker::State::kClosed) << "18 outcomes, a third of them failures";
  Calls(2, CallOutcome::kSuccess);
  EXPECT_EQ(state(), Breaker::State::kOpen) << "20 outcomes";
}

TEST_F(BreakerTest, OldOutcomesLeaveTheWindow) {
  for (int i = 0; i < 6; ++i) {
    Calls(2, CallOutcome::kSuccess);
    Calls(1, CallOutcome::kFailure);
  }
  clock_.Advance(seconds(61));
  Calls(2, CallOutcome::kSuccess);
  EXPECT_EQ(state(), Breaker::State::kClosed);
  EXPECT_EQ(breaker_.failure_share(clock_.Now()), 0);
}

TEST_F(BreakerTest, SlowCallsOpen) {
  for (int i = 0; i < 19; ++i) ASSERT_TRUE(Call(CallOutcome::kSuccess, true));
  EXPECT_EQ(state(), Breaker::State::kClosed);
  ASSERT_TRUE(Call(CallOutcome::kSuccess, true));
  EXPECT_EQ(state(), Breaker::State::kOpen);
}

TEST_F(BreakerTest, HalfOpenAllowsThreeProbesAtOnceAndClosesAfterFiveSuccesses) {
  Calls(5, CallOutcome::kFailure);
  clock_.Advance(milliseconds(59'999));
  EXPECT_FALSE(breaker_.Acquire(clock_.Now(), random_));
  clock_.Advance(milliseconds(1));
  EXPECT_EQ(state(), Breaker::State::kHalfOpen);
  std::vector<Breaker::Permit> probes;
  for (int i = 0; i < 3; ++i) probes.push_back(breaker_.Acquire(clock_.Now(), random_).value());
  EXPECT_FALSE(breaker_.Acquire(clock_.Now(), random_));
  for (const auto& probe : probes) {
    EXPECT_TRUE(probe.probe);
    breaker_.Record(probe, CallOutcome::kSuccess, false, clock_.Now(), random_);
  }
  Calls(1, CallOutcome::kSuccess);
  EXPECT_EQ(state(), Breaker::State::kHalfOpen);
  Calls(1, CallOutcome::kSuccess);
  EXPECT_EQ(state(), Breaker::State::kClosed);
}

TEST_F(BreakerTest, ANeutralProbeGivesItsPlaceBack) {
  Calls(5, CallOutcome::kFailure);
  clock_.Advance(seconds(60));
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(Call(CallOutcome::kNeutral));
  Calls(5, CallOutcome::kSuccess);
  EXPECT_EQ(state(), Breaker::State::kClosed);
}

TEST_F(BreakerTest, EachFailedProbeDoublesTheWaitUpToTenMinutes) {
  Calls(5, CallOutcome::kFailure);
  milliseconds expected(60'000);
  for (int i = 0; i < 8; ++i) {
    const auto wait = std::chrono::duration_cast<milliseconds>(breaker_.retry_at() - clock_.Now());
    EXPECT_EQ(wait, std::min(expected, milliseconds(600'000)));
    clock_.Advance(wait);
    Calls(1, CallOutcome::kFailure);
    expected *= 2;
  }
}

TEST_F(BreakerTest, TheWaitIsSpreadByTenPercent) {
  random_ = 0.0;
  Calls(5, CallOutcome::kFailure);
  EXPECT_EQ(breaker_.retry_at() - clock_.Now(), milliseconds(54'000));
}

TEST_F(BreakerTest, TrafficComesBackSlowly) {
  Calls(5, CallOutcome::kFailure);
  clock_.Advance(seconds(60));
  Calls(5, CallOutcome::kSuccess);
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> uniform(0, 1);
  const auto passed = [&] {
    int n = 0;
    for (int i = 0; i < 1000; ++i) n += breaker_.Acquire(clock_.Now(), uniform(random)).has_value();
    return n;
  };
  EXPECT_NEAR(passed(), 100, 40);
  clock_.Advance(seconds(15));
  EXPECT_NEAR(passed(), 550, 60);
  clock_.Advance(seconds(15));
  EXPECT_EQ(passed(), 1000);
}

TEST_F(BreakerTest, AnOutcomeFromBeforeAChangeOfStateDoesNotCount) {
  const auto late = breaker_.Acquire(clock_.Now(), random_).value();
  Calls(5, CallOutcome::kFailure);
  clock_.Advance(seconds(60));
  ASSERT_TRUE(breaker_.Acquire(clock_.Now(), random_));
  breaker_.Record(late, CallOutcome::kFailure, false, clock_.Now(), random_);
  EXPECT_EQ(state(), Breaker::State::kHalfOpen);
}

// Rates that gateway.md's design states: a healthy upstream must not trip the breaker.
TEST(BreakerSimulationTest, OnePercentErrorsRarelyOpenAndTwentyPercentAlwaysDo) {
  const auto share_of_runs_that_open = [](double error_share, int calls) {
    std::mt19937_64 random(7);
    // In [0, 1); the standard distribution takes two logarithms a number in this library.
    const auto uniform = [&random] { return static_cast<double>(random() >> 11) * 0x1p-53; };
    constexpr int kRuns = 2000;
    int opened = 0;
    for (int run = 0; run < kRuns; ++run) {
      FakeClock clock;
      Breaker breaker{BreakerOptions{}};
      for (int i = 0; i < calls; ++i) {
        const auto permit = breaker.Acquire(clock.Now(), uniform());
        if (!permit) break;
        const bool fails = uniform() < error_share;
        breaker.Record(*permit, fails ? CallOutcome::kFailure : CallOutcome::kSuccess, false,
                       clock.Now(), uniform());
        clock.Advance(milliseconds(500));
      }
      opened += breaker.times_opened() > 0;
    }
    return opened / static_cast<double>(kRuns);
  };
  EXPECT_LT(share_of_runs_that_open(0.01, 20), 0.01) << "the naive rule opens in 18 %";
  EXPECT_LT(share_of_runs_that_open(0.01, 240), 0.03);
  EXPECT_GT(share_of_runs_that_open(0.20, 120), 0.97);
}

}  // namespace
}  // namespace tandem::gateway
