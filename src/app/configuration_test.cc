#include "app/configuration.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/file.h"
#include "os/testing/temp_dir.h"

namespace tandem::app {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

std::string ErrorOf(std::string_view text) {
  const auto parsed = ParseConfiguration(text, "t.toml");
  return parsed ? "valid" : parsed.error().message;
}

constexpr std::string_view kEverything = R"(
[server]
listen = "0.0.0.0:8080"
io_threads = 2
max_in_flight = 7
cors_allow_origin = "https://app.example"
drain_timeout_s = 1.5
memory_limit = "2.1GB"
context = 2048
threads = 3
kv_type = "f16"
keep_alive_s = 30
anonymous_pull = true
drivers = ["/opt/npu.so"]
speculation = "ngram"
huge_pages = "auto"

[[upstream]]
model = "big"
base_url = "https://api.example/v1"
upstream_model = "big-1"
kind = "deepseek"
api_key_env = "BIG_KEY"
connect_timeout_ms = 1
first_token_timeout_ms = 2
between_tokens_timeout_ms = 3
total_timeout_ms = 4

[[alias]]
name = "gpt"
model = "big"

[[strategy]]
name = "s"
mode = "PREFER_IN_CLOUD"
privacy = "redacted"
fall_back_from_explicit_model = false
min_battery_share = 0.2
hand_off = false
shadow_share = 0.25
deadline_ms = 9000

[[strategy.target]]
id = "here"
tier = "device_large"
model = "little"
aliases = ["l1", "l2"]
package = "hf.co/a/b"
context_tokens = 4096
tools = false
images = true
privacy = "on_device"
first_token_timeout_ms = 11
between_tokens_timeout_ms = 12
total_timeout_ms = 13
hold_tokens = 24
hold_ms = 400
hedge_after_ms = 300
continuation = "prompted"
max_retries = 1
slow_after_ms = 14

[[strategy.target]]
id = "there"
tier = "cloud"
model = "large"
upstream = "big"

[[strategy.rule]]
name = "r"
tasks = ["math_reasoning", "translation"]
complex_reasoning = true
require_high_quality = false
min_prompt_tokens = 100
targets = ["there", "here"]

[[strategy.split]]
target = "there"
share = 0.25

[breaker]
error_threshold = 0.1
recovery_timeout_s = 30
slow_threshold = 0.6
min_outcomes = 21
failures_in_a_row = 6
max_probes = 4
successes_to_close = 7
window_s = 61
slow_start_s = 31
max_recovery_s = 601

[canary]
id = "c"
strategy = "s"
target = "there"
baseline = "here"
steps = [0.1, 1]
min_step_time_s = 1
bake_time_s = 2
max_step_factor = 4
step_time_s = 5
alpha = 0.06
worse_ratio = [1.2, 1.3, 1.4]
min_samples = [10, 20, 30]
min_error_samples = 40
failures_in_a_row = 8

[store]
url = "postgresql://tandem@db.example/tandem?sslmode=verify-full"
password_env = "TANDEM_DB_PASSWORD"
busy_timeout_ms = 700
statement_timeout_ms = 800

[retry]
max_retries = 1
budget_share = 0.2
budget_burst = 5
budget_per_second = 0.5

[privacy]
default = "redacted"
names = ["Ada Lovelace", "李"]
receipts = "egress"
log_egress = true

[usage]
prices_file = "prices.toml"
retention_days = 0
reference_model = "gpt-4.1"

[cascade]
enabled = true
hold_tokens = 32
hold_ms = 500
min_probability = 0.75
calibration_file = "calibration.json"
min_mean_logprob = -2

[cascade.by_task]
math_reasoning = -0.5
code_generation = -0.6
creative_writing = -0.7
translation = -0.8
summarisation = -0.9
extraction = -1.1
product_question = -1.2
general_conversation = -1.3
)";

TEST(ConfigurationTest, EveryFieldIsRead) {
  using std::chrono::milliseconds;
  const auto parsed = ParseConfiguration(kEverything, "t.toml");
  ASSERT_TRUE(parsed) << parsed.error().message;
  const Configuration& c = *parsed;
  EXPECT_EQ(FormatAddress(c.server.listen), "0.0.0.0:8080");
  EXPECT_EQ(c.server.io_threads, 2);
  EXPECT_EQ(c.server.max_in_flight, 7);
  EXPECT_EQ(c.server.cors_allow_origin, "https://app.example");
  EXPECT_EQ(c.server.drain_timeout, milliseconds(1500));
  EXPECT_EQ(c.server.memory_limit_bytes, 2'100'000'000u);
  EXPECT_EQ(c.server.context_tokens, 2048);
  EXPECT_EQ(c.server.threads, 3);
  EXPECT_EQ(c.server.kv_precision, engine::KvPrecision::kF16);
  EXPECT_EQ(c.server.keep_alive, milliseconds(30'000));
  EXPECT_TRUE(c.server.anonymous_pull);
  EXPECT_THAT(c.server.drivers, ElementsAre("/opt/npu.so"));
  EXPECT_EQ(c.server.speculation, engine::SpeculationMode::kNgram);
  EXPECT_EQ(c.server.huge_pages, engine::HugePages::kAuto);

  ASSERT_EQ(c.upstreams.size(), 1u);
  const UpstreamSettings& upstream = c.upstreams[0];
  EXPECT_EQ(upstream.model, "big");
  EXPECT_EQ(upstream.base_url, "https://api.example/v1");
  EXPECT_EQ(upstream.upstream_model, "big-1");
  EXPECT_EQ(upstream.kind, "deepseek");
  EXPECT_EQ(upstream.api_key_env, "BIG_KEY");
  EXPECT_EQ(upstream.connect_timeout, milliseconds(1));
  EXPECT_EQ(upstream.first_token_timeout, milliseconds(2));
  EXPECT_EQ(upstream.between_tokens_timeout, milliseconds(3));
  EXPECT_EQ(upstream.total_timeout, milliseconds(4));
  ASSERT_EQ(c.aliases.size(), 1u);
  EXPECT_EQ(c.aliases[0].name + "=" + c.aliases[0].model, "gpt=big");

  ASSERT_EQ(c.strategies.size(), 1u);
  const StrategySettings& s = c.strategies[0];
  EXPECT_EQ(s.name, "s");
  EXPECT_EQ(s.mode, gateway::Mode::kPreferInCloud);
  EXPECT_EQ(s.privacy, gateway::Privacy::kRedacted);
  EXPECT_FALSE(s.fall_back_from_explicit_model);
  EXPECT_EQ(s.min_battery_share, 0.2);
  EXPECT_FALSE(s.hand_off);
  EXPECT_EQ(s.shadow_share, 0.25);
  EXPECT_EQ(s.deadline, milliseconds(9000));
  ASSERT_EQ(s.targets.size(), 2u);
  const TargetSettings& here = s.targets[0];
  EXPECT_EQ(here.target.id, "here");
  EXPECT_EQ(here.target.tier, gateway::Tier::kDeviceLarge);
  EXPECT_EQ(here.target.model, "little");
  EXPECT_THAT(here.target.aliases, ElementsAre("l1", "l2"));
  EXPECT_EQ(here.PackageName(), "hf.co/a/b");
  EXPECT_EQ(here.target.context_tokens, 4096);
  EXPECT_FALSE(here.target.tools);
  EXPECT_TRUE(here.target.images);
  EXPECT_EQ(here.target.privacy, gateway::Privacy::kOnDevice);
  EXPECT_EQ(here.first_token_timeout, milliseconds(11));
  EXPECT_EQ(here.between_tokens_timeout, milliseconds(12));
  EXPECT_EQ(here.total_timeout, milliseconds(13));
  EXPECT_EQ(here.hold_tokens, 24);
  EXPECT_EQ(here.hold, milliseconds(400));
  EXPECT_EQ(here.hedge_after, milliseconds(300));
  EXPECT_EQ(here.continuation, Continuation::kPrompted);
  EXPECT_EQ(here.max_retries, 1);
  EXPECT_EQ(here.slow_after, milliseconds(14));
  const TargetSettings& there = s.targets[1];
  EXPECT_EQ(there.UpstreamName(), "big");
  EXPECT_EQ(there.PackageName(), "large");
  EXPECT_EQ(there.hedge_after, std::nullopt);
  EXPECT_EQ(there.max_retries, std::nullopt);
  ASSERT_EQ(s.rules.size(), 1u);
  EXPECT_EQ(s.rules[0].name, "r");
  EXPECT_THAT(s.rules[0].tasks,
              ElementsAre(gateway::TaskClass::kMathReasoning, gateway::TaskClass::kTranslation));
  EXPECT_EQ(s.rules[0].complex_reasoning, true);
  EXPECT_EQ(s.rules[0].require_high_quality, false);
  EXPECT_EQ(s.rules[0].min_prompt_tokens, 100);
  EXPECT_THAT(s.rules[0].targets, ElementsAre("there", "here"));
  ASSERT_EQ(s.splits.size(), 1u);
  EXPECT_EQ(s.splits[0].target, "there");
  EXPECT_EQ(s.splits[0].share, 0.25);

  EXPECT_EQ(c.breaker.error_threshold, 0.1);
  EXPECT_EQ(c.breaker.recovery_timeout, milliseconds(30'000));
  EXPECT_EQ(c.breaker.slow_threshold, 0.6);
  EXPECT_EQ(c.breaker.min_outcomes, 21);
  EXPECT_EQ(c.breaker.failures_in_a_row, 6);
  EXPECT_EQ(c.breaker.max_probes, 4);
  EXPECT_EQ(c.breaker.successes_to_close, 7);
  EXPECT_EQ(c.breaker.window, milliseconds(61'000));
  EXPECT_EQ(c.breaker.slow_start, milliseconds(31'000));
  EXPECT_EQ(c.breaker.max_recovery, milliseconds(601'000));

  ASSERT_TRUE(c.canary);
  EXPECT_EQ(c.canary->strategy, "s");
  EXPECT_EQ(c.canary->target, "there");
  EXPECT_EQ(c.canary->baseline, "here");
  const gateway::CanaryOptions& canary = c.canary->options;
  EXPECT_EQ(canary.id, "c");
  EXPECT_THAT(canary.steps, ElementsAre(0.1, 1.0));
  EXPECT_EQ(canary.min_step_time, std::chrono::seconds(1));
  EXPECT_EQ(canary.bake_time, std::chrono::seconds(2));
  EXPECT_EQ(canary.max_step_factor, 4);
  EXPECT_EQ(canary.step_time, std::chrono::seconds(5));
  EXPECT_EQ(canary.alpha, 0.06);
  EXPECT_THAT(canary.worse_ratio, ElementsAre(1.2, 1.3, 1.4));
  EXPECT_THAT(canary.min_samples, ElementsAre(10, 20, 30));
  EXPECT_EQ(canary.min_error_samples, 40u);
  EXPECT_EQ(canary.failures_in_a_row, 8);

  EXPECT_EQ(c.store.url, "postgresql://tandem@db.example/tandem?sslmode=verify-full");
  EXPECT_EQ(c.store.password_env, "TANDEM_DB_PASSWORD");
  EXPECT_EQ(c.store.busy_timeout, milliseconds(700));
  EXPECT_EQ(c.store.statement_timeout, milliseconds(800));
  EXPECT_EQ(c.retry.max_retries, 1);
  EXPECT_EQ(c.retry.budget_share, 0.2);
  EXPECT_EQ(c.retry.budget_burst, 5);
  EXPECT_EQ(c.retry.budget_per_second, 0.5);
  EXPECT_EQ(c.privacy.standard, gateway::Privacy::kRedacted);
  EXPECT_THAT(c.privacy.names, ElementsAre("Ada Lovelace", "李"));
  EXPECT_EQ(c.privacy.receipts, gateway::Receipts::kEgress);
  EXPECT_TRUE(c.privacy.log_egress);
  EXPECT_EQ(c.usage.prices_file, "prices.toml");
  EXPECT_EQ(c.usage.retention_days, 0);
  EXPECT_EQ(c.usage.reference_model, "gpt-4.1");
  EXPECT_TRUE(c.cascade.enabled);
  EXPECT_EQ(c.cascade.hold_tokens, 32);
  EXPECT_EQ(c.cascade.hold, milliseconds(500));
  EXPECT_EQ(c.cascade.min_probability, 0.75);
  EXPECT_EQ(c.cascade.calibration_file, "calibration.json");
  EXPECT_EQ(c.cascade.min_mean_logprob, -2);
  EXPECT_THAT(c.cascade.by_task, ElementsAre(-0.5, -0.6, -0.7, -0.8, -0.9, -1.1, -1.2, -1.3));
}

// kEverything leaves no field out, so that the tests over it mean every field.
TEST(ConfigurationTest, TheSampleSetsEveryFieldThatThereIs) {
  const auto parsed = ParseConfiguration(kEverything, "t.toml");
  ASSERT_TRUE(parsed) << parsed.error().message;
  std::vector<std::string> defaults;
  for (const auto& [path, value] : FlattenDocument(DescribeConfiguration(*parsed))) {
    if (!parsed->origins.contains(path) && !path.starts_with("strategy[0].target[1]")) {
      defaults.push_back(path);
    }
  }
  // A file has one of the two places of a key, and a device target no upstream.
  EXPECT_THAT(defaults, ElementsAre("store.password_file", "upstream[0].api_key_file",
                                    "strategy[0].target[0].upstream"));
}

TEST(ConfigurationTest, WhatIsShownIsReadBackAsTheSame) {
  for (const std::string_view text :
       {kEverything, ShippedConfigurationText(), std::string_view()}) {
    const auto first = ParseConfiguration(text, "t.toml");
    ASSERT_TRUE(first) << first.error().message;
    const std::string shown = FormatConfiguration(*first);
    const auto second = ParseConfiguration(shown, "shown.toml");
    ASSERT_TRUE(second) << second.error().message;
    EXPECT_EQ(FormatConfiguration(*second), shown);
    const auto with_origins = ParseConfiguration(FormatConfigurationWithOrigins(*first), "o.toml");
    ASSERT_TRUE(with_origins) << with_origins.error().message;
    EXPECT_EQ(FormatConfiguration(*with_origins), shown);
    const auto json = ParseConfiguration(FormatJsonDocument(DescribeConfiguration(*first)), "j");
    ASSERT_TRUE(json) << json.error().message;
    EXPECT_EQ(FormatConfiguration(*json), shown);
    EXPECT_EQ(ConfigurationDigest(*json), ConfigurationDigest(*first));
    EXPECT_THAT(ChangedPaths(*first, *json), IsEmpty());
  }
}

// What a person gets to read, to the letter: file, line, column, field, what is wrong.
TEST(ConfigurationTest, EveryMistakeIsReportedWhereItIs) {
  EXPECT_EQ(ErrorOf("[server]\nlissten = \"a\"\n  io_threads = 0\nmax_in_flight = \"many\"\n"),
            "t.toml:2:1: server: unknown key 'lissten'; did you mean 'listen'?\n"
            "t.toml:3:16: server.io_threads: must be a whole number from 1 to 64, not 0\n"
            "t.toml:4:17: server.max_in_flight: must be a whole number from 1 to 100000, "
            "not a string");
  EXPECT_EQ(ErrorOf("\n[[alias]]\nname = \"a\"\n"),
            "t.toml:2:1: alias[0]: 'model' is missing; write model = \"phi-4-mini\"");
  EXPECT_EQ(ErrorOf("[sever]\n"), "t.toml:1:2: unknown key 'sever'; did you mean 'server'?");
  EXPECT_EQ(ErrorOf("nonsense = 1\n"), "t.toml:1:1: unknown key 'nonsense'");
  EXPECT_EQ(ErrorOf("server = 1\n"), "t.toml:1:10: server: must be a table, not a whole number");
  EXPECT_EQ(ErrorOf("[upstream]\nmodel = \"a\"\n"),
            "t.toml:1:1: upstream: must be a list of tables: write [[upstream]], not a table");
  EXPECT_EQ(ErrorOf("alias = [1]\n"), "t.toml:1:10: alias[0]: must be a table, not a whole number");
  EXPECT_EQ(ErrorOf("[server]\nlisten = 1970-01-01\n"),
            "t.toml:2:10: server.listen: must be a string, not a date");
  EXPECT_EQ(ErrorOf("{\"server\":\n {\"listen\": null}}"),
            "t.toml:2:13: server.listen: must be a string, not null");
  EXPECT_EQ(ErrorOf("[privacy]\nnames = [\"a\", 3]\n"),
            "t.toml:2:15: privacy.names[1]: must be a string, not a whole number");
  EXPECT_EQ(ErrorOf("[[strategy]]\nname = \"s\"\nmode = \"a\\u001b\\nb\"\n"),
            "t.toml:3:8: strategy[0].mode: unknown mode 'a  b'; use one of PREFER_ON_DEVICE, "
            "ONLY_ON_DEVICE, PREFER_IN_CLOUD, ONLY_IN_CLOUD");
  EXPECT_THAT(ErrorOf("[server\n"), HasSubstr("t.toml:1:8: this is no TOML: "));
  EXPECT_THAT(ErrorOf("{\"server\": }"), HasSubstr("t.toml:1:12: this is no JSON: "));
  EXPECT_THAT(ErrorOf("{}\n{}"), HasSubstr("t.toml:2:1: this is no JSON: "));
  EXPECT_THAT(ErrorOf("{\"server\": {}"), HasSubstr("this is no JSON: "));
  EXPECT_EQ(ErrorOf("{\"a\": 1,\n \"a\": 2}"),
            "t.toml:2:2: 'a' is there twice; the first one is in line 1");
  EXPECT_THAT(ErrorOf("a = 1\na = 2\n"), HasSubstr("t.toml:2:"));
  EXPECT_EQ(ErrorOf("\xEF\xBB\xBF{\"a\": 1}"), "t.toml:1:2: unknown key 'a'");
  EXPECT_EQ(ErrorOf("\xEF\xBB\xBF[privacy]\nlog_egress = 1\n"),
            "t.toml:2:14: privacy.log_egress: must be true or false, not a whole number");
  EXPECT_EQ(ErrorOf("a = \"\xff\"\n"), "t.toml:1:6: this is no UTF-8; save the file as UTF-8");
}

// Replaces one value of the sample by others that do not fit; the message stands at it.
TEST(ConfigurationTest, EveryFieldRefusesWhatItCannotBe) {
  struct Row {
    std::string_view field;  // as in the sample
    std::vector<std::string_view> wrong;
  };
  const std::vector<std::string_view> kNoText = {"1", "true", "[]", "1.5"};
  const std::vector<std::string_view> kNoBool = {"1", "\"true\"", "[]"};
  const std::vector<std::string_view> kNoTimeout = {"-1", "1.5", "\"1\"", "true", "86400001"};
  const std::vector<std::string_view> kNoPositive = {"0", "-1", "1.5", "\"1\"", "86400001"};
  const std::vector<std::string_view> kNoSeconds = {"-1", "\"1\"", "true", "1e12", "nan", "inf"};
  const std::vector<std::string_view> kNoWholeSeconds = {"-1", "\"1\"", "1.5", "99999999999"};
  const std::vector<std::string_view> kNoCount = {"0", "-1", "1.5", "\"1\"", "99999999999"};
  const std::vector<std::string_view> kNoShare = {"-0.1", "1.1", "\"1\"", "nan", "true"};
  const std::vector<Row> rows = {
      {"listen = \"0.0.0.0:8080\"", {"1", "\"\"", "\"host:\"", "\"host:70000\""}},
      {"io_threads = 2", kNoCount},
      {"max_in_flight = 7", kNoCount},
      {"cors_allow_origin = \"https://app.example\"", kNoText},
      {"drain_timeout_s = 1.5", kNoSeconds},
      {"memory_limit = \"2.1GB\"", {"-1", "\"2 apples\"", "\"\"", "1.5", "true"}},
      {"context = 2048", {"-1", "\"1\"", "99999999999"}},
      {"threads = 3", {"-1", "\"1\"", "1025"}},
      {"speculation = \"ngram\"", {"1", "\"fast\"", "\"\""}},
      {"kv_type = \"f16\"", {"16", "\"int4\"", "\"\""}},
      {"keep_alive_s = 30", kNoSeconds},
      {"drivers = [\"/opt/npu.so\"]", {"1", "\"/opt/npu.so\"", "[1]", "[\"\"]"}},
      {"huge_pages = \"auto\"", {"true", "\"yes\"", "\"\""}},
      {"model = \"big\"\nbase", {}},
      {"base_url = \"https://api.example/v1\"",
       {"1", "\"\"", "\"no url\"", "\"ftp://a/\"", "\"http://a.example/v1\"",
        "\"https://u:p@a.example/v1\"", "\"https://a.example/v1?x=1\""}},
      {"upstream_model = \"big-1\"", kNoText},
      {"kind = \"deepseek\"", {"1", "\"deepsea\""}},
      {"api_key_env = \"BIG_KEY\"", {"1", "\"not a name\"", "\"sk-1\""}},
      {"connect_timeout_ms = 1", kNoTimeout},
      {"first_token_timeout_ms = 2", kNoTimeout},
      {"between_tokens_timeout_ms = 3", kNoTimeout},
      {"total_timeout_ms = 4", kNoTimeout},
      {"name = \"gpt\"", {"1", "\"\"", "\"big\"", "\"s\"", "\"a\\nb\""}},
      {"name = \"s\"", {"1", "\"\"", "\"little\"", "\"l2\""}},
      {"mode = \"PREFER_IN_CLOUD\"", {"1", "\"prefer_in_cloud\"", "\"\""}},
      {"privacy = \"redacted\"", {"1", "\"secret\""}},
      {"fall_back_from_explicit_model = false", kNoBool},
      {"min_battery_share = 0.2", kNoShare},
      {"hand_off = false", kNoBool},
      {"shadow_share = 0.25", kNoShare},
      {"deadline_ms = 9000", kNoPositive},
      {"id = \"here\"", {"1", "\"\"", "\"there\""}},
      {"tier = \"device_large\"", {"1", "\"device\"", "\"cloud\""}},
      {"model = \"little\"", {"1", "\"\"", "\"s\""}},
      {"aliases = [\"l1\", \"l2\"]", {"1", "\"l1\"", "[1]", "[\"\"]", "[\"s\"]"}},
      {"package = \"hf.co/a/b\"", kNoText},
      {"context_tokens = 4096", {"-1", "\"1\"", "99999999999"}},
      {"tools = false", kNoBool},
      {"images = true", kNoBool},
      {"privacy = \"on_device\"", {"1", "\"secret\""}},
      {"first_token_timeout_ms = 11", kNoTimeout},
      {"between_tokens_timeout_ms = 12", kNoTimeout},
      {"total_timeout_ms = 13", kNoTimeout},
      {"hold_tokens = 24", {"-1", "1025", "\"1\""}},
      {"hold_ms = 400", kNoTimeout},
      {"hedge_after_ms = 300", kNoPositive},
      {"continuation = \"prompted\"", {"1", "\"maybe\""}},
      {"slow_after_ms = 14", kNoTimeout},
      {"upstream = \"big\"", {"1", "\"bigger\""}},
      {"name = \"r\"", {"1", "\"\""}},
      {"tasks = [\"math_reasoning\", \"translation\"]", {"1", "[\"maths\"]", "\"translation\""}},
      {"complex_reasoning = true", kNoBool},
      {"require_high_quality = false", kNoBool},
      {"min_prompt_tokens = 100", {"-1", "\"1\""}},
      {"targets = [\"there\", \"here\"]", {"1", "[]", "[\"nowhere\"]", "[\"\"]"}},
      {"target = \"there\"\nshare", {}},
      {"share = 0.25", kNoShare},
      {"error_threshold = 0.1", {"0", "1.1", "\"1\"", "nan"}},
      {"recovery_timeout_s = 30", {"0", "-1", "\"1\"", "602"}},
      {"slow_threshold = 0.6", {"0", "1.1", "\"1\""}},
      {"min_outcomes = 21", kNoCount},
      {"failures_in_a_row = 6", kNoCount},
      {"max_probes = 4", kNoCount},
      {"successes_to_close = 7", kNoCount},
      {"window_s = 61", {"0", "-1", "\"1\""}},
      {"slow_start_s = 31", {"-1", "\"1\""}},
      {"max_recovery_s = 601", {"0", "\"1\""}},
      {"id = \"c\"", {"1", "\"\""}},
      {"strategy = \"s\"", {"1", "\"t\""}},
      {"baseline = \"here\"", {"1", "\"\"", "\"there\"", "\"nowhere\""}},
      {"steps = [0.1, 1]", {"1", "[]", "[0.5, 0.1]", "[2]", "[\"1\"]"}},
      {"min_step_time_s = 1", kNoWholeSeconds},
      {"bake_time_s = 2", kNoWholeSeconds},
      {"max_step_factor = 4", kNoCount},
      {"step_time_s = 5", kNoWholeSeconds},
      {"alpha = 0.06", {"0", "0.6", "\"1\""}},
      {"worse_ratio = [1.2, 1.3, 1.4]", {"1", "[1.2, 1.3]", "[0.5, 1.3, 1.4]", "[1, 1, \"1\"]"}},
      {"min_samples = [10, 20, 30]", {"1", "[1, 2]", "[0, 1, 2]", "[1.5, 1, 2]"}},
      {"min_error_samples = 40", kNoCount},
      {"failures_in_a_row = 8", kNoCount},
      {"budget_burst = 5", {"-1", "\"1\"", "1e7"}},
      {"budget_per_second = 0.5", {"-1", "\"1\"", "1e7"}},
      {"budget_share = 0.2", kNoShare},
      {"default = \"redacted\"", {"1", "\"secret\""}},
      {"names = [\"Ada Lovelace\", \"李\"]", {"1", "[1]", "[\"\"]", "\"Ada\""}},
      {"receipts = \"egress\"", {"1", "\"some\""}},
      {"log_egress = true", kNoBool},
      {"prices_file = \"prices.toml\"", kNoText},
      {"retention_days = 0", {"-1", "1.5", "\"1\"", "99999"}},
      {"reference_model = \"gpt-4.1\"", {"1", "\"\""}},
      {"enabled = true", kNoBool},
      {"hold_tokens = 32", {"0", "1025", "\"1\""}},
      {"hold_ms = 500", kNoPositive},
      {"min_mean_logprob = -2", {"1", "-101", "\"1\""}},
      {"math_reasoning = -0.5", {"1", "-101", "\"1\""}},
  };
  for (const Row& row : rows) {
    const size_t at = kEverything.find(row.field);
    ASSERT_NE(at, std::string_view::npos) << row.field;
    const std::string_view name = row.field.substr(0, row.field.find(' '));
    const size_t line =
        1 + static_cast<size_t>(std::ranges::count(kEverything.substr(0, at), '\n'));
    for (const std::string_view wrong : row.wrong) {
      std::string text(kEverything);
      text.replace(at, row.field.size(), std::string(name) + " = " + std::string(wrong));
      const std::string error = ErrorOf(text);
      // A value that fits by itself may be complained about where it does not fit another one.
      const std::string here = "t.toml:" + std::to_string(line) + ":";
      EXPECT_NE(error, "valid") << name << " = " << wrong;
      if (!error.starts_with(here)) {
        EXPECT_TRUE(name == "id" || name == "name" || name == "tier" || name == "aliases" ||
                    name == "steps" || name == "max_recovery_s")
            << name << " = " << wrong << ": " << error;
      } else {
        EXPECT_THAT(error, HasSubstr(std::string(name))) << wrong;
      }
    }
  }
}

TEST(ConfigurationTest, AModelsNameMeansOneProvider) {
  const auto with = [](std::string_view targets) {
    return "[[upstream]]\nmodel = \"big\"\nbase_url = \"https://a/v1\"\n[[strategy]]\nname = "
           "\"s\"\n" +
           std::string(targets);
  };
  EXPECT_EQ(
      ErrorOf(with("[[strategy.target]]\nid = \"a\"\ntier = \"cloud\"\nmodel = \"m\"\n"
                   "upstream = \"big\"\n"
                   "[[strategy.target]]\nid = \"b\"\ntier = \"device_small\"\nmodel = \"m\"\n")),
      "t.toml:14:9: strategy[0].target[1].model: is 'big' for another target and 'm' here; "
      "write another model name for one of them, and the common one into aliases");
  EXPECT_EQ(
      ErrorOf(with("[[strategy.target]]\nid = \"a\"\ntier = \"device_small\"\nmodel = \"big\"\n")),
      "t.toml:9:9: strategy[0].target[0].model: there is an [[upstream]] with model = 'big', "
      "which would be called for it; give the upstream another name");
}

TEST(ConfigurationTest, AKeyInTheFileIsRefusedAndNotRepeated) {
  for (const std::string_view line :
       {"api_key = \"sk-topsecret\"", "api_key_env = \"sk-topsecret\""}) {
    const std::string error = ErrorOf("[[upstream]]\nmodel = \"m\"\nbase_url = \"https://a/v1\"\n" +
                                      std::string(line) + "\n");
    EXPECT_THAT(error, HasSubstr("t.toml:4:"));
    EXPECT_THAT(error, HasSubstr("variable"));
    EXPECT_THAT(error, Not(HasSubstr("topsecret")));
  }
  EXPECT_THAT(ErrorOf("[[upstream]]\nmodel = \"m\"\nbase_url = \"https://user:topsecret@a/v1\"\n"),
              testing::AllOf(HasSubstr("t.toml:3:"), Not(HasSubstr("topsecret"))));
}

TEST(ConfigurationTest, WithoutAStrategyTheShippedOneIsThere) {
  const auto parsed =
      ParseConfiguration("[[upstream]]\nmodel = \"own\"\nbase_url = \"https://a/v1\"\n", "t.toml");
  ASSERT_TRUE(parsed) << parsed.error().message;
  ASSERT_EQ(parsed->strategies.size(), 1u);
  EXPECT_EQ(parsed->strategies[0].name, "three-tier");
  ASSERT_EQ(parsed->upstreams.size(), 2u);
  EXPECT_EQ(parsed->upstreams[1].model, "deepseek-v3.2");
  EXPECT_EQ(FormatOrigin(parsed->origins.find("upstream[0].model")->second), "t.toml:2");
  EXPECT_THAT(FormatOrigin(parsed->origins.find("upstream[1].model")->second),
              HasSubstr("shipped three-tier.toml:"));
  // An upstream of that name is the file's own.
  const auto own = ParseConfiguration(
      "[[upstream]]\nmodel = \"deepseek-v3.2\"\nbase_url = \"https://a/v1\"\n", "t.toml");
  ASSERT_TRUE(own) << own.error().message;
  ASSERT_EQ(own->upstreams.size(), 1u);
  EXPECT_EQ(own->upstreams[0].base_url, "https://a/v1");
  EXPECT_EQ(own->upstreams[0].api_key_env, "");
}

TEST(ConfigurationTest, TheStrictestPrivacyReachesTheRouter) {
  Configuration configuration = ShippedConfiguration();
  StrategySettings& strategy = configuration.strategies[0];
  configuration.privacy.standard = gateway::Privacy::kRedacted;
  strategy.targets[1].target.privacy = gateway::Privacy::kOnDevice;
  const gateway::Strategy routing = RoutingStrategy(configuration, strategy);
  EXPECT_EQ(routing.targets[0].privacy, gateway::Privacy::kRedacted);
  EXPECT_EQ(routing.targets[1].privacy, gateway::Privacy::kOnDevice);
  strategy.privacy = gateway::Privacy::kOnDevice;
  EXPECT_EQ(RoutingStrategy(configuration, strategy).targets[0].privacy,
            gateway::Privacy::kOnDevice);
}

TEST(ConfigurationTest, AFilesFolderIsWhereItsPathsBegin) {
  const os::TempDir dir;
  ASSERT_TRUE(os::WriteFileAtomic(dir / "t.toml", "[server]\nio_threads = 2\n"));
  const auto loaded = LoadConfiguration(dir / "t.toml");
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(loaded->directory, dir.path());
  EXPECT_EQ(LoadConfiguration(dir / "none.toml").error().code, ErrorCode::kNotFound);
}

TEST(ConfigurationTest, ChangedPathsNameWhatDiffers) {
  Configuration changed = ShippedConfiguration();
  changed.server.io_threads = 4;
  changed.strategies[0].targets[2].target.privacy = gateway::Privacy::kRedacted;
  changed.aliases.push_back({"a", "b"});
  EXPECT_THAT(ChangedPaths(ShippedConfiguration(), changed),
              ElementsAre("alias[0].model", "alias[0].name", "server.io_threads",
                          "strategy[0].target[2].privacy"));
  EXPECT_THAT(ChangedPaths(changed, ShippedConfiguration()),
              ElementsAre("alias[0].model", "alias[0].name", "server.io_threads",
                          "strategy[0].target[2].privacy"));
  EXPECT_NE(ConfigurationDigest(changed), ConfigurationDigest(ShippedConfiguration()));
}

TEST(ConfigurationTest, HostileTextsCostLittleAndAreErrors) {
  std::string dots = "a";
  for (int i = 0; i < 100'000; ++i) dots += ".a";
  EXPECT_THAT(ErrorOf(dots + " = 1\n"), HasSubstr("t.toml:1:1: this line has more than 200 dots"));
  EXPECT_THAT(ErrorOf("a = " + std::string(100'000, '[')), HasSubstr("nested value depth"));
  EXPECT_EQ(ErrorOf("[server]\nio_threads = 1\n[[~a]]\n[usage]\n"),
            "t.toml:3:1: this is no TOML: look at the brackets and names of this line");
  EXPECT_THAT(ErrorOf("a = 1\xc3\xa9\n"), HasSubstr("t.toml:1:"));
  EXPECT_THAT(ErrorOf("[~"), HasSubstr("t.toml:1:1: this is no TOML: "));
  std::string tables = "a = ";
  for (int i = 0; i < 10'000; ++i) tables += "{b = ";
  EXPECT_THAT(ErrorOf(tables), HasSubstr("nested value depth"));
  EXPECT_THAT(ErrorOf("{\"a\":" + std::string(100'000, '[')), HasSubstr("too deep"));
  EXPECT_THAT(ErrorOf(std::string(kMaxDocumentBytes + 1, '\n')), HasSubstr("may have 1048576"));
  std::string unknown;
  for (int i = 0; i < 50'000; ++i) unknown += "k" + std::to_string(i) + " = 1\n";
  EXPECT_THAT(ErrorOf(unknown), HasSubstr("and perhaps more; correct these first"));
  EXPECT_LT(ErrorOf(unknown).size(), 10'000u);
  std::string many;
  for (int i = 0; i < 300; ++i) many += "[[alias]]\nname = \"a\"\nmodel = \"b\"\n";
  EXPECT_EQ(ErrorOf(many), "t.toml:1:1: alias: has 300 entries; at most 256");
  EXPECT_THAT(ErrorOf("[server]\n\"\\u0000\xe2\x80\xae" + std::string(1000, 'x') + "\" = 1\n"),
              HasSubstr("t.toml:2:1: server: unknown key ' "));
}

TEST(ConfigurationTest, EveryBeginningOfATextIsReadOrRefused) {
  for (const std::string& text :
       {std::string(kEverything),
        FormatJsonDocument(DescribeConfiguration(ShippedConfiguration()))}) {
    for (size_t n = 0; n < text.size(); ++n) {
      const auto parsed = ParseConfiguration(std::string_view(text).substr(0, n), "t");
      if (!parsed) {
        EXPECT_EQ(parsed.error().code, ErrorCode::kInvalidArgument);
        EXPECT_THAT(parsed.error().message, testing::StartsWith("t:"));
      }
    }
  }
}

}  // namespace
}  // namespace tandem::app
