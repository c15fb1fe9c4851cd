#include "gateway/usage/metrics.h"

#include <vector>

namespace tandem::gateway::usage {
namespace {

using metrics::Counter;
using metrics::Labels;
using metrics::Registry;
using metrics::SharedHistogram;

// vLLM's buckets, in seconds.
std::vector<double> FirstTokenBounds() {
  return {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,  0.25,  0.5,   0.75,
          1.0,   2.5,   5.0,  7.5,  10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0};
}
std::vector<double> InterTokenBounds() {
  return {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2,  0.3,  0.4, 0.5,
          0.75, 1.0,   2.5,  5.0,   7.5, 10.0, 20.0, 40.0, 80.0};
}
std::vector<double> WholeRequestBounds() {
  return {0.3,  0.5,  0.8,  1.0,  1.5,  2.0,   2.5,   5.0,   10.0,   15.0,  20.0,
          30.0, 40.0, 50.0, 60.0, 120., 240.0, 480.0, 960.0, 1920.0, 7680.0};
}

// Why an attempt did not give the whole answer, in one word.
std::string_view ReasonOf(const Attempt& attempt) {
  if (attempt.failure) return FailureCodeName(*attempt.failure);
  return attempt.outcome == AttemptOutcome::kSkipped ? "breaker_open" : "unknown";
}

uint64_t Unsigned(int64_t value) { return value > 0 ? static_cast<uint64_t>(value) : 0; }

}  // namespace

// The figures of one model in one tier; those with a further label are found when they are needed.
struct UsageMetrics::PerModel {
  PerModel(Registry* registry, std::string_view tier, std::string_view model)
      : labels{{"tier", std::string(tier)}, {"model", std::string(model)}},
        first_token(registry->GetHistogram("tandem_time_to_first_token_seconds",
                                           "Time from a request's arrival to its first token",
                                           FirstTokenBounds(), labels)),
        inter_token(registry->GetHistogram("tandem_inter_token_latency_seconds",
                                           "Time between two pieces of an answer",
                                           InterTokenBounds(), labels)),
        whole_request(registry->GetHistogram("tandem_e2e_request_latency_seconds",
                                             "Time of requests that came to their end",
                                             WholeRequestBounds(), labels)),
        prompt_tokens(registry->GetCounter("tandem_prompt_tokens_total",
                                           "Tokens of prompts, of every provider call", labels)),
        cached_tokens(registry->GetCounter("tandem_prompt_tokens_cached_total",
                                           "Those of them that came from a cache", labels)),
        generation_tokens(registry->GetCounter("tandem_generation_tokens_total",
                                               "Generated tokens, of every provider call", labels)),
        cost(registry->GetCounter("tandem_cost_nano_usd_total",
                                  "Cost of every provider call, in billionths of a US dollar",
                                  labels)) {}

  Labels With(std::string_view name, std::string_view value) const {
    Labels all = labels;
    all.emplace_back(name, value);
    return all;
  }

  const Labels labels;
  SharedHistogram& first_token;
  SharedHistogram& inter_token;
  SharedHistogram& whole_request;
  Counter& prompt_tokens;
  Counter& cached_tokens;
  Counter& generation_tokens;
  Counter& cost;
};

UsageMetrics::UsageMetrics(Registry* registry)
    : registry_(registry),
      client_disconnects_(registry->GetCounter("tandem_client_disconnects_total",
                                               "Requests whose client left before their end")),
      reference_cost_(registry->GetCounter(
          "tandem_reference_cost_nano_usd_total",
          "What the cloud alone would have cost, in billionths of a US dollar")),
      unpriced_(registry->GetCounter("tandem_unpriced_requests_total",
                                     "Requests that used a model without a price")) {}

UsageMetrics::~UsageMetrics() = default;

UsageMetrics::PerModel& UsageMetrics::Find(std::string_view tier, std::string_view model) {
  std::lock_guard lock(mutex_);
  if (!known_models_.contains(model)) {
    if (known_models_.size() < kMaxModels) {
      known_models_.emplace(model);
    } else {
      model = "other";
    }
  }
  std::unique_ptr<PerModel>& found = models_[{std::string(tier), std::string(model)}];
  if (found == nullptr) found = std::make_unique<PerModel>(registry_, tier, model);
  return *found;
}

void UsageMetrics::Observe(const UsageRecord& record, const InterTokenTimes& gaps) {
  const std::string_view outcome = OutcomeName(record);
  PerModel& answered =
      record.tier ? Find(TierName(*record.tier), record.model) : Find("none", "none");
  registry_
      ->GetCounter("tandem_requests_total", "Requests by where their answer came from",
                   answered.With("outcome", outcome))
      .Add();
  if (record.attempts.empty() && record.failure) {
    registry_
        ->GetCounter("tandem_refusals_total", "Requests that no provider was asked for",
                     {{"reason", std::string(outcome)}})
        .Add();
  }
  if (record.client_gone) client_disconnects_.Add();
  if (record.unpriced) unpriced_.Add();
  reference_cost_.Add(Unsigned(record.reference));

  if (record.ttft_ms) answered.first_token.Add(*record.ttft_ms / 1000);
  if (!record.failure && !record.client_gone) answered.whole_request.Add(record.e2e_ms / 1000);
  for (int i = 0; i < InterTokenTimes::kBuckets; ++i) {
    for (uint32_t n = gaps.bucket(i); n > 0; --n) {
      answered.inter_token.Add(InterTokenTimes::MiddleOf(i) / 1000);
    }
  }

  for (size_t i = 0; i < record.attempts.size(); ++i) {
    const Attempt& attempt = record.attempts[i].attempt;
    PerModel& of = Find(TierName(attempt.tier), attempt.model);
    registry_
        ->GetCounter("tandem_provider_calls_total", "Calls of providers by how they ended",
                     of.With("outcome", AttemptOutcomeName(attempt.outcome)))
        .Add();
    const Usage usage = Sane(attempt.usage);
    of.prompt_tokens.Add(Unsigned(usage.prompt_tokens));
    of.cached_tokens.Add(Unsigned(usage.cached_tokens));
    of.generation_tokens.Add(Unsigned(usage.completion_tokens));
    of.cost.Add(Unsigned(record.attempts[i].cost.value_or(0)));
    if (attempt.outcome == AttemptOutcome::kHandedOff) {
      registry_
          ->GetCounter("tandem_handoffs_total", "Answers that another provider continued",
                       of.With("reason", ReasonOf(attempt)))
          .Add();
    }
    const bool gave_nothing =
        attempt.outcome == AttemptOutcome::kFailed || attempt.outcome == AttemptOutcome::kSkipped;
    if (gave_nothing && i + 1 < record.attempts.size()) {
      registry_
          ->GetCounter("tandem_fallbacks_total", "Calls in vain that were followed by another",
                       of.With("reason", ReasonOf(attempt)))
          .Add();
    }
  }
}

void UsageMetrics::AddBreaker(std::string_view target, std::function<std::string_view()> read) {
  registry_->AddGaugeFunction("tandem_breaker_state", "0 closed, 1 half-open, 2 open",
                              {{"target", std::string(target)}}, [read = std::move(read)] {
                                const std::string_view state = read();
                                if (state == "closed") return 0.0;
                                if (state == "half_open") return 1.0;
                                return state == "open" ? 2.0 : -1.0;
                              });
}

}  // namespace tandem::gateway::usage
