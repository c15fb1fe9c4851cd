#include "gateway/router/decide.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "base/check.h"

namespace tandem::gateway {
namespace {

bool OnDevice(const Target& target) { return target.tier != Tier::kCloud; }

bool Answers(const Target& target, std::string_view model) {
  return target.model == model || std::ranges::find(target.aliases, model) != target.aliases.end();
}

// What is known before any target is looked at.
struct Context {
  const Strategy& strategy;
  const DeviceState& device;
  const KeyPolicy& key;
  const RequestFacts& request;
  Mode mode;
  Privacy privacy;
  bool explicit_model;  // the client named a target, not the strategy
};

// Mode and privacy of one target: a model may be stricter than the request.
Privacy StrictestFor(const Context& context, const Target& target) {
  return std::max(context.privacy, target.privacy);
}

std::optional<Rejection> Reject(const Target& target, std::string reason, std::string detail) {
  return Rejection{target.id, std::move(reason), std::move(detail)};
}

// Questions 1 to 5 of decide.h, in their order. Nothing: the target may answer.
std::optional<Rejection> RejectByPolicy(const Context& context, const Target& target) {
  const KeyPolicy& key = context.key;
  const bool may_fall_back =
      context.strategy.fall_back_from_explicit_model && context.request.may_fall_back;
  if (context.explicit_model && !may_fall_back && !Answers(target, context.request.model)) {
    return Reject(target, "other_model",
                  "the request names another model and no fallback from it is allowed");
  }
  if (!key.models.empty() && std::ranges::find(key.models, target.model) == key.models.end()) {
    return Reject(target, "key_policy",
                  fmt::format("the key does not allow the model '{}'", target.model));
  }
  if (OnDevice(target) ? !key.device : !key.cloud) {
    return Reject(
        target, "key_policy",
        fmt::format("the key does not allow {} tiers", OnDevice(target) ? "device" : "cloud"));
  }
  if (!OnDevice(target) && StrictestFor(context, target) == Privacy::kOnDevice) {
    return Reject(target, "privacy", "the privacy contract keeps this conversation on the device");
  }
  if (!OnDevice(target) && context.mode == Mode::kOnlyOnDevice) {
    return Reject(target, "mode", "the mode is ONLY_ON_DEVICE");
  }
  if (OnDevice(target) && context.mode == Mode::kOnlyInCloud) {
    return Reject(target, "mode", "the mode is ONLY_IN_CLOUD");
  }
  return std::nullopt;
}

std::optional<Rejection> RejectByFacts(const Context& context, const Target& target,
                                       const TargetState& state) {
  const RequestFacts& request = context.request;
  if (!state.enabled) {
    return Reject(target, "disabled",
                  state.remedy.empty() ? "the target is switched off" : state.remedy);
  }
  if (!state.installed) {
    return Reject(target, "not_installed",
                  state.remedy.empty()
                      ? fmt::format("install it with 'tandem pull {}'", target.model)
                      : state.remedy);
  }
  if (state.credential_rejected) {
    return Reject(target, "credential",
                  "the provider refused our key or its quota is spent; set another key");
  }
  if (request.needs_tools && !target.tools) {
    return Reject(target, "no_tools", "the request has tools and the model cannot call any");
  }
  if (request.needs_images && !target.images) {
    return Reject(target, "no_images", "the request has images and the model cannot see");
  }
  if (target.context_tokens > 0 && request.prompt_tokens >= target.context_tokens) {
    return Reject(target, "context",
                  fmt::format("the prompt has about {} tokens, the window {}",
                              request.prompt_tokens, target.context_tokens));
  }
  if (state.memory_wanted_bytes && state.memory_free_bytes &&
      *state.memory_wanted_bytes > *state.memory_free_bytes) {
    return Reject(target, "memory",
                  fmt::format("it needs {} bytes and {} are free", *state.memory_wanted_bytes,
                              *state.memory_free_bytes));
  }
  if (state.queue_full) return Reject(target, "queue_full", "too many requests wait for it");
  // A request that must stay on the device is served there as long as that is possible at all.
  const bool must_be_device =
      StrictestFor(context, target) == Privacy::kOnDevice || context.mode == Mode::kOnlyOnDevice;
  if (OnDevice(target) && !must_be_device) {
    if (context.device.hot) return Reject(target, "hot", "the device is too hot");
    if (context.device.battery_share &&
        *context.device.battery_share < context.strategy.min_battery_share) {
      return Reject(target, "battery",
                    fmt::format("the battery is at {:.0f} %", 100 * *context.device.battery_share));
    }
  }
  return std::nullopt;
}

Candidate Predict(const Context& context, const Target& target, const TargetState& state) {
  const RequestFacts& request = context.request;
  Candidate candidate;
  candidate.target = target.id;
  candidate.redact = !OnDevice(target) && StrictestFor(context, target) == Privacy::kRedacted;
  candidate.predicted_cost_usd = (request.prompt_tokens * target.input_usd_per_million +
                                  request.answer_tokens * target.output_usd_per_million) /
                                 1e6;
  if (state.prefill_tokens_per_second.value_or(0) > 0) {
    candidate.predicted_ttft_ms = state.queue_ms.value_or(0) + state.network_ms.value_or(0) +
                                  1e3 * request.prompt_tokens / *state.prefill_tokens_per_second;
  } else if (state.network_ms) {
    candidate.predicted_ttft_ms = state.queue_ms.value_or(0) + *state.network_ms;
  }
  if (candidate.predicted_ttft_ms && state.decode_tokens_per_second.value_or(0) > 0) {
    candidate.predicted_e2e_ms = *candidate.predicted_ttft_ms +
                                 1e3 * request.answer_tokens / *state.decode_tokens_per_second;
  }
  return candidate;
}

std::optional<Rejection> RejectByLimits(const Context& context, const Target& target,
                                        const Candidate& predicted) {
  const RequestFacts& request = context.request;
  const auto exceeds = [](std::optional<double> value, std::optional<double> limit) {
    return value && limit && *value > *limit;
  };
  if (exceeds(predicted.predicted_ttft_ms, request.max_ttft_ms)) {
    return Reject(target, "max_ttft",
                  fmt::format("its first token is expected after {:.0f} ms, {:.0f} are allowed",
                              *predicted.predicted_ttft_ms, *request.max_ttft_ms));
  }
  if (exceeds(predicted.predicted_e2e_ms, request.max_latency_ms)) {
    return Reject(target, "max_latency",
                  fmt::format("its answer is expected after {:.0f} ms, {:.0f} are allowed",
                              *predicted.predicted_e2e_ms, *request.max_latency_ms));
  }
  if (exceeds(predicted.predicted_cost_usd, request.max_cost_usd)) {
    return Reject(target, "max_cost",
                  fmt::format("it is expected to cost {:.6f} USD, {:.6f} are allowed",
                              predicted.predicted_cost_usd, *request.max_cost_usd));
  }
  if (exceeds(predicted.predicted_cost_usd, context.key.budget_left_usd)) {
    return Reject(target, "key_budget", "the key's budget does not cover it");
  }
  return std::nullopt;
}

bool Matches(const Rule& rule, const RequestFacts& request) {
  if (!rule.tasks.empty() && std::ranges::find(rule.tasks, request.task) == rule.tasks.end()) {
    return false;
  }
  if (rule.complex_reasoning && *rule.complex_reasoning != request.complex_reasoning) return false;
  if (rule.require_high_quality && *rule.require_high_quality != request.require_high_quality) {
    return false;
  }
  return !rule.min_prompt_tokens || request.prompt_tokens >= *rule.min_prompt_tokens;
}

// One place in the order that the strategy, the split, the pin and the explicit model want.
struct Wish {
  std::string target;
  std::string reason;
};

// Question 8: every target of the strategy once, best first.
std::vector<Wish> PreferredOrder(const Context& context) {
  const Strategy& strategy = context.strategy;
  const RequestFacts& request = context.request;
  std::vector<Wish> order;
  const auto append = [&](std::string_view target, std::string_view reason) {
    if (std::ranges::none_of(order, [&](const Wish& wish) { return wish.target == target; })) {
      order.push_back({std::string(target), std::string(reason)});
    }
  };
  // A canary stands before its baseline for the subjects that are in the roll-out, and answers
  // nobody else unless it is asked for by name.
  const auto add = [&](std::string_view target, std::string_view reason) {
    const bool canary = !request.canary_target.empty();
    if (canary && request.canary_assigned && target == request.canary_baseline) {
      append(request.canary_target, "canary");
      reason = "fallback";
    }
    if (canary && target == request.canary_target && reason != "explicit_model") return;
    append(target, reason);
  };
  if (context.explicit_model) {
    for (const Target& target : strategy.targets) {
      if (Answers(target, request.model)) add(target.id, "explicit_model");
    }
  } else {
    // Demanded quality overrides what the conversation used before; nothing else does.
    if (!request.pinned_target.empty() && !request.require_high_quality) {
      add(request.pinned_target, "pinned");
    }
    double position = SubjectPosition(strategy.name, request.subject);
    for (const TrafficSplit& split : strategy.splits) {
      if (position < split.share) {
        add(split.target, "split");
        break;
      }
      position -= split.share;
    }
  }
  const auto rule = std::ranges::find_if(
      strategy.rules, [&](const Rule& candidate) { return Matches(candidate, request); });
  if (rule != strategy.rules.end()) {
    for (size_t i = 0; i < rule->targets.size(); ++i) {
      add(rule->targets[i], order.empty() && i == 0 ? rule->name : "fallback");
    }
  }
  for (const Target& target : strategy.targets)
    add(target.id, order.empty() ? "default" : "fallback");
  // A preference by mode moves whole groups, and keeps the order inside each.
  if (context.explicit_model || context.mode != Mode::kPreferInCloud) return order;
  std::vector<Wish> cloud_first;
  for (const bool device : {false, true}) {
    for (const Wish& wish : order) {
      const auto target = std::ranges::find(strategy.targets, wish.target, &Target::id);
      const bool on_device = target != strategy.targets.end() && OnDevice(*target);
      if (on_device == device) cloud_first.push_back(wish);
    }
  }
  return cloud_first;
}

FailureCode FailureFor(std::string_view reason) {
  static constexpr std::pair<std::string_view, FailureCode> kCodes[] = {
      {"memory", FailureCode::kOutOfMemory},
      {"not_installed", FailureCode::kModelNotInstalled},
      {"context", FailureCode::kContextLengthExceeded},
      {"key_policy", FailureCode::kPermissionDenied},
      {"key_budget", FailureCode::kBudgetExceeded},
      {"max_cost", FailureCode::kBudgetExceeded},
      {"queue_full", FailureCode::kRateLimited},
      {"max_ttft", FailureCode::kDeadlineExceeded},
      {"max_latency", FailureCode::kDeadlineExceeded},
      {"no_tools", FailureCode::kUnsupported},
      {"no_images", FailureCode::kUnsupported},
  };
  for (const auto& [name, code] : kCodes) {
    if (name == reason) return code;
  }
  return FailureCode::kUnavailable;
}

// What the client is told when nobody may answer. The most wanted target that was not excluded by
// the request's own choice gives the code; the message lists them all.
void ExplainRefusal(double retry_after_s, Decision* decision) {
  decision->retry_after_s = retry_after_s;
  std::string reasons;
  bool refused_for_privacy = false;
  const Rejection* first = nullptr;
  for (const Rejection& rejection : decision->rejections) {
    reasons +=
        fmt::format("{}{}: {}", reasons.empty() ? "" : "; ", rejection.target, rejection.detail);
    refused_for_privacy |= rejection.reason == "privacy";
    const bool chosen = rejection.reason == "mode" || rejection.reason == "other_model" ||
                        rejection.reason == "privacy";
    if (!chosen && first == nullptr) first = &rejection;
  }
  // Only-on-device is a privacy contract too, where nothing on the device stands in the way.
  const bool kept_here = first == nullptr && decision->mode == Mode::kOnlyOnDevice;
  if (refused_for_privacy || kept_here) {
    decision->failure = FailureCode::kPrivacyRefused;
    decision->failure_message =
        "the privacy contract keeps this request on the device, which cannot serve it: " + reasons;
  } else {
    decision->failure = first ? FailureFor(first->reason) : FailureCode::kUnavailable;
    decision->failure_message = "no provider can answer: " + reasons;
  }
}

}  // namespace

double SubjectPosition(std::string_view salt, std::string_view subject) {
  // FNV-1a over both with a separator, then the finaliser of splitmix64 to spread the low entropy
  // of short names over all bits.
  uint64_t hash = 0xcbf29ce484222325;
  const auto mix = [&](std::string_view text) {
    for (const char c : text) {
      hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
    }
    hash = (hash ^ 0xFF) * 0x100000001b3;
  };
  mix(salt);
  mix(subject);
  hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9;
  hash = (hash ^ (hash >> 27)) * 0x94d049bb133111eb;
  hash ^= hash >> 31;
  return static_cast<double>(hash >> 11) * 0x1.0p-53;
}

Decision Decide(const Strategy& strategy, std::span<const TargetState> states,
                const DeviceState& device, const KeyPolicy& key, const RequestFacts& request) {
  TANDEM_CHECK(states.size() == strategy.targets.size());
  const bool explicit_model = std::ranges::any_of(
      strategy.targets, [&](const Target& target) { return Answers(target, request.model); });
  const Context context{strategy,
                        device,
                        key,
                        request,
                        request.mode.value_or(strategy.mode),
                        std::max({request.privacy, request.conversation_privacy, key.privacy}),
                        explicit_model};
  Decision decision;
  decision.privacy = context.privacy;
  decision.mode = context.mode;
  std::vector<Candidate> cooling;
  // Targets that only their breaker keeps out, with their failure share.
  struct Broken {
    Candidate candidate;
    bool device;
    double failure_share;
  };
  std::vector<Broken> broken;
  double retry_after_s = 0;

  for (const Wish& wish : PreferredOrder(context)) {
    const auto found = std::ranges::find(strategy.targets, wish.target, &Target::id);
    if (found == strategy.targets.end()) continue;  // pinned to a target of an older configuration
    const TargetState& state = states[static_cast<size_t>(found - strategy.targets.begin())];
    auto rejection = RejectByPolicy(context, *found);
    if (!rejection) rejection = RejectByFacts(context, *found, state);
    Candidate candidate = Predict(context, *found, state);
    candidate.reason = wish.reason;
    if (!rejection) rejection = RejectByLimits(context, *found, candidate);
    if (!rejection && state.breaker_open) {
      rejection =
          Reject(*found, "breaker_open",
                 fmt::format("it failed too often; next try in {:.0f} s", state.retry_after_s));
      broken.push_back({candidate, OnDevice(*found), state.failure_share});
    }
    if (rejection) {
      if (state.retry_after_s > 0) {
        retry_after_s =
            retry_after_s == 0 ? state.retry_after_s : std::min(retry_after_s, state.retry_after_s);
      }
      decision.rejections.push_back(std::move(*rejection));
    } else if (state.cooling_down) {
      cooling.push_back(std::move(candidate));
    } else {
      decision.candidates.push_back(std::move(candidate));
    }
  }
  std::ranges::move(cooling, std::back_inserter(decision.candidates));
  if (decision.candidates.empty() && !broken.empty()) {
    auto least_bad = std::ranges::min_element(
        broken, {}, [](const Broken& b) { return std::pair(b.device, b.failure_share); });
    least_bad->candidate.reason = "least_bad";
    std::erase_if(decision.rejections, [&](const Rejection& rejection) {
      return rejection.target == least_bad->candidate.target;
    });
    decision.candidates.push_back(std::move(least_bad->candidate));
  }
  if (!request.may_fall_back && decision.candidates.size() > 1) decision.candidates.resize(1);
  if (decision.candidates.empty()) ExplainRefusal(retry_after_s, &decision);
  return decision;
}

}  // namespace tandem::gateway
