// What a failure means for an answer that other providers could give. Pure.
#pragma once

#include <chrono>
#include <span>

#include "gateway/provider/failure.h"

namespace tandem::gateway::relay {

// No other candidate could do better: the request itself is wrong or unwanted.
bool EndsAnswer(FailureCode code);

// The same candidate may do better in a moment.
bool MayRetry(FailureCode code);

// Before retry number `retry` (0: the first): full jitter over 250 ms x 2^retry, at most 8 s; or
// what the provider asked for. `random` in [0, 1).
std::chrono::milliseconds RetryDelay(int retry, const Failure& failure, double random);

// Nobody waits longer than this for a retry: another candidate, or the client, does better.
inline constexpr std::chrono::milliseconds kMaxRetryDelay{8000};

// The one to report of several, not empty: the one that says most about what to do. It has the
// shortest retry_after of all.
Failure MostTelling(std::span<const Failure> failures);

}  // namespace tandem::gateway::relay
