#include "fleet/deploy/ladder.h"

#include <algorithm>

namespace tandem::fleet {

LadderOutcome ClimbLadder(const LadderOptions& options, const LadderSteps& steps) {
  LadderOutcome outcome;
  std::chrono::milliseconds delay = options.first_delay;
  while (outcome.attempts < options.max_attempts) {
    ++outcome.attempts;
    Status tried = steps.try_accelerator();
    if (tried) {
      outcome.accelerated = true;
      outcome.last_error = {};
      return outcome;
    }
    outcome.reasons.push_back(tried.error().message);
    outcome.last_error = std::move(tried.error());
    if (outcome.last_error.code != ErrorCode::kUnavailable) return outcome;
    if (outcome.attempts == options.max_attempts) return outcome;
    ++outcome.resets;
    if (const Status reset = steps.reset(); !reset) {
      outcome.reasons.push_back(reset.error().message);
      return outcome;
    }
    const double share = 0.5 + steps.random() / 2;
    const std::chrono::milliseconds wait(
        static_cast<int64_t>(share * static_cast<double>(delay.count())));
    if (!steps.wait(wait)) return outcome;
    delay = std::min(2 * delay, options.max_delay);
  }
  return outcome;
}

int ReducedBatchSize(int batch_size) { return std::max(1, batch_size / 2); }

}  // namespace tandem::fleet
