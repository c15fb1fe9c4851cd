// What a virtual key allows. Plain values: the gateway turns them into what gateway/router decides
// by.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace tandem::gateway::auth {

enum class BudgetPeriod { kMonth, kTotal };  // a calendar month, UTC

// "month", "total". ParseBudgetPeriod: kInvalidArgument with both names.
std::string_view BudgetPeriodName(BudgetPeriod period);
Result<BudgetPeriod> ParseBudgetPeriod(std::string_view name);

struct Budget {
  int64_t limit_nano_usd = 0;  // billionths of a US dollar
  BudgetPeriod period = BudgetPeriod::kMonth;

  friend bool operator==(const Budget&, const Budget&) = default;
};

struct KeyPolicy {
  std::vector<std::string> models;  // empty: all
  bool device = true;               // the tiers that may answer
  bool cloud = true;
  std::string privacy = "any";  // at the least: "any", "redacted" or "on_device"
  std::optional<Budget> budget;
  bool chat = true;                   // scope: the public API
  bool admin = false;                 // scope: the admin API
  std::optional<int64_t> expires_at;  // seconds since 1970; refused from then on

  friend bool operator==(const KeyPolicy&, const KeyPolicy&) = default;
};

// Errors: kInvalidArgument, with what to write, for a model's name that is empty, above 200 bytes
// or holds a comma, a space or a control character; for an unknown privacy; for no tier, no scope,
// or a budget that is not above zero.
Status CheckKeyPolicy(const KeyPolicy& policy);

}  // namespace tandem::gateway::auth
