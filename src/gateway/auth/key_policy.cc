#include "gateway/auth/key_policy.h"

#include <algorithm>

namespace tandem::gateway::auth {
namespace {

constexpr size_t kMaxModels = 1000;
constexpr size_t kMaxModelBytes = 200;
constexpr std::string_view kPrivacies[] = {"any", "redacted", "on_device"};

bool IsModelName(std::string_view name) {
  // The comma separates names in the database and on the command line.
  return !name.empty() && name.size() <= kMaxModelBytes && std::ranges::none_of(name, [](char c) {
    return c == ',' || static_cast<unsigned char>(c) <= ' ' || c == '\x7F';
  });
}

}  // namespace

std::string_view BudgetPeriodName(BudgetPeriod period) {
  return period == BudgetPeriod::kMonth ? "month" : "total";
}

Result<BudgetPeriod> ParseBudgetPeriod(std::string_view name) {
  for (const BudgetPeriod period : {BudgetPeriod::kMonth, BudgetPeriod::kTotal}) {
    if (name == BudgetPeriodName(period)) return period;
  }
  return Err(ErrorCode::kInvalidArgument, "a budget is per month or total, not '{}'", name);
}

Status CheckKeyPolicy(const KeyPolicy& policy) {
  if (policy.models.size() > kMaxModels) {
    return Err(ErrorCode::kInvalidArgument,
               "a key names at most {} models; leave them out to allow all", kMaxModels);
  }
  for (const std::string& model : policy.models) {
    if (!IsModelName(model)) {
      return Err(ErrorCode::kInvalidArgument,
                 "'{}' is no model's name: 1 to {} bytes without commas, spaces and control "
                 "characters",
                 model, kMaxModelBytes);
    }
  }
  if (std::ranges::find(kPrivacies, policy.privacy) == std::end(kPrivacies)) {
    return Err(ErrorCode::kInvalidArgument,
               "unknown privacy '{}'; use one of any, redacted, on_device", policy.privacy);
  }
  if (!policy.device && !policy.cloud) {
    return Err(ErrorCode::kInvalidArgument,
               "a key without any tier cannot be used; allow device, cloud, or both");
  }
  if (!policy.chat && !policy.admin) {
    return Err(ErrorCode::kInvalidArgument,
               "a key without any scope cannot be used; give it chat, admin, or both");
  }
  if (policy.budget && policy.budget->limit_nano_usd <= 0) {
    return Err(ErrorCode::kInvalidArgument,
               "a budget is above zero; to keep a key from the cloud, allow the tier device only");
  }
  return {};
}

}  // namespace tandem::gateway::auth
