// What a routed request runs by. Private to gateway/dispatch.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "gateway/dispatch/incoming.h"
#include "gateway/dispatch/routed_request.h"
#include "gateway/dispatch/target_health.h"
#include "gateway/privacy/conversations.h"
#include "gateway/relay/relay.h"
#include "gateway/router/canary.h"
#include "gateway/router/record.h"

namespace tandem::gateway::dispatch {

class CanaryControl;

struct RunPlan {
  struct Health {
    std::shared_ptr<TargetHealth> health;
    std::chrono::milliseconds slow_after{0};
    bool forced = false;  // called in spite of its breaker
  };

  Incoming incoming;
  DecisionRecord record;
  std::string table_digest;
  std::vector<relay::Candidate> candidates;
  std::vector<Health> health;  // of the candidates
  relay::Options options;
  std::shared_ptr<relay::RetryBudget> retry_budget;  // options' own
  std::optional<bool> canary;  // which arm of the roll-out it counts for; empty: none

  const Clock* clock = nullptr;
  CanaryControl* canary_control = nullptr;
  RecordSink* records = nullptr;                    // may be null
  privacy::Conversations* conversations = nullptr;  // may be null
  privacy::Conversations::Fingerprint fingerprint;  // meaningful where it is not
  std::function<double()> random;
};

// The record of a request that nobody answered. `decision`: null where it did not come to one.
usage::UsageRecord RefusalRecord(const Incoming& incoming, const DecisionRecord* decision,
                                 std::string_view table_digest, const Failure& failure,
                                 const Clock& clock);

}  // namespace tandem::gateway::dispatch
