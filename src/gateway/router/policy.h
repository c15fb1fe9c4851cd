// What a routing decision is made from, and what it is. Values only; decide.h makes one from the
// other.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "gateway/classify/task_class.h"
#include "gateway/provider/privacy.h"
#include "gateway/provider/provider.h"

namespace tandem::gateway {

// Firebase AI Logic's names.
enum class Mode { kPreferOnDevice, kOnlyOnDevice, kPreferInCloud, kOnlyInCloud };

// "PREFER_ON_DEVICE": the name in configuration and on the wire.
std::string_view ModeName(Mode mode);
// Errors: kInvalidArgument with the list of names.
Result<Mode> ParseMode(std::string_view name);

// One model at one provider, as the strategy lists it.
struct Target {
  std::string id;                    // unique in the strategy: "device-small"
  std::string model;                 // what clients name: "phi-4-mini"
  std::vector<std::string> aliases;  // and what else they call it
  Tier tier = Tier::kCloud;
  int32_t context_tokens = 0;  // window; 0: unknown, taken as large enough
  bool tools = true;
  bool images = false;
  Privacy privacy = Privacy::kAny;  // requests that this model takes at the least (its default)
  double input_usd_per_million = 0;
  double output_usd_per_million = 0;
};

// How one target is doing right now. Absent figures are unknown and never a reason to reject.
struct TargetState {
  bool installed = true;
  bool enabled = true;
  std::string remedy;  // where it is not installed or not enabled: what would change that
  bool breaker_open = false;
  double failure_share = 0;          // for the choice among open breakers
  bool cooling_down = false;         // a 429's Retry-After has not passed: sorted last
  bool credential_rejected = false;  // 401, 403 or 402 seen: off until it is changed
  double retry_after_s = 0;          // when a rejected target may be tried again
  bool queue_full = false;
  std::optional<uint64_t> memory_wanted_bytes;  // to serve it, beyond what it holds already
  std::optional<uint64_t> memory_free_bytes;
  std::optional<double> queue_ms;
  std::optional<double> network_ms;  // connect and first byte without the model's own time
  std::optional<double> prefill_tokens_per_second;
  std::optional<double> decode_tokens_per_second;
};

// The device as a whole.
struct DeviceState {
  std::optional<double> battery_share;  // 0..1, empty on mains
  bool hot = false;                     // the operating system asks to slow down
};

// What a virtual key allows.
struct KeyPolicy {
  std::vector<std::string> models;  // empty: all
  bool device = true;
  bool cloud = true;
  Privacy privacy = Privacy::kAny;
  std::optional<double> budget_left_usd;
};

struct RequestFacts {
  std::string model;  // as the client wrote it: a target's model or alias, or a strategy's name
  // Digest of the conversation's name, else the end user's, else the key's: for splits that do not
  // flip.
  std::string subject;
  std::optional<Mode> mode;
  Privacy privacy = Privacy::kAny;               // the request's own
  Privacy conversation_privacy = Privacy::kAny;  // of earlier turns: on_device stays so
  TaskClass task = TaskClass::kGeneralConversation;
  bool complex_reasoning = false;  // the classifier's estimate of several steps
  bool require_high_quality = false;
  bool needs_tools = false;
  bool needs_images = false;
  int32_t prompt_tokens = 0;    // estimated
  int32_t answer_tokens = 256;  // expected; the request's max_tokens where that is smaller
  std::optional<double> max_ttft_ms;
  std::optional<double> max_latency_ms;
  std::optional<double> max_cost_usd;
  bool may_fall_back = true;  // false: only the first choice, or the model named, may answer
  std::string pinned_target;  // of this conversation; empty: none
  // A roll-out that runs, and whether this subject is in it.
  std::string canary_target;    // takes the place of canary_baseline; empty: no roll-out
  std::string canary_baseline;  // a target's id
  bool canary_assigned = false;
};

// The first rule that matches a request orders the targets. Empty lists match everything.
struct Rule {
  std::string name;  // becomes the route's reason, so "complex_reasoning", not "rule 2"
  std::vector<TaskClass> tasks;
  std::optional<bool> complex_reasoning;
  std::optional<bool> require_high_quality;
  std::optional<int32_t> min_prompt_tokens;
  std::vector<std::string> targets;  // ids, best first
};

// A share of subjects starts at another target: the wire contract's traffic_percentage.
struct TrafficSplit {
  std::string target;
  double share = 0;  // 0..1
};

struct Strategy {
  std::string name;
  Mode mode = Mode::kPreferOnDevice;
  std::vector<Target> targets;
  std::vector<Rule> rules;
  std::vector<TrafficSplit> splits;  // shares sum to at most 1
  // A request for one model may be answered by another when that one cannot: the answer says so.
  bool fall_back_from_explicit_model = true;
  double min_battery_share = 0.1;  // below, device tiers are spared
};

// Errors: kInvalidArgument naming the field that is wrong: a duplicate or unknown target id, a rule
// without a target, shares above one.
Status Validate(const Strategy& strategy);

struct Candidate {
  std::string target;
  std::string reason;  // a rule's name, "explicit_model", "pinned", "split", "fallback", ...
  bool redact = false;
  std::optional<double> predicted_ttft_ms;
  std::optional<double> predicted_e2e_ms;
  double predicted_cost_usd = 0;
};

struct Rejection {
  std::string target;
  std::string reason;  // "privacy", "not_installed", "breaker_open", ...: one word for figures
  std::string detail;  // a sentence that says what would change it
};

// What to try, in order, and why not the others.
struct Decision {
  std::vector<Candidate> candidates;
  std::vector<Rejection> rejections;
  Privacy privacy = Privacy::kAny;  // the strictest that applied
  Mode mode = Mode::kPreferOnDevice;
  std::optional<FailureCode> failure;  // where there is no candidate
  std::string failure_message;
  double retry_after_s = 0;  // 0: retrying does not help
};

}  // namespace tandem::gateway
