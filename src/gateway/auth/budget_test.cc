#include "gateway/auth/budget.h"

#include <atomic>
#include <deque>
#include <limits>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gateway/auth/schema.h"
#include "store/testing/test_databases.h"

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

// ---- Several nodes
// -------------------------------------------------------------------------------

class SharedBudgetTest : public store::DatabaseTestOf {
 protected:
  struct Node {
    Node(std::unique_ptr<store::Database> opened, const Clock* clock,
         const std::vector<Spend>& spent)
        : database(std::move(opened)),
          migrated(MigrateAuth(database.get())),
          pool(database.get()),
          ledger(clock, spent, &pool) {
      EXPECT_TRUE(migrated) << migrated.error().message;
    }
    std::unique_ptr<store::Database> database;
    Status migrated;
    SqlBudgetPool pool;
    BudgetLedger ledger;
  };
  std::unique_ptr<Node> Start(const std::vector<Spend>& spent = {}) {
    return std::make_unique<Node>(Open(), &clock_, spent);
  }

  FakeClock clock_;
};
INSTANTIATE_TEST_SUITE_P(Databases, SharedBudgetTest, store::AllDatabases(), store::DatabaseName);

constexpr Budget kShared{1'000, BudgetPeriod::kTotal};

TEST_P(SharedBudgetTest, NodesTogetherSpendNoMoreThanThereIs) {
  const auto a = Start();
  const auto b = Start();
  std::atomic<int64_t> spent = 0;
  {
    std::vector<std::jthread> threads;
    for (Node* node : {a.get(), b.get(), a.get(), b.get()}) {
      threads.emplace_back([&, node] {
        for (int i = 0; i < 60; ++i) {
          auto reserved = node->ledger.Reserve("app", kShared, 9);
          if (!reserved) {
            ASSERT_EQ(reserved.error().code, ErrorCode::kResourceExhausted);
            continue;
          }
          spent += 7;
          reserved->Settle(7);
        }
      });
    }
  }
  EXPECT_LE(spent, 1'000);
  // With what lies in the wallets given back, all of it can be spent, by either.
  ASSERT_TRUE(a->ledger.GiveBack());
  ASSERT_TRUE(b->ledger.GiveBack());
  while (true) {
    auto reserved = b->ledger.Reserve("app", kShared, 1);
    if (!reserved) break;
    reserved->Settle(1);
    ++spent;
  }
  EXPECT_EQ(spent, 1'000);
  EXPECT_EQ(a->ledger.Reserve("app", kShared, 1).error().code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(a->ledger.Left("app", kShared), 0);
}

TEST_P(SharedBudgetTest, WhatOneReservesTheOtherCannot) {
  const auto a = Start();
  const auto b = Start();
  auto all = a->ledger.Reserve("app", kShared, 1'000);
  ASSERT_TRUE(all);
  EXPECT_EQ(b->ledger.Reserve("app", kShared, 1).error().code, ErrorCode::kResourceExhausted);
  EXPECT_TRUE(b->ledger.Reserve("other", kShared, 1));
  EXPECT_TRUE(b->ledger.Reserve("app", kShared, 0)) << "what costs nothing needs no budget";
  all->Settle(600);
  ASSERT_TRUE(a->ledger.GiveBack());
  auto rest = b->ledger.Reserve("app", kShared, 400);
  ASSERT_TRUE(rest);
  rest->Settle(450);  // beyond what was reserved, and so beyond the budget
  ASSERT_TRUE(b->ledger.GiveBack());
  EXPECT_FALSE(a->ledger.Reserve("app", kShared, 1));
}

TEST_P(SharedBudgetTest, WhatWasSpentBeforeCountsOnceAndMonthsApart) {
  const Budget monthly{1'000, BudgetPeriod::kMonth};
  const int64_t month = 202000 + 1;  // long ago
  const auto a = Start({{"app", month, 900}});
  const auto b = Start({{"app", month, 900}});
  EXPECT_FALSE(a->ledger.Reserve("app", kShared, 101));
  EXPECT_TRUE(a->ledger.Reserve("app", kShared, 60));
  EXPECT_TRUE(b->ledger.Reserve("app", kShared, 30));
  EXPECT_TRUE(b->ledger.Reserve("app", monthly, 1'000));
}

// A node that died had taken a portion: it stays taken, and no more than that.
TEST_P(SharedBudgetTest, NodeThatDiesTakesItsPortionAlong) {
  {
    const auto dead = Start();
    ASSERT_TRUE(dead->ledger.Reserve("app", kShared, 1));
  }
  const auto b = Start();
  int64_t granted = 0;
  std::vector<BudgetReservation> held;
  while (auto reserved = b->ledger.Reserve("app", kShared, 1)) {
    held.push_back(*std::move(reserved));
    ++granted;
  }
  EXPECT_GE(granted, 1'000 - 1'000 / 16 - 1);
  EXPECT_LT(granted, 1'000);
}

}  // namespace
}  // namespace tandem::gateway::auth
