// The wire contract's deployment configuration.
#include <string>
#include <string_view>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "app/configuration.h"
#include "os/file.h"

namespace tandem::app {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;

Result<Configuration> Parse(std::string_view text) { return ParseConfiguration(text, "c.json"); }

std::string ErrorOf(std::string_view text) {
  const auto parsed = Parse(text);
  return parsed ? "valid" : parsed.error().message;
}

TEST(ContractConfigurationTest, TheShippedExampleIsWhatTheContractSays) {
  const auto loaded =
      LoadConfiguration(std::filesystem::path(TANDEM_SOURCE_DIR) / "config/migration.json");
  ASSERT_TRUE(loaded) << loaded.error().message;
  ASSERT_EQ(loaded->strategies.size(), 1u);
  const StrategySettings& strategy = loaded->strategies[0];
  EXPECT_EQ(strategy.name, "deployment");
  ASSERT_EQ(strategy.targets.size(), 2u);
  EXPECT_EQ(strategy.targets[0].target.id, "primary");
  EXPECT_EQ(strategy.targets[0].target.model, "mimo-7b-int4");
  EXPECT_THAT(strategy.targets[0].target.aliases, ElementsAre("mimo-7b"));
  EXPECT_EQ(strategy.targets[0].target.tier, gateway::Tier::kDeviceLarge);
  EXPECT_EQ(strategy.targets[0].total_timeout, milliseconds(5000));
  EXPECT_EQ(strategy.targets[1].target.id, "fallback");
  EXPECT_EQ(strategy.targets[1].target.model, "deepseek-v3.2");
  EXPECT_EQ(strategy.targets[1].target.tier, gateway::Tier::kCloud);
  EXPECT_EQ(strategy.targets[1].total_timeout, milliseconds(8000));
  ASSERT_EQ(strategy.splits.size(), 2u);
  EXPECT_EQ(strategy.splits[0].target, "primary");
  EXPECT_DOUBLE_EQ(strategy.splits[0].share, 0.9);
  EXPECT_EQ(strategy.splits[1].target, "fallback");
  EXPECT_DOUBLE_EQ(strategy.splits[1].share, 0.1);
  EXPECT_EQ(loaded->breaker.error_threshold, 0.05);
  EXPECT_EQ(loaded->breaker.recovery_timeout, milliseconds(60'000));
  // The shipped upstream of that model and URL knows the provider's habits.
  ASSERT_EQ(loaded->upstreams.size(), 1u);
  EXPECT_EQ(loaded->upstreams[0].kind, "deepseek");
}

TEST(ContractConfigurationTest, OriginsAreTheJsonsLines) {
  const auto parsed = Parse(
      "{\"primary\": {\"model\": \"demo\",\n \"traffic_percentage\": 5},\n"
      "\"fallback\": {\"model\": \"big\",\n \"base_url\": \"https://a/v1\"},\n"
      "\"circuit_breaker\": {\n\"error_threshold\": 0.2}}");
  ASSERT_TRUE(parsed) << parsed.error().message;
  const auto origin = [&](std::string_view path) {
    const auto found = parsed->origins.find(path);
    return found == parsed->origins.end() ? "default" : FormatOrigin(found->second);
  };
  EXPECT_EQ(origin("strategy[0].target[0].model"), "c.json:1");
  EXPECT_EQ(origin("strategy[0].split[0].share"), "c.json:2");
  EXPECT_EQ(origin("strategy[0].target[1].tier"), "c.json:3");
  EXPECT_EQ(origin("upstream[0].base_url"), "c.json:4");
  EXPECT_EQ(origin("breaker.error_threshold"), "c.json:6");
  EXPECT_EQ(origin("breaker.recovery_timeout_s"), "default");
}

TEST(ContractConfigurationTest, WhichTierATargetIs) {
  const auto tier = [](std::string_view target) -> std::string {
    const auto parsed = Parse("{\"primary\": {" + std::string(target) + "}}");
    if (!parsed) return parsed.error().message;
    const TargetSettings& settings = parsed->strategies[0].targets[0];
    return std::string(gateway::TierName(settings.target.tier)) +
           (parsed->upstreams.empty() ? "" : " " + parsed->upstreams[0].base_url);
  };
  EXPECT_EQ(tier(R"("model": "phi-4-mini")"), "device_small");
  EXPECT_EQ(tier(R"("model": "phi-4-mini-int4", "base_url": "local")"), "device_small");
  EXPECT_EQ(tier(R"("model": "mimo-7b")"), "device_large");
  // The clients' old base_url stays in their files when the model moves to the device.
  EXPECT_EQ(tier(R"("model": "mimo-7b-int4", "base_url": "https://hosted/v1")"), "device_large");
  EXPECT_EQ(tier(R"("model": "demo")"), "device_small");
  EXPECT_EQ(tier(R"("model": "own", "base_url": "local")"), "device_small");
  EXPECT_EQ(tier(R"("model": "own")"), "device_small");
  EXPECT_EQ(tier(R"("model": "own", "base_url": "https://a/v1")"), "cloud https://a/v1");
  EXPECT_EQ(tier(R"("model": "deepseek-v3.2")"), "cloud https://api.deepseek.com/v1");
  EXPECT_EQ(tier(R"("model": "deepseek-v3.2", "base_url": "https://a/v1")"), "cloud https://a/v1");
}

TEST(ContractConfigurationTest, TheSameModelAtTwoPlaces) {
  // Target and upstream of either, clients' name for both.
  const auto targets = [](std::string_view text) {
    const auto parsed = Parse(text);
    std::vector<std::string> list;
    if (!parsed) return std::vector{parsed.error().message};
    for (const TargetSettings& settings : parsed->strategies[0].targets) {
      const UpstreamSettings* upstream = parsed->FindUpstream(settings.UpstreamName());
      list.push_back(std::string(gateway::TierName(settings.target.tier)) + " " +
                     settings.target.model);
      for (const std::string& alias : settings.target.aliases) list.back() += " = " + alias;
      if (upstream) list.back() += " at " + upstream->base_url + " as " + upstream->upstream_model;
    }
    return list;
  };
  EXPECT_THAT(
      targets(
          R"({"primary": {"model": "m", "base_url": "https://new/v1", "traffic_percentage": 5},
              "fallback": {"model": "m", "base_url": "https://old/v1", "traffic_percentage": 95}})"),
      ElementsAre("cloud m at https://new/v1 as ", "cloud m-fallback = m at https://old/v1 as m"));
  // From the hosted service to the device.
  EXPECT_THAT(
      targets(R"({"primary": {"model": "mimo-7b", "base_url": "local", "traffic_percentage": 5},
                  "fallback": {"model": "mimo-7b-int4", "base_url": "https://hosted/v1"}})"),
      ElementsAre("device_large mimo-7b = mimo-7b-int4",
                  "cloud mimo-7b-int4-fallback = mimo-7b-int4 at https://hosted/v1 as "
                  "mimo-7b-int4"));
  // The shipped upstream's URL behind another one for its model.
  EXPECT_THAT(
      targets(R"({"primary": {"model": "deepseek-v3.2", "base_url": "https://mine/v1"},
                  "fallback": {"model": "deepseek-v3.2"}})"),
      ElementsAre("cloud deepseek-v3.2 at https://mine/v1 as ",
                  "cloud deepseek-v3.2-fallback = deepseek-v3.2 at https://api.deepseek.com/v1 as "
                  "deepseek-flash"));
  EXPECT_THAT(ErrorOf(R"({"primary": {"model": "demo"}, "fallback": {"model": "demo"}})"),
              HasSubstr("c.json:1:54: fallback.model: is the primary's model on the same device"));
  EXPECT_THAT(ErrorOf(R"({"primary": {"model": "m", "base_url": "https://a/v1"},
"fallback": {"model": "m", "base_url": "https://a/v1"}})"),
              HasSubstr("c.json:2:23: fallback.model: is the primary's model at the same place"));
}

TEST(ContractConfigurationTest, PercentagesMakeAHundred) {
  const auto with = [](std::string_view primary, std::string_view fallback) {
    return "{\"primary\": {\"model\": \"demo\"" + std::string(primary) +
           "},\n\"fallback\": {\"model\": \"m\", \"base_url\": \"https://a/v1\"" +
           std::string(fallback) + "}}";
  };
  EXPECT_EQ(ErrorOf(with(", \"traffic_percentage\": 90", ", \"traffic_percentage\": 20")),
            "c.json:2:78: fallback.traffic_percentage: 20 and the primary's 90 make 110, not 100; "
            "write 10 here, or 80 there");
  EXPECT_EQ(ErrorOf(with(", \"traffic_percentage\": 33.3", ", \"traffic_percentage\": 66.7")),
            "valid");
  const auto shares = [&](std::string_view primary, std::string_view fallback) {
    const auto parsed = Parse(with(primary, fallback));
    const auto& splits = parsed->strategies[0].splits;
    return std::pair(splits[0].share, splits[1].share);
  };
  EXPECT_EQ(shares("", ""), std::pair(1.0, 0.0));
  EXPECT_EQ(shares(", \"traffic_percentage\": 75", ""), std::pair(0.75, 0.25));
  EXPECT_EQ(shares("", ", \"traffic_percentage\": 75"), std::pair(0.25, 0.75));
  EXPECT_THAT(ErrorOf(R"({"primary": {"model": "demo", "traffic_percentage": 90}})"),
              HasSubstr("primary.traffic_percentage: must be 100 where there is no fallback"));
}

TEST(ContractConfigurationTest, MistakesNameLineAndField) {
  EXPECT_EQ(ErrorOf("{\"fallback\": {\"model\": \"m\"}}").substr(0, 40),
            "c.json:1:1: 'primary' is missing; write ");
  EXPECT_EQ(ErrorOf("{\"primary\": {\n\"modell\": \"m\",\n \"timeout_ms\": 0,\n"
                    "\"traffic_percentage\": 101}}"),
            "c.json:1:13: primary: 'model' is missing; write model = \"mimo-7b-int4\"\n"
            "c.json:2:1: primary: unknown key 'modell'; did you mean 'model'?\n"
            "c.json:3:16: primary.timeout_ms: must be a whole number from 1 to 86400000, not 0\n"
            "c.json:4:23: primary.traffic_percentage: must be a number from 0 to 100, not 101");
  EXPECT_EQ(ErrorOf("{\"primary\": {\"model\": \"m\",\n \"base_url\": \"http://a.example/v1\"}}"),
            "c.json:2:14: primary.base_url: http:// would send the key and every text in the clear;"
            " use https://");
  EXPECT_EQ(ErrorOf("{\"primary\": {\"model\": \"demo\"},\n"
                    "\"circuit_breaker\": {\"error_threshold\": 5}}"),
            "c.json:2:40: circuit_breaker.error_threshold: must be a number from 0.0001 to 1, "
            "not 5");
  EXPECT_THAT(
      ErrorOf(R"({"primary": {"model": "m", "api_key": "sk-1"}})"),
      testing::AllOf(HasSubstr("c.json:1:28: primary.api_key: "), testing::Not(HasSubstr("sk-1"))));
  EXPECT_EQ(ErrorOf(R"({"primary": {"model": "demo"}, "server": {}})"),
            "c.json:1:32: unknown key 'server'");
}

TEST(ContractConfigurationTest, ALongRecoveryDoesNotExceedTheOneThatItDoublesTo) {
  const auto parsed = Parse(
      R"({"primary": {"model": "demo"}, "circuit_breaker": {"recovery_timeout_seconds": 900}})");
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->breaker.recovery_timeout, milliseconds(900'000));
  EXPECT_EQ(parsed->breaker.max_recovery, milliseconds(900'000));
}

}  // namespace
}  // namespace tandem::app
