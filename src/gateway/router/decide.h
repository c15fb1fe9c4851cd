// Charter of gateway/router: which providers may answer a request, in which order and why. It may
// include base, provider, classify and metrics. Everything in it is pure: facts, time and
// randomness are arguments, so that a decision can be explained without a run and replayed from its
// record. Deliberately absent: calling anybody (gateway/relay), configuration files (app/).
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "gateway/router/policy.h"

namespace tandem::gateway {

// The order of questions, each of which can only remove targets or change their order:
//   1. the model that the client named; 2. what its key allows; 3. the privacy contract;
//   4. mode; 5. hard facts: installed, enabled, tools, images, window, memory, queue, battery,
//   heat,
//      credentials; 6. the request's own limits on time and money; 7. breakers;
//   8. the strategy's first matching rule, traffic splits, and what the conversation is pinned to.
// Where breakers alone leave nothing, the least bad target is tried: cloud first, then device.
//   states: one for each of strategy.targets, in that order (TANDEM_CHECK)
// Cost: linear in targets and rules; no allocation beyond the result.
Decision Decide(const Strategy& strategy, std::span<const TargetState> states,
                const DeviceState& device, const KeyPolicy& key, const RequestFacts& request);

// A number in [0, 1) that is the same for the same pair on every machine, and independent between
// salts: a subject keeps its place when a share grows.
double SubjectPosition(std::string_view salt, std::string_view subject);

}  // namespace tandem::gateway
