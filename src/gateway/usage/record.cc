#include "gateway/usage/record.h"

#include <algorithm>

namespace tandem::gateway::usage {

std::string_view FinishReasonName(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kContentFilter:
      return "content_filter";
    case FinishReason::kDegenerate:
      return "degenerate";
  }
  return "unknown";
}

Usage Sane(const Usage& usage) {
  constexpr int64_t kMost = 100'000'000;
  const int64_t prompt = std::clamp<int64_t>(usage.prompt_tokens, 0, kMost);
  return {prompt, std::clamp<int64_t>(usage.completion_tokens, 0, kMost),
          std::clamp<int64_t>(usage.cached_tokens, 0, prompt)};
}

std::optional<InterTokenSummary> Summarise(const InterTokenTimes& times) {
  if (times.count() == 0) return std::nullopt;
  return InterTokenSummary{times.Quantile(0.5), times.Quantile(0.95), times.max_ms()};
}

std::string_view OutcomeName(const UsageRecord& record) {
  if (record.failure) return FailureCodeName(*record.failure);
  // A record without either is a caller's mistake, and still has to be found in the sums.
  return record.finish_reason ? FinishReasonName(*record.finish_reason) : "unknown";
}

}  // namespace tandem::gateway::usage
