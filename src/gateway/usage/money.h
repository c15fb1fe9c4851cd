// Amounts of money as whole billionths of a US dollar, so that sums are exact whatever their order.
#pragma once

#include <cstdint>
#include <limits>
#include <string>

namespace tandem::gateway::usage {

// 10^-9 USD. One token at 0.28 USD per million tokens costs 280. An int64 holds 9.2 billion USD.
using NanoUsd = int64_t;
inline constexpr NanoUsd kNanoPerUsd = 1'000'000'000;

// At the ends of the range instead of beyond it.
inline NanoUsd SaturatingAdd(NanoUsd a, NanoUsd b) {
  NanoUsd sum = 0;
  if (!__builtin_add_overflow(a, b, &sum)) return sum;
  return b > 0 ? std::numeric_limits<NanoUsd>::max() : std::numeric_limits<NanoUsd>::min();
}

// "12.50", "0.000000280", "-3.00": all the digits that are not zero, and at least two decimals.
std::string FormatUsd(NanoUsd amount);

}  // namespace tandem::gateway::usage
