#include "gateway/router/policy.h"

#include <gtest/gtest.h>

namespace tandem::gateway {
namespace {

TEST(PolicyTest, NamesRoundTripAndUnknownOnesListWhatThereIs) {
  EXPECT_EQ(ModeName(Mode::kOnlyOnDevice), "ONLY_ON_DEVICE");
  EXPECT_EQ(ParseMode("PREFER_IN_CLOUD").value(), Mode::kPreferInCloud);
  const auto unknown = ParseMode("NEVER");
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().message,
            "unknown mode 'NEVER'; use one of PREFER_ON_DEVICE, ONLY_ON_DEVICE, PREFER_IN_CLOUD, "
            "ONLY_IN_CLOUD");
}

Strategy Valid() {
  Strategy strategy{.name = "s"};
  strategy.targets = {{.id = "a", .model = "m"}, {.id = "b", .model = "n"}};
  strategy.rules = {{.name = "r", .targets = {"b", "a"}}};
  strategy.splits = {{"a", 0.9}, {"b", 0.1}};
  return strategy;
}

TEST(PolicyTest, ValidationNamesTheFieldThatIsWrong) {
  EXPECT_TRUE(Validate(Valid()));
  const auto param = [](auto change) {
    Strategy strategy = Valid();
    change(strategy);
    const Status status = Validate(strategy);
    return status ? "" : status.error().param;
  };
  EXPECT_EQ(param([](Strategy& s) { s.targets.clear(); }), "targets");
  EXPECT_EQ(param([](Strategy& s) { s.targets[1].id = "a"; }), "targets[1].id");
  EXPECT_EQ(param([](Strategy& s) { s.targets[0].model = ""; }), "targets[0].model");
  EXPECT_EQ(param([](Strategy& s) { s.rules[0].targets = {"x"}; }), "rules[0].targets");
  EXPECT_EQ(param([](Strategy& s) { s.rules[0].targets = {}; }), "rules[0].targets");
  EXPECT_EQ(param([](Strategy& s) { s.splits[1].target = "x"; }), "splits[1].target");
  EXPECT_EQ(param([](Strategy& s) { s.splits[1].share = -0.1; }), "splits[1].share");
  EXPECT_EQ(param([](Strategy& s) { s.splits[1].share = 0.2; }), "splits");
}

}  // namespace
}  // namespace tandem::gateway
