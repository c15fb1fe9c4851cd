#include "gateway/router/decide.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::gateway {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// The wire contract's three tiers.
class DecideTest : public testing::Test {
 protected:
  DecideTest() {
    strategy_.name = "three-tier";
    strategy_.targets = {
        {.id = "small",
         .model = "phi-4-mini",
         .aliases = {"phi-4-mini-int4"},
         .tier = Tier::kDeviceSmall,
         .context_tokens = 4096,
         .tools = false},
        {.id = "large", .model = "mimo-7b", .tier = Tier::kDeviceLarge, .context_tokens = 4096},
        {.id = "cloud",
         .model = "deepseek-v3.2",
         .tier = Tier::kCloud,
         .context_tokens = 131072,
         .images = true,
         .input_usd_per_million = 0.28,
         .output_usd_per_million = 0.56},
    };
    strategy_.rules = {
        {.name = "high_quality", .require_high_quality = true, .targets = {"cloud", "large"}},
        {.name = "math_or_code",
         .tasks = {TaskClass::kMathReasoning, TaskClass::kCodeGeneration},
         .targets = {"cloud", "large", "small"}},
        {.name = "complex_reasoning",
         .complex_reasoning = true,
         .targets = {"large", "cloud", "small"}},
        {.name = "simple", .targets = {"small", "large", "cloud"}},
    };
    request_.model = "auto";
    request_.prompt_tokens = 100;
  }

  Decision Run() { return Decide(strategy_, states_, device_, key_, request_); }
  std::vector<std::string> Order() {
    std::vector<std::string> order;
    for (const Candidate& candidate : Run().candidates) order.push_back(candidate.target);
    return order;
  }
  std::string WhyNot(const std::string& target) {
    for (const Rejection& rejection : Run().rejections) {
      if (rejection.target == target) return rejection.reason;
    }
    return "";
  }

  Strategy strategy_;
  std::vector<TargetState> states_{3};
  DeviceState device_;
  KeyPolicy key_;
  RequestFacts request_;
};

TEST_F(DecideTest, TheFirstMatchingRuleOrdersTheTiers) {
  EXPECT_THAT(Order(), ElementsAre("small", "large", "cloud"));
  EXPECT_EQ(Run().candidates[0].reason, "simple");
  EXPECT_EQ(Run().candidates[1].reason, "fallback");
  request_.complex_reasoning = true;
  EXPECT_THAT(Order(), ElementsAre("large", "cloud", "small"));
  request_.task = TaskClass::kCodeGeneration;
  EXPECT_THAT(Order(), ElementsAre("cloud", "large", "small"));
  request_.require_high_quality = true;
  EXPECT_THAT(Order(), ElementsAre("cloud", "large", "small")) << "what no rule lists comes last";
  EXPECT_EQ(Run().candidates[0].reason, "high_quality");
}

TEST_F(DecideTest, AnExplicitModelComesFirstAndMayFallBack) {
  request_.model = "mimo-7b";
  EXPECT_THAT(Order(), ElementsAre("large", "small", "cloud"));
  EXPECT_EQ(Run().candidates[0].reason, "explicit_model");
  request_.model = "phi-4-mini-int4";
  EXPECT_EQ(Order()[0], "small") << "an alias counts";
  strategy_.fall_back_from_explicit_model = false;
  EXPECT_THAT(Order(), ElementsAre("small"));
  EXPECT_EQ(WhyNot("cloud"), "other_model");
}

TEST_F(DecideTest, TheStrictestPrivacyWinsWhereverItComesFrom) {
  for (int source = 0; source < 4; ++source) {
    request_.privacy = source == 0 ? Privacy::kOnDevice : Privacy::kAny;
    request_.conversation_privacy = source == 1 ? Privacy::kOnDevice : Privacy::kAny;
    key_.privacy = source == 2 ? Privacy::kOnDevice : Privacy::kAny;
    strategy_.targets[2].privacy = source == 3 ? Privacy::kOnDevice : Privacy::kAny;
    EXPECT_THAT(Order(), ElementsAre("small", "large")) << source;
    EXPECT_EQ(WhyNot("cloud"), "privacy") << source;
  }
}

TEST_F(DecideTest, APrivateRequestThatTheDeviceCannotServeIsRefusedAndSaysWhatWouldHelp) {
  request_.privacy = Privacy::kOnDevice;
  states_[0].installed = false;
  states_[1].memory_wanted_bytes = 4'000'000'000;
  states_[1].memory_free_bytes = 1'000'000'000;
  const Decision decision = Run();
  EXPECT_TRUE(decision.candidates.empty());
  EXPECT_EQ(decision.failure, FailureCode::kPrivacyRefused);
  EXPECT_THAT(decision.failure_message, HasSubstr("tandem pull phi-4-mini"));
  EXPECT_THAT(decision.failure_message,
              HasSubstr("needs 4000000000 bytes and 1000000000 are free"));
}

TEST_F(DecideTest, RedactionAppliesToCloudCandidatesOnly) {
  request_.privacy = Privacy::kRedacted;
  for (const Candidate& candidate : Run().candidates) {
    EXPECT_EQ(candidate.redact, candidate.target == "cloud");
  }
}

TEST_F(DecideTest, ModesKeepOrMoveWholeGroups) {
  request_.mode = Mode::kOnlyOnDevice;
  EXPECT_THAT(Order(), ElementsAre("small", "large"));
  request_.mode = Mode::kOnlyInCloud;
  EXPECT_THAT(Order(), ElementsAre("cloud"));
  request_.mode = Mode::kPreferInCloud;
  EXPECT_THAT(Order(), ElementsAre("cloud", "small", "large"));
}

TEST_F(DecideTest, OnlyOnDeviceWithoutMemoryIsOutOfMemoryNotASilentCloudCall) {
  request_.mode = Mode::kOnlyOnDevice;
  for (TargetState& state : states_) {
    state.memory_wanted_bytes = 10;
    state.memory_free_bytes = 9;
  }
  EXPECT_EQ(Run().failure, FailureCode::kOutOfMemory);
  states_[0].installed = states_[1].installed = false;
  EXPECT_EQ(Run().failure, FailureCode::kModelNotInstalled);
}

TEST_F(DecideTest, AKeyLimitsModelsAndTiers) {
  key_.models = {"mimo-7b"};
  EXPECT_THAT(Order(), ElementsAre("large"));
  key_ = {.device = false};
  EXPECT_THAT(Order(), ElementsAre("cloud"));
  key_ = {.cloud = false};
  EXPECT_THAT(Order(), ElementsAre("small", "large"));
  request_.mode = Mode::kOnlyInCloud;
  EXPECT_EQ(Run().failure, FailureCode::kPermissionDenied);
}

TEST_F(DecideTest, HardFactsRemoveATarget) {
  request_.needs_tools = true;
  EXPECT_EQ(WhyNot("small"), "no_tools");
  request_.needs_images = true;
  EXPECT_EQ(WhyNot("large"), "no_images");
  EXPECT_THAT(Order(), ElementsAre("cloud"));
  request_.needs_tools = request_.needs_images = false;
  request_.prompt_tokens = 5000;
  EXPECT_EQ(WhyNot("small"), "context");
  EXPECT_THAT(Order(), ElementsAre("cloud"));
  request_.prompt_tokens = 100;
  states_[0].enabled = false;
  states_[1].queue_full = true;
  states_[2].credential_rejected = true;
  EXPECT_EQ(WhyNot("small"), "disabled");
  EXPECT_EQ(WhyNot("large"), "queue_full");
  EXPECT_EQ(WhyNot("cloud"), "credential");
}

TEST_F(DecideTest, ALowBatterySparesTheDeviceUnlessTheRequestMustStayThere) {
  device_.battery_share = 0.05;
  EXPECT_THAT(Order(), ElementsAre("cloud"));
  EXPECT_EQ(WhyNot("small"), "battery");
  request_.privacy = Privacy::kOnDevice;
  EXPECT_THAT(Order(), ElementsAre("small", "large"));
  device_ = {.hot = true};
  request_.privacy = Privacy::kAny;
  EXPECT_EQ(WhyNot("small"), "hot");
}

TEST_F(DecideTest, PredictionsAreCheckedAgainstTheRequestsLimits) {
  states_[0] = {.queue_ms = 50, .prefill_tokens_per_second = 100, .decode_tokens_per_second = 10};
  states_[2] = {.network_ms = 400, .decode_tokens_per_second = 100};
  request_.answer_tokens = 20;
  const Decision decision = Run();
  EXPECT_DOUBLE_EQ(decision.candidates[0].predicted_ttft_ms.value(), 50 + 1000);
  EXPECT_DOUBLE_EQ(decision.candidates[0].predicted_e2e_ms.value(), 1050 + 2000);
  EXPECT_FALSE(decision.candidates[1].predicted_ttft_ms) << "unknown stays unknown";
  EXPECT_DOUBLE_EQ(decision.candidates[2].predicted_cost_usd, (100 * 0.28 + 20 * 0.56) / 1e6);
  request_.max_ttft_ms = 1000;
  EXPECT_EQ(WhyNot("small"), "max_ttft");
  request_.max_ttft_ms = {};
  request_.max_latency_ms = 3000;
  EXPECT_EQ(WhyNot("small"), "max_latency");
  request_.max_cost_usd = 1e-9;
  EXPECT_EQ(WhyNot("cloud"), "max_cost");
  request_.max_cost_usd = {};
  key_.budget_left_usd = 1e-9;
  EXPECT_EQ(WhyNot("cloud"), "key_budget");
}

TEST_F(DecideTest, ABudgetThatCoversNobodyIsNoPermissionAndNoFault) {
  request_.mode = Mode::kOnlyInCloud;
  EXPECT_FALSE(Run().failure) << "somebody can answer";
  key_.budget_left_usd = 1e-9;
  EXPECT_EQ(Run().failure, FailureCode::kBudgetExceeded);
  key_.budget_left_usd = {};
  request_.max_cost_usd = 1e-9;
  EXPECT_EQ(Run().failure, FailureCode::kBudgetExceeded);
}

TEST_F(DecideTest, AnOpenBreakerIsSkippedAndACoolingTargetComesLast) {
  states_[0].breaker_open = true;
  EXPECT_THAT(Order(), ElementsAre("large", "cloud"));
  EXPECT_EQ(WhyNot("small"), "breaker_open");
  states_[0] = {.cooling_down = true};
  EXPECT_THAT(Order(), ElementsAre("large", "cloud", "small"));
}

TEST_F(DecideTest, WhenAllBreakersAreOpenTheLeastBadCloudIsTried) {
  strategy_.targets.push_back({.id = "cloud2", .model = "other", .tier = Tier::kCloud});
  states_.resize(4);
  for (TargetState& state : states_) state.breaker_open = true;
  states_[0].failure_share = 0.1;
  states_[2].failure_share = 0.9;
  states_[3].failure_share = 0.4;
  EXPECT_THAT(Order(), ElementsAre("cloud2"));
  EXPECT_EQ(Run().candidates[0].reason, "least_bad");
  request_.mode = Mode::kOnlyOnDevice;
  states_[1].failure_share = 0.2;
  EXPECT_THAT(Order(), ElementsAre("small"));
}

TEST_F(DecideTest, NothingLeftSaysWhenToTryAgain) {
  request_.mode = Mode::kOnlyInCloud;
  states_[2].credential_rejected = true;
  states_[2].retry_after_s = 7;
  const Decision decision = Run();
  EXPECT_EQ(decision.failure, FailureCode::kUnavailable);
  EXPECT_EQ(decision.retry_after_s, 7);
  EXPECT_THAT(decision.failure_message, HasSubstr("set another key"));
}

TEST_F(DecideTest, AConversationStaysWhereItIsUnlessQualityIsDemanded) {
  request_.pinned_target = "large";
  EXPECT_THAT(Order(), ElementsAre("large", "small", "cloud"));
  EXPECT_EQ(Run().candidates[0].reason, "pinned");
  request_.require_high_quality = true;
  EXPECT_EQ(Order()[0], "cloud");
  request_.require_high_quality = false;
  request_.pinned_target = "gone";
  EXPECT_EQ(Order()[0], "small");
}

TEST_F(DecideTest, ASplitTakesItsShareOfSubjectsAndKeepsThemWhenItGrows) {
  int at_five = 0;
  int at_fifty = 0;
  for (int i = 0; i < 4000; ++i) {
    request_.subject = "user-" + std::to_string(i);
    strategy_.splits = {{"cloud", 0.05}};
    const bool early = Order()[0] == "cloud";
    strategy_.splits = {{"cloud", 0.5}};
    const bool late = Order()[0] == "cloud";
    at_five += early;
    at_fifty += late;
    ASSERT_TRUE(!early || late) << "a subject left when the share grew";
  }
  EXPECT_NEAR(at_five, 200, 50);
  EXPECT_NEAR(at_fifty, 2000, 130);
}

TEST_F(DecideTest, TheSameFactsGiveTheSameDecision) {
  request_.subject = "s";
  strategy_.splits = {{"cloud", 0.5}};
  const auto first = Order();
  for (int i = 0; i < 10; ++i) EXPECT_EQ(Order(), first);
}

}  // namespace
}  // namespace tandem::gateway
