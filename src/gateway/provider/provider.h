// The contract between a request and whatever answers it: the local engine (app/local_provider)
// or a cloud API (gateway/upstream). Charter of gateway/provider: the request, the events of its
// answer, usage, and the Provider interface; it includes base/. Deliberately absent: wire formats
// (gateway/openai), the choice between providers (gateway/router), retries (gateway/relay).
//
// Lifetimes, threads, cancellation
// - Start() never waits for the model. It returns a Generation, the handle of one running answer.
// - The answer arrives at the EventSink: any number of TextDelta, then exactly one Finished or
//   Failed, which is the last call. Calls come one at a time, but from any thread, and the first
//   ones (even the last) may come before Start() has returned.
// - A sink must not block: it runs on the thread that steps the model for everyone. A consumer
//   that cannot keep up cancels.
// - Cancel() asks the provider to stop at the next token. The terminal event still comes
//   (normally Finished with kCancelled and the usage so far), unless it came before.
// - Destroying a Generation cancels it and does not wait: the sink may still be called until its
//   terminal event, so a sink owns (shared_ptr) whatever it touches. A sink is destroyed by the
//   provider after its last call.
// - A Provider outlives every Generation that it started.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "gateway/provider/egress_permit.h"
#include "gateway/provider/failure.h"
#include "gateway/provider/privacy.h"
#include "gateway/provider/trace.h"

namespace tandem::gateway {

// One function call that a model asked for.
struct ToolCall {
  std::string id;         // "call_..."
  std::string name;       // of the function
  std::string arguments;  // JSON text of an object, as the model wrote it

  friend bool operator==(const ToolCall&, const ToolCall&) = default;
};

struct Message {
  std::string role;                  // "system", "developer", "user", "assistant" or "tool"
  std::string content;               // valid UTF-8; may be empty where tool_calls are present
  std::string name;                  // optional participant name
  std::vector<ToolCall> tool_calls;  // of an assistant turn
  std::string tool_call_id;          // of a tool turn: which call this answers

  friend bool operator==(const Message&, const Message&) = default;
};

// Absent means the provider's default for its model. Ranges are checked before a provider sees
// them: temperature 0..2 (0 is greedy), top_p 0..1, min_p 0..1, top_k >= 0 (0: off),
// repetition_penalty > 0, presence and frequency penalty -2..2.
struct SamplingParameters {
  std::optional<float> temperature;
  std::optional<float> top_p;
  std::optional<float> min_p;
  std::optional<int32_t> top_k;
  std::optional<float> repetition_penalty;
  std::optional<float> presence_penalty;
  std::optional<float> frequency_penalty;
  std::vector<std::pair<int32_t, float>> logit_bias;  // token id -> -100..100, ids ascending
  std::optional<int64_t> seed;                        // same seed, same text
};

struct GenerateRequest {
  std::string request_id;  // for logs and traces
  std::vector<Message> messages;
  // How the answer begins, where another provider wrote that much of it already; empty: at its
  // beginning. The provider goes on right behind the last byte (in the middle of a word where it
  // ends there) and sends only what follows. It is counted in usage.prompt_tokens, and `stop` and
  // `max_tokens` are about what follows. A provider that cannot do that fails with kUnsupported.
  std::string assistant_prefix;
  // JSON text of the request's `tools` array ([{"type":"function","function":{...}}, ...]); empty
  // where no tool may be called.
  std::string tools_json;
  SamplingParameters sampling;
  std::optional<int32_t> max_tokens;  // of the answer; absent: as many as the window holds
  std::vector<std::string> stop;      // the answer ends before the first of these
  // Absent: no log probabilities. 0..20: the chosen token's and that many alternatives'.
  std::optional<int32_t> top_logprobs;
  bool local_only = false;          // never leave the device: an error instead of a cloud call
  Privacy privacy = Privacy::kAny;  // the request's own; others may be stricter
  // From the policy; a provider that is not on this device sends nothing without it.
  std::optional<EgressPermit> egress = std::nullopt;
  bool quality_check = false;         // validate the text; degenerate text is a failure
  bool require_high_quality = false;  // use the best tier
  bool memory_optimized = false;      // prefer the smaller cache over speed
};

struct TokenLogprob {
  struct Alternative {
    std::string token;  // the token's bytes; not always valid UTF-8 on its own
    float logprob = 0;
  };
  std::string token;
  float logprob = 0;             // natural logarithm
  std::vector<Alternative> top;  // best first, at most top_logprobs
};

// A piece of the answer. `text` is valid UTF-8, never splits a code point and may be empty (a
// token whose text is still held back).
struct TextDelta {
  std::string text;
  std::vector<TokenLogprob> logprobs;  // of the tokens in this piece, where asked for
};

enum class FinishReason {
  kStop,           // the model ended its turn, or a stop string was met
  kLength,         // max_tokens or the window was reached
  kCancelled,      // by Cancel()
  kContentFilter,  // a cloud provider withheld the rest
  kDegenerate,     // the provider's detectors found repetition or garbage; see Finished::detail
};

struct Finished {
  FinishReason reason = FinishReason::kStop;
  Usage usage = {};
  double ttft_ms = 0;                  // time to first token
  double e2e_ms = 0;                   // whole request
  std::string detail = {};             // kDegenerate: which check failed and its figure
  std::optional<Egress> egress = {};   // what left this device for it
  std::vector<Attempt> attempts = {};  // of an answer that a relay put together; else empty
};

struct Failed {
  Failure failure;
  Usage usage = {};  // so far, where it is known
  std::optional<Egress> egress = {};
  std::vector<Attempt> attempts = {};
};

using GenerateEvent = std::variant<TextDelta, Finished, Failed>;
using EventSink = std::move_only_function<void(GenerateEvent)>;

// Thread: any; also from inside the sink.
class Generation {
 public:
  virtual ~Generation() = default;
  virtual void Cancel() = 0;  // idempotent; without effect after the terminal event
};

// Thread: any.
class Provider {
 public:
  virtual ~Provider() = default;
  // The id of the model that answers, which may differ from the name that a client asked for.
  virtual std::string_view model() const = 0;
  virtual Tier tier() const = 0;
  // Never null. A request that cannot be started ends with Failed like any other.
  virtual std::unique_ptr<Generation> Start(GenerateRequest request, EventSink sink) = 0;
};

}  // namespace tandem::gateway
