#include "gateway/auth/budget.h"

#include <atomic>
#include <deque>
#include <limits>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::gateway::auth {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// FakeClock begins at 2026-01-01T00:00:00Z.
constexpr Budget kMonthly{1000, BudgetPeriod::kMonth};
constexpr Budget kTotal{1000, BudgetPeriod::kTotal};

TEST(BudgetLedgerTest, ReservationsAndSettlementsUseTheBudgetUp) {
  FakeClock clock;
  BudgetLedger ledger(&clock, {});
  EXPECT_EQ(ledger.Left("a", kMonthly), 1000);
  auto first = ledger.Reserve("a", kMonthly, 600);
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(ledger.Left("a", kMonthly), 400);
  const auto refused = ledger.Reserve("a", kMonthly, 401);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kResourceExhausted);
  EXPECT_TRUE(ledger.Reserve("a", kMonthly, 400).has_value()) << "exactly what is left";
  first->Settle(100);
  EXPECT_EQ(ledger.Left("a", kMonthly), 900) << "the second was given back, the first cost less";
  EXPECT_EQ(ledger.Spent("a", BudgetPeriod::kMonth), 100);
  EXPECT_EQ(ledger.Left("b", kMonthly), 1000);
}

TEST(BudgetLedgerTest, UnsettledReservationIsGivenBackOnce) {
  FakeClock clock;
  BudgetLedger ledger(&clock, {});
  {
    BudgetReservation kept;
    {
      auto made = ledger.Reserve("a", kMonthly, 300);
      ASSERT_TRUE(made.has_value());
      kept = *std::move(made);
    }
    EXPECT_EQ(ledger.Left("a", kMonthly), 700);
    kept = ledger.Reserve("a", kMonthly, 100).value();
    EXPECT_EQ(ledger.Left("a", kMonthly), 900);
  }
  EXPECT_EQ(ledger.Left("a", kMonthly), 1000);
  BudgetReservation settled = ledger.Reserve("a", kMonthly, 100).value();
  settled.Settle(50);
  settled.Settle(50);
  EXPECT_EQ(ledger.Left("a", kMonthly), 950);
}

TEST(BudgetLedgerTest, ReservationMayOutliveTheLedger) {
  FakeClock clock;
  BudgetReservation reservation;
  {
    BudgetLedger ledger(&clock, {});
    reservation = ledger.Reserve("a", kMonthly, 1).value();
  }
  reservation.Settle(1);
}

TEST(BudgetLedgerTest, OvershootIsKeptAndStopsTheNextButNotWhatIsFree) {
  FakeClock clock;
  BudgetLedger ledger(&clock, {});
  ledger.Reserve("a", kTotal, 10).value().Settle(5000);
  EXPECT_EQ(ledger.Left("a", kTotal), 0);
  EXPECT_EQ(ledger.Spent("a", BudgetPeriod::kTotal), 5000);
  EXPECT_FALSE(ledger.Reserve("a", kTotal, 1).has_value());
  EXPECT_TRUE(ledger.Reserve("a", kTotal, 0).has_value()) << "the device's own work";
  EXPECT_TRUE(ledger.Reserve("a", std::nullopt, 1000).has_value()) << "no budget, no limit";
}

TEST(BudgetLedgerTest, MonthBeginsAnewAndTheTotalDoesNot) {
  FakeClock clock;
  BudgetLedger ledger(&clock, {});
  clock.Advance(std::chrono::days(31) - std::chrono::seconds(1));
  BudgetReservation last = ledger.Reserve("a", kMonthly, 700).value();
  EXPECT_FALSE(ledger.Reserve("a", kMonthly, 400).has_value());
  clock.Advance(std::chrono::seconds(1));  // 2026-02-01T00:00:00Z
  EXPECT_EQ(ledger.Left("a", kMonthly), 1000);
  BudgetReservation next = ledger.Reserve("a", kMonthly, 400).value();
  last.Settle(700);
  EXPECT_EQ(ledger.Left("a", kMonthly), 600) << "January's request is paid from January's budget";
  EXPECT_EQ(ledger.Spent("a", BudgetPeriod::kMonth), 0);
  EXPECT_EQ(ledger.Spent("a", BudgetPeriod::kTotal), 700);
  EXPECT_FALSE(ledger.Reserve("a", kTotal, 1).has_value()) << "700 spent, 300 + 1 asked, 400 held";
}

TEST(BudgetLedgerTest, PersistedSumsCountAfterARestart) {
  FakeClock clock;
  const BudgetLedger ledger(&clock, {{"a", 202512, 400}, {"a", 202601, 100}, {"a", 202601, 50}});
  EXPECT_EQ(ledger.Left("a", kMonthly), 850);
  EXPECT_EQ(ledger.Left("a", kTotal), 450);
}

TEST(BudgetLedgerTest, RefusalSaysHowMuchThereIs) {
  FakeClock clock;
  BudgetLedger ledger(&clock, {{"a", 202601, 7'500'000'000}});
  const Budget budget{10'000'000'000, BudgetPeriod::kMonth};
  const BudgetReservation held = ledger.Reserve("a", budget, 2'000'000'000).value();
  EXPECT_THAT(ledger.Reserve("a", budget, 600'000'000).error().message,
              AllOf(HasSubstr("10.000000 USD a month"), HasSubstr("7.500000 USD are spent"),
                    HasSubstr("2.000000 USD are reserved"), HasSubstr("0.600000 USD"),
                    HasSubstr("next month")));
}

TEST(BudgetLedgerTest, SumsBeyondTheRangeDoNotWrap) {
  FakeClock clock;
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  BudgetLedger ledger(&clock, {{"a", 202601, kMax}});
  ledger.Reserve("a", std::nullopt, 5).value().Settle(kMax);
  EXPECT_EQ(ledger.Spent("a", BudgetPeriod::kTotal), kMax);
  EXPECT_EQ(ledger.Left("a", {kMax, BudgetPeriod::kTotal}), 0);
  ledger.Reserve("b", std::nullopt, 5).value().Settle(-7);
  EXPECT_EQ(ledger.Spent("b", BudgetPeriod::kTotal), 0);
}

TEST(BudgetLedgerTest, ManyRequestsAtOnceNeverReserveTheSameMoney) {
  constexpr int64_t kLimit = 10'000;
  constexpr int64_t kEach = 7;
  constexpr size_t kRunning = 5;  // requests of each thread at a time
  constexpr int kThreads = 8;
  FakeClock clock;
  BudgetLedger ledger(&clock, {});
  std::atomic<int64_t> settled = 0;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        std::deque<BudgetReservation> running;
        const auto end_oldest = [&](int i) {
          BudgetReservation oldest = std::move(running.front());
          running.pop_front();
          if ((i + t) % 3 == 0) return;  // it failed and cost nothing
          oldest.Settle(kEach);
          settled += kEach;
        };
        for (int i = 0; i < 1000; ++i) {
          auto reservation = ledger.Reserve("a", Budget{kLimit, BudgetPeriod::kTotal}, kEach);
          if (reservation) running.push_back(*std::move(reservation));
          if (running.size() == kRunning || (!reservation && !running.empty())) end_oldest(i);
        }
        for (int i = 0; !running.empty(); ++i) end_oldest(i);
      });
    }
  }
  // Far more was wanted than there was. What is left is too little for one more, or was held by
  // requests that cost nothing when the last one asked.
  EXPECT_EQ(ledger.Spent("a", BudgetPeriod::kTotal), settled.load());
  EXPECT_LE(settled.load(), kLimit);
  EXPECT_GT(settled.load(), kLimit - kEach * (1 + kThreads * static_cast<int64_t>(kRunning)));
}

}  // namespace
}  // namespace tandem::gateway::auth
