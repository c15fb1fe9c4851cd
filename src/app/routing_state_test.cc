#include "app/routing_state.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gateway/dispatch/canary_control.h"
#include "store/testing/test_databases.h"

namespace tandem::app {
namespace {

using gateway::Canary;
using gateway::dispatch::CanaryControl;
using gateway::dispatch::CanaryPlan;
using gateway::dispatch::CanaryStatus;
using gateway::dispatch::StoredCanary;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

CanaryPlan Plan() {
  // Every field another than its default.
  return {.options = {.id = "c",
                      .steps = {0.25, 0.5, 1.0},
                      .min_step_time = seconds(10),
                      .bake_time = seconds(20),
                      .max_step_factor = 4,
                      .step_time = seconds(40),
                      .alpha = 0.04,
                      .worse_ratio = {1.2, 1.3, 1.4},
                      .min_samples = {10, 20, 30},
                      .min_error_samples = 15,
                      .failures_in_a_row = 6},
          .target = "new",
          .baseline = "old",
          .strategy = "s"};
}

class RoutingStateTest : public store::DatabaseTestOf {
 protected:
  struct Node {
    std::unique_ptr<store::Database> database;
    std::unique_ptr<SqlCanaryStore> store;
    std::vector<std::string> audit;
    std::unique_ptr<CanaryControl> control;
  };
  // As another process would.
  std::unique_ptr<Node> Start(const std::string& name) {
    auto node = std::make_unique<Node>();
    node->database = Open();
    const Status migrated = MigrateRoutingState(node->database.get());
    EXPECT_TRUE(migrated) << migrated.error().message;
    node->store = std::make_unique<SqlCanaryStore>(node->database.get());
    node->control = std::make_unique<CanaryControl>(
        &clock_,
        [audit = &node->audit](std::string_view action, std::string_view, const CanaryStatus&) {
          audit->emplace_back(action);
        },
        node->store.get(), name);
    return node;
  }
  static void Record(Node& node, int n) {
    for (int i = 0; i < n; ++i) {
      for (const bool canary : {false, true}) {
        node.control->Record({.canary = canary, .ttft_ms = 100, .ms_per_token = 20});
      }
    }
  }

  FakeClock clock_;
};
INSTANTIATE_TEST_SUITE_P(Databases, RoutingStateTest, store::AllDatabases(), store::DatabaseName);

TEST_P(RoutingStateTest, RolloutComesBackAsItWentAndOnlyTheNextVersionReplacesIt) {
  const auto node = Start("a");
  EXPECT_EQ(node->store->Read().value(), std::nullopt);
  StoredCanary stored{.version = 1,
                      .epoch = 1,
                      .plan = Plan(),
                      .position = {Canary::State::kHeld, 1, clock_.SystemNow()},
                      .last_reason = "p99 of ttft_ms: 'ä'"};
  EXPECT_EQ(node->store->Replace(stored), true);
  EXPECT_EQ(node->store->Read().value(), stored);
  EXPECT_EQ(node->store->Replace(stored), false);
  stored.version = 3;
  EXPECT_EQ(node->store->Replace(stored), false);
  stored.version = 2;
  stored.position.state = Canary::State::kRolledBack;
  EXPECT_EQ(node->store->Replace(stored), true);
  EXPECT_EQ(Start("b")->store->Read().value(), stored);
}

TEST_P(RoutingStateTest, FiguresAreOfTheEpochInForce) {
  const auto node = Start("a");
  ASSERT_EQ(node->store->Replace({.version = 1, .epoch = 1, .plan = Plan()}), true);
  ASSERT_TRUE(node->store->Publish(1, "a", std::string("\0x", 2)));
  ASSERT_TRUE(node->store->Publish(1, "b", "y"));
  ASSERT_TRUE(node->store->Publish(1, "b", "z"));
  ASSERT_TRUE(node->store->Publish(2, "a", "too early"));
  EXPECT_THAT(node->store->Figures(1).value(), UnorderedElementsAre(std::string("\0x", 2), "z"));
  ASSERT_EQ(node->store->Replace({.version = 2, .epoch = 2, .plan = Plan()}), true);
  ASSERT_TRUE(node->store->Publish(1, "a", "too late"));
  EXPECT_THAT(node->store->Figures(1).value(), IsEmpty());
  EXPECT_THAT(node->store->Figures(2).value(), IsEmpty());
}

TEST_P(RoutingStateTest, RowThatIsNoneIsCorrupt) {
  const auto node = Start("a");
  ASSERT_EQ(node->store->Replace({.version = 1, .epoch = 1, .plan = Plan()}), true);
  ASSERT_TRUE(node->database->Execute("UPDATE rollout SET plan = '{}'"));
  EXPECT_EQ(node->store->Read().error().code, ErrorCode::kCorrupt);
}

TEST_P(RoutingStateTest, StrategiesAreFoundAfterARestart) {
  {
    const auto node = Start("a");
    SqlStrategyArchive archive(node->database.get(), &clock_);
    ASSERT_TRUE(archive.Keep("d1", "{\"name\":\"ä\"}"));
    ASSERT_TRUE(archive.Keep("d1", "{\"name\":\"ä\"}"));
    EXPECT_EQ(archive.Find("d2").value(), std::nullopt);
  }
  const auto node = Start("a");
  SqlStrategyArchive archive(node->database.get(), &clock_);
  EXPECT_EQ(archive.Find("d1").value(), "{\"name\":\"ä\"}");
  for (int i = 0; i < SqlStrategyArchive::kMaxKept; ++i) {
    if (i == 1) clock_.Advance(seconds(1));
    ASSERT_TRUE(archive.Keep("n" + std::to_string(i), "{}"));
  }
  EXPECT_EQ(archive.Find("d1").value(), std::nullopt) << "the oldest goes";
  EXPECT_EQ(archive.Find("n0").value(), "{}");
}

// Neither node has enough samples by itself; the decision is one, and both follow it. When the node
// that decides is gone, the other one does.
TEST_P(RoutingStateTest, TwoNodesAreJudgedByTheirSumAndEitherMayDecide) {
  if (!postgres()) GTEST_SKIP() << "a file is for one node";
  auto a = Start("a");
  const auto b = Start("b");
  ASSERT_TRUE(a->control->Start(Plan(), "ops"));
  ASSERT_TRUE(a->control->Sync());
  ASSERT_TRUE(b->control->Sync());
  EXPECT_TRUE(a->control->Read()->decides);
  EXPECT_FALSE(b->control->Read()->decides);
  // The plan asks for 30 of the canary, but a baseline's p99 wants ten samples beyond it, so 1,000.
  const auto grow = [&](Node& node) {
    Record(node, 600);
    ASSERT_TRUE(node.control->Sync());
  };
  clock_.Advance(seconds(11));
  grow(*a);
  EXPECT_EQ(a->control->Read()->step, 0) << "one node alone has too few";
  grow(*b);
  EXPECT_EQ(b->control->Read()->step, 0) << "it is not the one that decides";
  ASSERT_TRUE(a->control->Sync());
  ASSERT_TRUE(b->control->Sync());
  EXPECT_EQ(a->control->Read()->step, 1);
  EXPECT_EQ(b->control->Read()->step, 1);
  EXPECT_THAT(a->audit, ElementsAre("CANARY_START", "CANARY_STEP"));
  EXPECT_THAT(b->audit, IsEmpty());

  clock_.Advance(seconds(11));
  grow(*a);
  EXPECT_EQ(a->control->Read()->step, 1) << "what was seen in the step before does not count";
  a.reset();  // what it saw stays
  grow(*b);
  EXPECT_TRUE(b->control->Read()->decides);
  EXPECT_EQ(b->control->Read()->step, 2);
  EXPECT_THAT(b->audit, ElementsAre("CANARY_STEP"));
}

}  // namespace
}  // namespace tandem::app
