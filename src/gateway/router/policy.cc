#include "gateway/router/policy.h"

#include <algorithm>
#include <array>

#include <fmt/ranges.h>

namespace tandem::gateway {
namespace {

constexpr std::array<std::string_view, 4> kModeNames = {"PREFER_ON_DEVICE", "ONLY_ON_DEVICE",
                                                        "PREFER_IN_CLOUD", "ONLY_IN_CLOUD"};

std::unexpected<Error> Invalid(std::string message, std::string param) {
  return std::unexpected(Error{ErrorCode::kInvalidArgument, std::move(message), std::move(param)});
}

bool HasTarget(const Strategy& strategy, std::string_view id) {
  return std::ranges::any_of(strategy.targets, [&](const Target& t) { return t.id == id; });
}

}  // namespace

std::string_view ModeName(Mode mode) { return kModeNames[static_cast<size_t>(mode)]; }
Result<Mode> ParseMode(std::string_view name) {
  const auto* found = std::ranges::find(kModeNames, name);
  if (found != kModeNames.end()) return static_cast<Mode>(found - kModeNames.begin());
  return Err(ErrorCode::kInvalidArgument, "unknown mode '{}'; use one of {}", name,
             fmt::join(kModeNames, ", "));
}

Status Validate(const Strategy& strategy) {
  if (strategy.targets.empty()) return Invalid("a strategy needs at least one target", "targets");
  for (size_t i = 0; i < strategy.targets.size(); ++i) {
    const Target& target = strategy.targets[i];
    const std::string field = fmt::format("targets[{}]", i);
    if (target.id.empty()) return Invalid("a target needs an id", field + ".id");
    if (target.model.empty()) return Invalid("a target needs a model", field + ".model");
    for (size_t j = 0; j < i; ++j) {
      if (strategy.targets[j].id == target.id) {
        return Invalid(fmt::format("two targets are called '{}'", target.id), field + ".id");
      }
    }
  }
  for (size_t i = 0; i < strategy.rules.size(); ++i) {
    const Rule& rule = strategy.rules[i];
    const std::string field = fmt::format("rules[{}]", i);
    if (rule.name.empty()) return Invalid("a rule needs a name", field + ".name");
    if (rule.targets.empty()) return Invalid("a rule needs a target", field + ".targets");
    for (const std::string& id : rule.targets) {
      if (!HasTarget(strategy, id)) {
        return Invalid(fmt::format("rule '{}' names the target '{}', which is not in the strategy",
                                   rule.name, id),
                       field + ".targets");
      }
    }
  }
  double shares = 0;
  for (size_t i = 0; i < strategy.splits.size(); ++i) {
    const TrafficSplit& split = strategy.splits[i];
    const std::string field = fmt::format("splits[{}]", i);
    if (!HasTarget(strategy, split.target)) {
      return Invalid(fmt::format("no target is called '{}'", split.target), field + ".target");
    }
    if (!(split.share >= 0 && split.share <= 1)) {
      return Invalid("a share lies between 0 and 1", field + ".share");
    }
    shares += split.share;
  }
  if (shares > 1 + 1e-9) return Invalid("the shares of all splits exceed 1", "splits");
  return {};
}

}  // namespace tandem::gateway
