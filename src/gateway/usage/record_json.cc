#include "gateway/usage/record_json.h"

#include <chrono>
#include <utility>

#include <fmt/format.h>
#include <boost/json.hpp>

namespace tandem::gateway::usage {
namespace {

namespace json = boost::json;

json::value OrNull(std::optional<double> value) {
  return value ? json::value(*value) : json::value(nullptr);
}

json::value OrNull(std::optional<NanoUsd> value) {
  return value ? json::value(FormatUsd(*value)) : json::value(nullptr);
}

json::value TextOrNull(std::string_view text) {
  return text.empty() ? json::value(nullptr) : json::value(text);
}

// Text that somebody else wrote as JSON: as it is where it is some.
json::value Embed(const std::string& text) {
  if (text.empty()) return nullptr;
  boost::system::error_code error;
  json::value value = json::parse(text, error);
  return error ? json::value(text) : std::move(value);
}

json::object ToJson(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"cached_tokens", usage.cached_tokens}};
}

json::object ToJson(const PricedAttempt& priced) {
  const Attempt& attempt = priced.attempt;
  json::object object{{"target", attempt.target},
                      {"model", attempt.model},
                      {"tier", TierName(attempt.tier)},
                      {"reason", attempt.reason},
                      {"outcome", AttemptOutcomeName(attempt.outcome)},
                      {"failure", nullptr},
                      {"detail", attempt.detail},
                      {"retry_after_ms", nullptr},
                      {"retry", attempt.retry},
                      {"hedge", attempt.hedge},
                      {"usage", ToJson(attempt.usage)},
                      {"usage_estimated", attempt.usage_estimated},
                      {"cost_usd", OrNull(priced.cost)},
                      {"started_ms", attempt.started_ms},
                      {"ttft_ms", OrNull(attempt.ttft_ms)},
                      {"ended_ms", attempt.ended_ms},
                      {"text_begin", attempt.text_begin},
                      {"text_end", attempt.text_end},
                      {"egress", nullptr}};
  if (attempt.failure) object["failure"] = FailureCodeName(*attempt.failure);
  if (attempt.retry_after) object["retry_after_ms"] = attempt.retry_after->count();
  if (attempt.egress) {
    object["egress"] = {{"destination", attempt.egress->destination},
                        {"bytes", attempt.egress->n_bytes},
                        {"sha256", attempt.egress->sha256}};
  }
  return object;
}

}  // namespace

std::string FormatTimeMs(int64_t unix_ms) {
  const std::chrono::sys_time<std::chrono::milliseconds> time{std::chrono::milliseconds(unix_ms)};
  const auto days = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day day(days);
  const std::chrono::hh_mm_ss clock(time - days);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", static_cast<int>(day.year()),
                     static_cast<unsigned>(day.month()), static_cast<unsigned>(day.day()),
                     clock.hours().count(), clock.minutes().count(), clock.seconds().count(),
                     clock.subseconds().count());
}

std::string RecordToJson(const UsageRecord& record) {
  json::array attempts;
  for (const PricedAttempt& priced : record.attempts) attempts.push_back(ToJson(priced));
  json::object object{{"request_id", record.request_id},
                      {"client_request_id", TextOrNull(record.client_request_id)},
                      {"started_at", FormatTimeMs(record.started_at_ms)},
                      {"key_id", record.key_id},
                      {"account", record.account},
                      {"subject_digest", TextOrNull(record.subject_digest)},
                      {"requested_model", record.requested_model},
                      {"strategy", record.strategy},
                      {"strategy_version", record.strategy_version},
                      {"privacy", PrivacyName(record.privacy)},
                      {"stream", record.streamed},
                      {"outcome", OutcomeName(record)},
                      {"failed", record.failure.has_value()},
                      {"client_gone", record.client_gone},
                      {"target", TextOrNull(record.target)},
                      {"model", TextOrNull(record.model)},
                      {"tier", record.tier ? json::value(TierName(*record.tier)) : nullptr},
                      {"usage", ToJson(record.usage)},
                      {"cost_usd", FormatUsd(record.cost)},
                      {"reference_cost_usd", FormatUsd(record.reference)},
                      {"unpriced", record.unpriced},
                      {"ttft_ms", OrNull(record.ttft_ms)},
                      {"e2e_ms", record.e2e_ms},
                      {"itl_ms", nullptr},
                      {"attempts", std::move(attempts)},
                      {"decision", Embed(record.decision_json)},
                      {"decision_dropped", record.trimmed},
                      {"receipt", Embed(record.receipt_json)}};
  if (record.itl) {
    object["itl_ms"] = {
        {"p50", record.itl->p50_ms}, {"p95", record.itl->p95_ms}, {"max", record.itl->max_ms}};
  }
  return json::serialize(object);
}

}  // namespace tandem::gateway::usage
