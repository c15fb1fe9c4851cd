#include "engine/session/degeneration.h"

#include <algorithm>

#include <fmt/core.h>

namespace tandem::session {

std::optional<Degeneration> TailPeriodDetector::Push(int32_t id) {
  const auto at = static_cast<size_t>(n_tokens_ % kMaxPeriod);
  // window[kMaxPeriod - p] is the token p before this one.
  const int32_t* window = recent_.data() + at;
  const auto n_periods = static_cast<int>(std::min<int64_t>(n_tokens_, kMaxPeriod));
  for (int p = 1; p <= n_periods; ++p) {
    int32_t& matches = matches_[static_cast<size_t>(p - 1)];
    matches = window[kMaxPeriod - p] == id ? matches + 1 : 0;
  }
  recent_[at] = id;
  recent_[at + kMaxPeriod] = id;
  ++n_tokens_;

  // m matches at distance p make a tail of m + p tokens of period p.
  for (int p = 1; p <= n_periods; ++p) {
    const int32_t tail = matches_[static_cast<size_t>(p - 1)] + p;
    if (tail >= kMinCopies * p && tail >= kMinTokens) {
      return Degeneration{
          .check = "tail_period",
          .figure = fmt::format("the last {} tokens repeat a cycle of {}", tail, p)};
    }
  }
  return std::nullopt;
}

}  // namespace tandem::session
