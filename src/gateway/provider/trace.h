// What happened on the way to an answer: every provider that was asked, and what left the device.
// Figures and names only, never a word of the conversation, since all of it is kept.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "gateway/provider/failure.h"

namespace tandem::gateway {

// A provider's place in the strategy.
enum class Tier { kDeviceSmall, kDeviceLarge, kCloud };

// "device_small", "device_large", "cloud": the wire names.
std::string_view TierName(Tier tier);

struct Usage {
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
  int64_t cached_tokens = 0;  // of the prompt, taken from a cache

  friend bool operator==(const Usage&, const Usage&) = default;
};

// The bytes that one call sent off this device.
struct Egress {
  std::string destination;  // host and port
  uint64_t n_bytes = 0;     // of the request's body
  std::string sha256;       // of those bytes, hexadecimal

  friend bool operator==(const Egress&, const Egress&) = default;
};

enum class AttemptOutcome {
  kAnswered,   // the answer ends with its text
  kHandedOff,  // part of its text is in the answer, another provider went on
  kFailed,     // none of its text is in the answer
  kCancelled,  // another one was first, or the client left
  kSkipped,    // it was not called: its breaker is open
};

// "answered", "handed_off", ...: the names in records and on the wire.
std::string_view AttemptOutcomeName(AttemptOutcome outcome);

// One call of one provider.
struct Attempt {
  std::string target;  // the strategy's id of the candidate
  std::string model;
  Tier tier = Tier::kCloud;
  std::string reason;  // why it was a candidate: a rule's name, "fallback", ...
  AttemptOutcome outcome = AttemptOutcome::kFailed;
  // Why it ended before its time; the detail is a detector's name and figure, or a failure's
  // message for the operator.
  std::optional<FailureCode> failure;
  std::string detail;
  std::optional<std::chrono::milliseconds> retry_after;  // where the failure came with one
  int retry = 0;                                         // 0: the first call of this target
  bool hedge = false;  // started while another one was still running
  Usage usage;
  bool usage_estimated = false;  // the provider reported none
  // Since the relay began; absent: it never came to that.
  double started_ms = 0;
  std::optional<double> ttft_ms;  // to its own first text, from its own start
  double ended_ms = 0;
  // Its share of the answer's text, in bytes: [text_begin, text_end).
  uint64_t text_begin = 0;
  uint64_t text_end = 0;
  std::optional<Egress> egress;
};

}  // namespace tandem::gateway
