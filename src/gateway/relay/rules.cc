#include "gateway/relay/rules.h"

#include <algorithm>
#include <array>

namespace tandem::gateway::relay {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kFirstRetryDelay{250};

// The most telling first; what is not listed comes last.
constexpr std::array kTelling = {
    FailureCode::kInvalidRequest,
    FailureCode::kBudgetExceeded,
    FailureCode::kCancelled,
    FailureCode::kOutOfMemory,
    FailureCode::kNpuContextCreateFailed,
    FailureCode::kOutputValidationFailed,
    FailureCode::kContextLengthExceeded,
    FailureCode::kPayloadTooLarge,
    FailureCode::kRateLimited,
    FailureCode::kDeadlineExceeded,
    FailureCode::kQuotaExhausted,
    FailureCode::kCredentialRejected,
    FailureCode::kUnavailable,
    FailureCode::kModelNotInstalled,
    FailureCode::kUnsupported,
};

}  // namespace

bool EndsAnswer(FailureCode code) {
  switch (code) {
    case FailureCode::kInvalidRequest:
    case FailureCode::kUnauthenticated:
    case FailureCode::kPermissionDenied:
    case FailureCode::kNotFound:
    case FailureCode::kMethodNotAllowed:
    case FailureCode::kCancelled:
    case FailureCode::kBudgetExceeded:
      return true;
    // One provider's: its window, its memory, its account, what it can do.
    case FailureCode::kUnsupported:
    case FailureCode::kContextLengthExceeded:
    case FailureCode::kPrivacyRefused:
    case FailureCode::kModelNotFound:
    case FailureCode::kModelNotInstalled:
    case FailureCode::kPayloadTooLarge:
    case FailureCode::kRateLimited:
    case FailureCode::kOutOfMemory:
    case FailureCode::kNpuContextCreateFailed:
    case FailureCode::kOutputValidationFailed:
    case FailureCode::kDeadlineExceeded:
    case FailureCode::kShuttingDown:
    case FailureCode::kUnavailable:
    case FailureCode::kCredentialRejected:
    case FailureCode::kQuotaExhausted:
    case FailureCode::kInternal:
      return false;
  }
  return false;
}

bool MayRetry(FailureCode code) {
  return code == FailureCode::kUnavailable || code == FailureCode::kRateLimited ||
         code == FailureCode::kInternal;
}

milliseconds RetryDelay(int retry, const Failure& failure, double random) {
  if (failure.retry_after) return std::max(*failure.retry_after, milliseconds(0));
  // Beyond this many doublings the cap holds in any case.
  const int doublings = std::clamp(retry, 0, 10);
  const milliseconds most = std::min(kFirstRetryDelay * (1 << doublings), kMaxRetryDelay);
  return milliseconds(static_cast<int64_t>(static_cast<double>(most.count()) * random));
}

Failure MostTelling(std::span<const Failure> failures) {
  const auto rank = [](const Failure& failure) {
    return std::ranges::find(kTelling, failure.code) - kTelling.begin();
  };
  // Of equals the last: it is about the last candidate tried.
  const Failure* best = &failures.front();
  for (const Failure& failure : failures) {
    if (rank(failure) <= rank(*best)) best = &failure;
  }
  Failure result = *best;
  for (const Failure& failure : failures) {
    if (!failure.retry_after) continue;
    result.retry_after =
        std::min(result.retry_after.value_or(*failure.retry_after), *failure.retry_after);
  }
  return result;
}

}  // namespace tandem::gateway::relay
