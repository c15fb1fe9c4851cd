// Prometheus figures, made from the same records as bills and dashboards, so that they agree.
// Names and shapes are vLLM's where there is one, with the prefix tandem_: times in seconds, its
// buckets.
//
//   tandem_requests_total{tier,model,outcome}        where the answer came from ("none": nobody's)
//   tandem_refusals_total{reason}                    requests that no provider was asked for
//   tandem_client_disconnects_total
//   tandem_time_to_first_token_seconds{tier,model}   tandem_inter_token_latency_seconds{tier,model}
//   tandem_e2e_request_latency_seconds{tier,model}   of answers that came to their end
//   tandem_provider_calls_total{tier,model,outcome}
//   tandem_prompt_tokens_total, tandem_prompt_tokens_cached_total, tandem_generation_tokens_total,
//   tandem_cost_nano_usd_total{tier,model}           of every call, also of those in vain
//   tandem_reference_cost_nano_usd_total             of the cloud alone; less cost: the savings
//   tandem_unpriced_requests_total                   whose cost is not wholly known
//   tandem_handoffs_total{tier,model,reason}         whose answer another provider continued
//   tandem_fallbacks_total{tier,model,reason}        that gave nothing of the answer, where another
//                                                    provider was asked next
//   tandem_breaker_state{target}                     0 closed, 1 half-open, 2 open
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "gateway/usage/inter_token_times.h"
#include "gateway/usage/record.h"
#include "metrics/registry.h"

namespace tandem::gateway::usage {

// Thread: any.
class UsageMetrics {
 public:
  // Model names beyond so many are counted as "other": configuration bounds them, and a mistake in
  // it must not fill a monitoring system.
  static constexpr size_t kMaxModels = 64;

  explicit UsageMetrics(metrics::Registry* registry);
  ~UsageMetrics();

  // A record that has its prices (PriceRecord), and the gaps between the pieces of its answer. To
  // be called once for each record. Cost: about a microsecond, and 10 ns for each piece of the
  // answer.
  void Observe(const UsageRecord& record, const InterTokenTimes& gaps);

  // `read` gives "closed", "half_open" or "open" when the figures are asked for; anything else
  // reads as -1. `target` is configuration's. `read` must stay callable as long as the registry.
  void AddBreaker(std::string_view target, std::function<std::string_view()> read);

 private:
  struct PerModel;
  PerModel& Find(std::string_view tier, std::string_view model);

  metrics::Registry* const registry_;
  metrics::Counter& client_disconnects_;
  metrics::Counter& reference_cost_;
  metrics::Counter& unpriced_;

  std::mutex mutex_;  // guards all below
  std::map<std::pair<std::string, std::string>, std::unique_ptr<PerModel>> models_;
  std::set<std::string, std::less<>> known_models_;
};

}  // namespace tandem::gateway::usage
