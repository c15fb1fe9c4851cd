#include "gateway/usage/money.h"

#include <fmt/format.h>

namespace tandem::gateway::usage {

std::string FormatUsd(NanoUsd amount) {
  // The magnitude as unsigned: the smallest int64 has no positive counterpart.
  const bool negative = amount < 0;
  const uint64_t nano = negative ? -static_cast<uint64_t>(amount) : static_cast<uint64_t>(amount);
  std::string text =
      fmt::format("{}{}.{:09}", negative ? "-" : "", nano / kNanoPerUsd, nano % kNanoPerUsd);
  const size_t shortest = text.size() - 7;  // two decimals stay
  while (text.size() > shortest && text.back() == '0') text.pop_back();
  return text;
}

}  // namespace tandem::gateway::usage
