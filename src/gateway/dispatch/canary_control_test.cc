#include "gateway/dispatch/canary_control.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace tandem::gateway::dispatch {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class CanaryControlTest : public ::testing::Test {
 protected:
  static CanaryPlan Plan() {
    return {.options = {.id = "mimo-2",
                        .steps = {0.05, 0.5, 1.0},
                        .min_step_time = seconds(300),
                        .bake_time = seconds(900),
                        .step_time = seconds(3600)},
            .target = "new",
            .baseline = "old"};
  }

  // Live traffic: 20 requests a second until the roll-out is no longer running, at most `limit`.
  void Run(seconds limit, double canary_ttft_ms, double canary_error_share) {
    std::mt19937_64 random(1);
    std::lognormal_distribution<> noise(0, 0.3);
    std::uniform_real_distribution<> share(0, 1);
    const SteadyTime end = clock_.Now() + limit;
    for (int64_t n = 0; clock_.Now() < end; ++n) {
      clock_.Advance(milliseconds(50));
      const auto assignment = control_.Assign("user-" + std::to_string(n % 5000));
      ASSERT_TRUE(assignment);
      const bool canary = assignment->assigned;
      control_.Record({.canary = canary,
                       .prompt_tokens = 100,
                       .error = share(random) < (canary ? canary_error_share : 0.002),
                       .ttft_ms = (canary ? canary_ttft_ms : 100) * noise(random),
                       .ms_per_token = 20 * noise(random)});
      if (n % 20 == 0) EXPECT_TRUE(control_.Sync());
      if (control_.Read()->state != Canary::State::kRunning) return;
    }
  }

  FakeClock clock_;
  std::vector<std::string> audit_;
  MemoryCanaryStore store_;
  CanaryControl control_{
      &clock_,
      [this](std::string_view action, std::string_view who, const CanaryStatus& status) {
        audit_.push_back(fmt::format("{} by {} share {}", action, who, status.share));
        EXPECT_TRUE(control_.Read()) << "must not deadlock";
      },
      &store_, "node-1"};
};

TEST_F(CanaryControlTest, EqualTargetIsPromotedStepByStep) {
  ASSERT_TRUE(control_.Start(Plan(), "ops"));
  Run(seconds(3 * 3600), 100, 0.002);
  EXPECT_EQ(control_.Read()->state, Canary::State::kPromoted);
  ASSERT_GE(audit_.size(), 4u);
  EXPECT_EQ(audit_.front(), "CANARY_START by ops share 0.05");
  EXPECT_EQ(audit_.back(), "CANARY_PROMOTE by tandem share 1");
  EXPECT_TRUE(control_.Assign("anybody")->assigned);
}

TEST_F(CanaryControlTest, SlowTargetIsRolledBackAndGetsNobody) {
  ASSERT_TRUE(control_.Start(Plan(), "ops"));
  Run(seconds(3 * 3600), 200, 0.002);
  EXPECT_EQ(control_.Read()->state, Canary::State::kRolledBack);
  for (int i = 0; i < 1000; ++i) {
    EXPECT_FALSE(control_.Assign("user-" + std::to_string(i))->assigned);
  }
}

TEST_F(CanaryControlTest, FiveFailuresInARowEndItWithinTheSameSecond) {
  ASSERT_TRUE(control_.Start(Plan(), "ops"));
  for (int i = 0; i < 5; ++i) control_.Record({.canary = true, .error = true});
  EXPECT_TRUE(control_.Sync());
  EXPECT_EQ(control_.Read()->state, Canary::State::kRolledBack);
}

TEST_F(CanaryControlTest, SilenceIsHeldNotPromoted) {
  ASSERT_TRUE(control_.Start(Plan(), "ops"));
  for (int i = 0; i < 4; ++i) {
    clock_.Advance(seconds(3600));
    control_.Record({.canary = false, .ttft_ms = 100, .ms_per_token = 20});
    EXPECT_TRUE(control_.Sync());
  }
  EXPECT_EQ(control_.Read()->state, Canary::State::kHeld);
}

TEST_F(CanaryControlTest, OrdersByHandAreCheckedAndAudited) {
  EXPECT_EQ(control_.Promote(false, "ops").error().code, ErrorCode::kNotFound);
  CanaryPlan wrong = Plan();
  wrong.baseline = wrong.target;
  EXPECT_EQ(control_.Start(wrong, "ops").error().code, ErrorCode::kInvalidArgument);
  ASSERT_TRUE(control_.Start(Plan(), "ops"));
  EXPECT_EQ(control_.Start(Plan(), "ops").error().code, ErrorCode::kFailedPrecondition);
  EXPECT_TRUE(control_.Hold("anna"));
  EXPECT_EQ(control_.Read()->state, Canary::State::kHeld);
  EXPECT_TRUE(control_.Promote(false, "anna"));
  EXPECT_EQ(control_.Read()->share, 0.5);
  EXPECT_TRUE(control_.RollBack("anna"));
  EXPECT_EQ(control_.Hold("anna").error().code, ErrorCode::kFailedPrecondition);
  EXPECT_EQ(audit_, (std::vector<std::string>{
                        "CANARY_START by ops share 0.05", "CANARY_HOLD by anna share 0.05",
                        "CANARY_STEP by anna share 0.5", "CANARY_ROLLBACK by anna share 0"}));
  EXPECT_TRUE(control_.Start(Plan(), "ops")) << "a new one may follow one that is over";
}

TEST_F(CanaryControlTest, WhatWasPromotedCanBeTakenBack) {
  ASSERT_TRUE(control_.Start(Plan(), "ops"));
  ASSERT_TRUE(control_.Promote(/*completely=*/true, "ops"));
  EXPECT_TRUE(control_.Assign("anybody")->assigned);
  ASSERT_TRUE(control_.RollBack("anna"));
  EXPECT_FALSE(control_.Assign("anybody")->assigned) << "the target before it answers again";
  EXPECT_EQ(audit_.back(), "CANARY_ROLLBACK by anna share 0");
  EXPECT_EQ(control_.RollBack("anna").error().code, ErrorCode::kFailedPrecondition);
}

// A node that starts finds the roll-out where it was, with the figures of before.
TEST_F(CanaryControlTest, GoesOnAfterARestart) {
  ASSERT_TRUE(control_.Start(Plan(), "ops"));
  ASSERT_TRUE(control_.Promote(false, "ops"));
  for (int i = 0; i < 7; ++i) control_.Record({.canary = true, .ttft_ms = 100});
  ASSERT_TRUE(control_.Sync());
  CanaryControl after(&clock_, {}, &store_, "node-1-again");
  const auto status = after.ReadAll().value();
  ASSERT_TRUE(status);
  EXPECT_EQ(status->plan, Plan());
  EXPECT_EQ(status->share, 0.5);
  EXPECT_EQ(status->canary.samples, 7u);
  EXPECT_EQ(after.Assign("u")->assigned, control_.Assign("u")->assigned);
  EXPECT_EQ(after.Start(Plan(), "ops").error().code, ErrorCode::kFailedPrecondition);
}

// Each node has half of the samples that a step needs.
TEST_F(CanaryControlTest, NodesAreJudgedByTheirSumAndFollowOneDecision) {
  std::vector<std::string> other_audit;
  CanaryControl other(
      &clock_,
      [&](std::string_view action, std::string_view, const CanaryStatus&) {
        other_audit.emplace_back(action);
      },
      &store_, "node-2");
  ASSERT_TRUE(control_.Start(Plan(), "ops"));
  ASSERT_TRUE(other.Sync());
  const auto record = [](CanaryControl& node, int n) {
    for (int i = 0; i < n; ++i) {
      for (const bool canary : {false, true}) {
        node.Record({.canary = canary, .ttft_ms = 100, .ms_per_token = 20});
      }
    }
  };
  record(control_, 600);
  clock_.Advance(seconds(301));
  ASSERT_TRUE(control_.Sync());
  EXPECT_EQ(control_.Read()->step, 0) << "one node alone has too few";
  record(other, 600);
  ASSERT_TRUE(other.Sync());
  EXPECT_EQ(other.Read()->step, 1);
  ASSERT_TRUE(control_.Sync());
  EXPECT_EQ(control_.Read()->step, 1);
  EXPECT_EQ(control_.Read()->version, other.Read()->version);
  EXPECT_EQ(control_.Read()->canary.samples, 0u) << "a step begins with none";
  EXPECT_EQ(other_audit, std::vector<std::string>{"CANARY_STEP"});
  EXPECT_EQ(audit_, std::vector<std::string>{"CANARY_START by ops share 0.05"});
  ASSERT_TRUE(control_.Sync());
  EXPECT_EQ(control_.Read()->step, 1);
}

TEST_F(CanaryControlTest, LostStoreLeavesTheStateAndSaysSo) {
  ASSERT_TRUE(control_.Start(Plan(), "ops"));
  const auto assigned = control_.Assign("u")->assigned;
  for (int i = 0; i < 9; ++i) control_.Record({.canary = true, .error = true});
  store_.FailWith(Error{ErrorCode::kUnavailable, "gone", {}});
  EXPECT_EQ(control_.Sync().error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(control_.Promote(false, "ops").error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(control_.Read()->state, Canary::State::kRunning);
  EXPECT_EQ(control_.Read()->store_lost, "gone");
  EXPECT_EQ(control_.Assign("u")->assigned, assigned);
  EXPECT_EQ(control_.ReadAll().value()->store_lost, "gone");
  store_.FailWith(std::nullopt);
  EXPECT_TRUE(control_.Sync());
  EXPECT_EQ(control_.Read()->state, Canary::State::kRolledBack);
  EXPECT_EQ(control_.Read()->store_lost, "");
}

}  // namespace
}  // namespace tandem::gateway::dispatch
