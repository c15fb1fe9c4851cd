#include "gateway/router/record.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "gateway/router/decide.h"

namespace tandem::gateway {
namespace {

Strategy ThreeTiers() {
  Strategy strategy{.name = "three-tier"};
  strategy.targets = {
      {.id = "small",
       .model = "phi-4-mini",
       .aliases = {"phi-4-mini-int4"},
       .tier = Tier::kDeviceSmall,
       .context_tokens = 4096},
      {.id = "large", .model = "mimo-7b-int4", .tier = Tier::kDeviceLarge, .context_tokens = 8192},
      {.id = "cloud",
       .model = "deepseek-v3.2",
       .tier = Tier::kCloud,
       .input_usd_per_million = 0.28,
       .output_usd_per_million = 0.56}};
  strategy.rules = {{.name = "maths", .tasks = {TaskClass::kMathReasoning}, .targets = {"cloud"}},
                    {.name = "complex", .complex_reasoning = true, .targets = {"large"}},
                    {.name = "simple", .targets = {"small"}}};
  strategy.splits = {{"cloud", 0.125}};
  return strategy;
}

DecisionRecord RandomRecord(const Strategy& strategy, std::mt19937_64& random) {
  const auto chance = [&](double p) { return std::uniform_real_distribution<>()(random) < p; };
  const auto number = [&](double high) {
    return std::uniform_real_distribution<>(0, high)(random);
  };
  DecisionRecord record{.strategy = strategy.name, .strategy_digest = "d"};
  for (size_t i = 0; i < strategy.targets.size(); ++i) {
    TargetState state{.installed = chance(0.8),
                      .enabled = chance(0.9),
                      .breaker_open = chance(0.3),
                      .failure_share = number(1),
                      .cooling_down = chance(0.2),
                      .credential_rejected = chance(0.1),
                      .retry_after_s = chance(0.5) ? number(100) : 0,
                      .queue_full = chance(0.1)};
    if (chance(0.5)) state.memory_wanted_bytes = random() >> 20;
    if (chance(0.5)) state.memory_free_bytes = random() >> 20;
    if (chance(0.5)) state.network_ms = number(500);
    if (chance(0.5)) state.prefill_tokens_per_second = number(300);
    if (chance(0.5)) state.decode_tokens_per_second = number(50);
    record.states.push_back(state);
  }
  if (chance(0.5)) record.device.battery_share = number(1);
  record.device.hot = chance(0.2);
  record.key.cloud = chance(0.8);
  record.key.device = chance(0.8);
  if (chance(0.2)) record.key.models = {"phi-4-mini", "deepseek-v3.2"};
  if (chance(0.3)) record.key.budget_left_usd = number(0.01);
  RequestFacts& facts = record.facts;
  facts.model = chance(0.3) ? "phi-4-mini-int4" : "three-tier";
  facts.subject = "user-" + std::to_string(random() % 50);
  if (chance(0.3)) facts.mode = static_cast<Mode>(random() % 4);
  facts.privacy = static_cast<Privacy>(random() % 3);
  facts.task = static_cast<TaskClass>(random() % kTaskClassCount);
  facts.complex_reasoning = chance(0.3);
  facts.prompt_tokens = static_cast<int32_t>(random() % 9000);
  if (chance(0.3)) facts.max_ttft_ms = number(1000);
  if (chance(0.3)) facts.max_cost_usd = number(0.01);
  if (chance(0.2)) facts.pinned_target = "large";
  if (chance(0.3)) {
    facts.canary_target = "large";
    facts.canary_baseline = "small";
    facts.canary_assigned = chance(0.5);
  }
  if (chance(0.3)) {
    record.cascade = CascadeNote{.targets = {"small"}, .tokens = 28, .hold_ms = 400};
    (chance(0.5) ? record.cascade->min_probability : record.cascade->min_mean_logprob) = 0.75;
  }
  RoundFigures(&record);
  record.decision = Decide(strategy, record.states, record.device, record.key, facts);
  return record;
}

TEST(DecisionRecordTest, EveryDecisionIsMadeAgainFromItsText) {
  const Strategy strategy = ThreeTiers();
  const Strategy stored = ParseStrategyJson(StrategyJson(strategy)).value();
  std::mt19937_64 random(7);
  for (int i = 0; i < 2000; ++i) {
    const DecisionRecord record = RandomRecord(strategy, random);
    const std::string text = DecisionRecordJson(record);
    const auto parsed = ParseDecisionRecord(text);
    ASSERT_TRUE(parsed) << parsed.error().message;
    const auto again = ReplayDecision(stored, *parsed);
    ASSERT_TRUE(again) << again.error().message;
  }
}

TEST(DecisionRecordTest, AnyTextAndAnyFigureComesBack) {
  const Strategy strategy = ThreeTiers();
  std::mt19937_64 random(10);
  DecisionRecord record = RandomRecord(strategy, random);
  record.facts.model = "a\"b\\c\n\t\x01\x7f/\xc3\xa9\xe0\xb8\x81";
  record.task_reason = "";
  record.facts.max_ttft_ms = 1e-7;
  record.facts.max_cost_usd = 123456e30;
  record.states[0].memory_free_bytes = std::numeric_limits<uint64_t>::max();
  record.decision.failure = FailureCode::kRateLimited;
  const auto parsed = ParseDecisionRecord(DecisionRecordJson(record));
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->facts.model, record.facts.model);
  EXPECT_EQ(parsed->facts.max_ttft_ms, record.facts.max_ttft_ms);
  EXPECT_EQ(parsed->facts.max_cost_usd, record.facts.max_cost_usd);
  EXPECT_EQ(parsed->states[0].memory_free_bytes, record.states[0].memory_free_bytes);
  EXPECT_EQ(parsed->decision.failure, record.decision.failure);
}

TEST(DecisionRecordTest, ReplayFindsADecisionThatWasChanged) {
  const Strategy strategy = ThreeTiers();
  std::mt19937_64 random(8);
  DecisionRecord record = RandomRecord(strategy, random);
  record.decision.mode =
      record.decision.mode == Mode::kOnlyInCloud ? Mode::kPreferInCloud : Mode::kOnlyInCloud;
  EXPECT_EQ(ReplayDecision(strategy, record).error().code, ErrorCode::kInternal);
  record.strategy = "another";
  EXPECT_EQ(ReplayDecision(strategy, record).error().code, ErrorCode::kCorrupt);
}

TEST(DecisionRecordTest, EveryTruncationIsAnError) {
  const Strategy strategy = ThreeTiers();
  std::mt19937_64 random(9);
  const std::string text = DecisionRecordJson(RandomRecord(strategy, random));
  for (size_t n = 0; n < text.size(); ++n) {
    ASSERT_EQ(ParseDecisionRecord(text.substr(0, n)).error().code, ErrorCode::kCorrupt);
  }
  EXPECT_EQ(ParseDecisionRecord("[]").error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(ParseDecisionRecord(R"({"format":1})").error().code, ErrorCode::kCorrupt);
}

TEST(CanaryRouteTest, StandsBeforeItsBaselineForAssignedSubjectsOnly) {
  const Strategy strategy = ThreeTiers();
  const std::vector<TargetState> states(3);
  RequestFacts facts{.model = "three-tier", .subject = "s"};
  facts.canary_target = "large";
  facts.canary_baseline = "small";
  const auto order = [&] {
    std::string text;
    for (const Candidate& c : Decide({.name = "x",
                                      .targets = strategy.targets,
                                      .rules = {{.name = "simple", .targets = {"small"}}}},
                                     states, {}, {}, facts)
                                  .candidates) {
      text += c.target + ":" + c.reason + " ";
    }
    return text;
  };
  EXPECT_EQ(order(), "small:simple cloud:fallback ");
  facts.canary_assigned = true;
  EXPECT_EQ(order(), "large:canary small:fallback cloud:fallback ");
  facts.model = "mimo-7b-int4";  // by name it answers everybody
  facts.canary_assigned = false;
  EXPECT_EQ(order(), "large:explicit_model small:fallback cloud:fallback ");
}

}  // namespace
}  // namespace tandem::gateway
