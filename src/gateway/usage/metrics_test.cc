#include "gateway/usage/metrics.h"

#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gateway/usage/record_json.h"

namespace tandem::gateway::usage {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class UsageMetricsTest : public ::testing::Test {
 protected:
  static Attempt AttemptOf(Tier tier, std::string model, AttemptOutcome outcome, Usage usage) {
    Attempt attempt;
    attempt.tier = tier;
    attempt.model = std::move(model);
    attempt.outcome = outcome;
    attempt.usage = usage;
    return attempt;
  }
  // The device began, the cloud finished.
  static UsageRecord HandedOff() {
    UsageRecord record;
    record.finish_reason = FinishReason::kStop;
    record.tier = Tier::kCloud;
    record.model = "deepseek-v3.2";
    record.ttft_ms = 50;
    record.e2e_ms = 2000;
    record.reference = 900;
    Attempt first =
        AttemptOf(Tier::kDeviceSmall, "phi-4-mini", AttemptOutcome::kHandedOff, {100, 40, 10});
    first.failure = FailureCode::kOutputValidationFailed;
    record.attempts = {
        {first, 0},
        {AttemptOf(Tier::kCloud, "deepseek-v3.2", AttemptOutcome::kAnswered, {140, 60, 0}), 700}};
    return record;
  }
  // The value behind `series` in the text; "" where there is none.
  std::string Value(const std::string& series) {
    std::istringstream lines(registry_.PrometheusText());
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with(series + " ")) return line.substr(series.size() + 1);
    }
    return "";
  }

  metrics::Registry registry_;
  UsageMetrics metrics_{&registry_};
};

TEST_F(UsageMetricsTest, OneRecordGivesEveryFigureOfItsRequestAndCalls) {
  InterTokenTimes gaps;
  for (int i = 0; i < 3; ++i) gaps.Add(20);
  gaps.Add(300);
  metrics_.Observe(HandedOff(), gaps);
  const std::string cloud = R"({tier="cloud",model="deepseek-v3.2"})";
  const std::string device = R"({tier="device_small",model="phi-4-mini"})";
  EXPECT_EQ(Value(R"(tandem_requests_total{tier="cloud",model="deepseek-v3.2",outcome="stop"})"),
            "1");
  EXPECT_EQ(Value("tandem_time_to_first_token_seconds_count" + cloud), "1");
  EXPECT_EQ(Value("tandem_time_to_first_token_seconds_sum" + cloud), "0.05");
  EXPECT_EQ(Value("tandem_e2e_request_latency_seconds_sum" + cloud), "2");
  EXPECT_EQ(Value("tandem_inter_token_latency_seconds_count" + cloud), "4");
  EXPECT_EQ(Value(R"(tandem_inter_token_latency_seconds_bucket{tier="cloud",)"
                  R"(model="deepseek-v3.2",le="0.025"})"),
            "3");
  EXPECT_EQ(Value("tandem_time_to_first_token_seconds_count" + device), "0");
  EXPECT_EQ(Value("tandem_prompt_tokens_total" + device), "100");
  EXPECT_EQ(Value("tandem_prompt_tokens_cached_total" + device), "10");
  EXPECT_EQ(Value("tandem_generation_tokens_total" + device), "40");
  EXPECT_EQ(Value("tandem_generation_tokens_total" + cloud), "60");
  EXPECT_EQ(Value("tandem_cost_nano_usd_total" + cloud), "700");
  EXPECT_EQ(Value("tandem_cost_nano_usd_total" + device), "0");
  EXPECT_EQ(Value("tandem_reference_cost_nano_usd_total"), "900");
  EXPECT_EQ(Value(R"(tandem_handoffs_total{tier="device_small",model="phi-4-mini",)"
                  R"(reason="output_validation_failed"})"),
            "1");
  EXPECT_EQ(Value(R"(tandem_provider_calls_total{tier="cloud",model="deepseek-v3.2",)"
                  R"(outcome="answered"})"),
            "1");
  EXPECT_THAT(registry_.PrometheusText(), Not(HasSubstr("tandem_fallbacks_total")));
  EXPECT_THAT(registry_.PrometheusText(), Not(HasSubstr("tandem_refusals_total")));
}

TEST_F(UsageMetricsTest, FallbackCountsOnlyWhereAnotherProviderWasAsked) {
  UsageRecord record = HandedOff();
  Attempt skipped = AttemptOf(Tier::kCloud, "a", AttemptOutcome::kSkipped, {});
  Attempt failed = AttemptOf(Tier::kCloud, "b", AttemptOutcome::kFailed, {});
  failed.failure = FailureCode::kUnavailable;
  Attempt last = AttemptOf(Tier::kCloud, "c", AttemptOutcome::kFailed, {});
  last.failure = FailureCode::kDeadlineExceeded;
  record.attempts = {{skipped, {}}, {failed, {}}, {last, {}}};
  metrics_.Observe(record, {});
  EXPECT_EQ(Value(R"(tandem_fallbacks_total{tier="cloud",model="a",reason="breaker_open"})"), "1");
  EXPECT_EQ(Value(R"(tandem_fallbacks_total{tier="cloud",model="b",reason="unavailable"})"), "1");
  EXPECT_EQ(Value(R"(tandem_fallbacks_total{tier="cloud",model="c",reason="deadline_exceeded"})"),
            "");
}

TEST_F(UsageMetricsTest, RefusedRequestIsNobodysAndHasNoLatency) {
  UsageRecord record;
  record.failure = FailureCode::kPrivacyRefused;
  record.e2e_ms = 1;
  metrics_.Observe(record, {});
  EXPECT_EQ(Value(R"(tandem_refusals_total{reason="privacy_refused"})"), "1");
  EXPECT_EQ(Value(R"(tandem_requests_total{tier="none",model="none",outcome="privacy_refused"})"),
            "1");
  EXPECT_EQ(Value(R"(tandem_e2e_request_latency_seconds_count{tier="none",model="none"})"), "0");
}

TEST_F(UsageMetricsTest, ClientThatLeftAndMissingPriceAreCounted) {
  UsageRecord record = HandedOff();
  record.client_gone = true;
  record.unpriced = true;
  metrics_.Observe(record, {});
  EXPECT_EQ(Value("tandem_client_disconnects_total"), "1");
  EXPECT_EQ(Value("tandem_unpriced_requests_total"), "1");
  EXPECT_EQ(
      Value(R"(tandem_e2e_request_latency_seconds_count{tier="cloud",model="deepseek-v3.2"})"),
      "0");
}

TEST_F(UsageMetricsTest, NumberOfModelsIsBounded) {
  for (size_t i = 0; i < UsageMetrics::kMaxModels + 10; ++i) {
    UsageRecord record = HandedOff();
    record.model = "m" + std::to_string(i);
    record.attempts.clear();
    metrics_.Observe(record, {});
  }
  EXPECT_EQ(Value(R"(tandem_requests_total{tier="cloud",model="m63",outcome="stop"})"), "1");
  EXPECT_EQ(Value(R"(tandem_requests_total{tier="cloud",model="m64",outcome="stop"})"), "");
  EXPECT_EQ(Value(R"(tandem_requests_total{tier="cloud",model="other",outcome="stop"})"), "10");
}

TEST_F(UsageMetricsTest, NothingPrivateBecomesALabel) {
  UsageRecord record = HandedOff();
  record.request_id = "private-request";
  record.key_id = "private-key";
  record.account = "private-account";
  record.subject_digest = "private-subject";
  record.requested_model = "private-model";
  record.attempts[0].attempt.detail = "private-detail";
  record.decision_json = "private-decision";
  metrics_.Observe(record, {});
  EXPECT_THAT(registry_.PrometheusText(), Not(HasSubstr("private")));
}

TEST_F(UsageMetricsTest, BreakerIsAskedWhenTheTextIsMade) {
  std::string state = "closed";
  metrics_.AddBreaker("cloud", [&]() -> std::string_view { return state; });
  EXPECT_EQ(Value(R"(tandem_breaker_state{target="cloud"})"), "0");
  state = "half_open";
  EXPECT_EQ(Value(R"(tandem_breaker_state{target="cloud"})"), "1");
  state = "open";
  EXPECT_EQ(Value(R"(tandem_breaker_state{target="cloud"})"), "2");
  state = "?";
  EXPECT_EQ(Value(R"(tandem_breaker_state{target="cloud"})"), "-1");
}

TEST_F(UsageMetricsTest, ManyThreadsMayObserve) {
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < 100; ++i) {
          UsageRecord record = HandedOff();
          record.model = "m" + std::to_string((i + t) % 5);
          metrics_.Observe(record, {});
        }
      });
    }
  }
  EXPECT_EQ(Value("tandem_reference_cost_nano_usd_total"), std::to_string(400 * 900));
}

// ---- JSON ------------------------------------------------------------------------------------

TEST(RecordJsonTest, EveryFieldIsThereAndMoneyIsExact) {
  UsageRecord record;
  record.request_id = "req-1";
  record.started_at_ms = 1767225600'250;
  record.account = "aaaaaaaa";
  record.finish_reason = FinishReason::kStop;
  record.tier = Tier::kCloud;
  record.model = "deepseek-v3.2";
  record.usage = {1, 2, 0};
  record.cost = 1'400;
  record.itl = {1, 2, 3};
  record.decision_json = R"({"candidates":["a"]})";
  record.receipt_json = "not JSON \xF0\x9F\x98\x80";
  Attempt attempt;
  attempt.failure = FailureCode::kUnavailable;
  attempt.retry_after = std::chrono::milliseconds(1500);
  attempt.egress = Egress{"host:443", 7, "ab"};
  record.attempts = {{attempt, {}}};
  const std::string text = RecordToJson(record);
  for (const char* part :
       {R"("started_at":"2026-01-01T00:00:00.250Z")", R"("cost_usd":"0.0000014")",
        R"("decision":{"candidates":["a"]})", "\"receipt\":\"not JSON \xF0\x9F\x98\x80\"",
        R"("outcome":"stop")", R"("tier":"cloud")", R"("client_request_id":null)",
        R"("failure":"unavailable")", R"("retry_after_ms":1500)",
        R"("egress":{"destination":"host:443","bytes":7,"sha256":"ab"})", R"("cost_usd":null)"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
}

TEST(RecordJsonTest, TimesBefore1970AreRight) {
  EXPECT_EQ(FormatTimeMs(-1), "1969-12-31T23:59:59.999Z");
  EXPECT_EQ(FormatTimeMs(0), "1970-01-01T00:00:00.000Z");
}

}  // namespace
}  // namespace tandem::gateway::usage
