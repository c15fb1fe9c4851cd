// How many retries all requests together may make, so that a failing upstream gets a tenth more
// traffic and not several times as much.
#pragma once

#include <mutex>

#include "base/clock.h"

namespace tandem::gateway::relay {

struct RetryBudgetOptions {
  double share = 0.1;  // retries a request
  double burst = 10;   // at most so many are saved up
  // A server with little traffic may retry too: this many a second come on top.
  double per_second = 0.1;

  friend bool operator==(const RetryBudgetOptions&, const RetryBudgetOptions&) = default;
};

// A bucket of retries, full at the start. Thread: any.
class RetryBudget {
 public:
  // `clock` outlives it.
  explicit RetryBudget(const Clock* clock, RetryBudgetOptions options = {})
      : options_(options), clock_(clock), tokens_(options.burst), refilled_(clock->Now()) {}

  // Once for every request that comes in. The relay calls it.
  void OnRequest();
  // Takes one; false where none is left.
  bool TryTake();

 private:
  void Add(double tokens);  // mutex_ is held
  void Refill();            // mutex_ is held

  const RetryBudgetOptions options_;
  const Clock* const clock_;
  std::mutex mutex_;
  double tokens_;        // guarded by mutex_
  SteadyTime refilled_;  // guarded by mutex_
};

}  // namespace tandem::gateway::relay
