#include "gateway/relay/retry_budget.h"

#include <algorithm>

namespace tandem::gateway::relay {

void RetryBudget::OnRequest() {
  std::lock_guard lock(mutex_);
  Add(options_.share);
}

bool RetryBudget::TryTake() {
  std::lock_guard lock(mutex_);
  Refill();
  // A tenth added ten times is a little less than one.
  constexpr double kRounding = 1e-9;
  if (tokens_ < 1 - kRounding) return false;
  tokens_ = std::max(0.0, tokens_ - 1);
  return true;
}

void RetryBudget::Add(double tokens) { tokens_ = std::min(options_.burst, tokens_ + tokens); }

void RetryBudget::Refill() {
  const SteadyTime now = clock_->Now();
  Add(MillisecondsBetween(refilled_, now) / 1000 * options_.per_second);
  refilled_ = now;
}

}  // namespace tandem::gateway::relay
