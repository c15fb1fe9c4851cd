// What is asked of a scheduler, and what comes back.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/error.h"
#include "engine/sampling/sampling_options.h"

namespace tandem::session {

// An encoded prompt and how to go on from it. Ranges: Session::Create().
struct Submission {
  std::vector<int32_t> prompt_ids;
  // How many of prompt_ids, at their end, are the answer's own beginning, and the text that the
  // answer goes on with behind them; both were written before, so neither is emitted. The sampler
  // goes on as if it had drawn them all: with the same options and seed the answer is what it would
  // have been in one go. They count as prompt, in max_tokens and usage.
  size_t n_answer_ids = 0;
  std::string forced_text = {};
  sampling::SamplingOptions sampling = {};
  int32_t max_tokens = 0;                    // of the answer; 0: until the context is full
  std::vector<std::string> stop = {};        // the answer ends before the first of these
  std::optional<int32_t> top_logprobs = {};  // empty: none; 0: of the chosen tokens only
  bool detect_degeneration = false;          // end with kDegenerate when the answer loops
  bool reuse_prefix = true;                  // use, and leave behind, cached keys and values
};

using SubmissionId = uint64_t;

struct Alternative {
  int32_t id = 0;
  std::string bytes;  // of the token; not always valid UTF-8 by itself
  float logprob = 0;  // natural logarithm, of the model's own distribution
};
struct TokenLogprobs {
  Alternative chosen;
  std::vector<Alternative> top;  // most probable first
};

// A piece of the answer. Text is held back while it may be the start of a stop string or an
// unfinished character. A token comes with the first piece of its text; a token that ends the
// answer (an end-of-turn token, or one wholly inside a stop string) does not come.
struct TextDelta {
  std::string text;  // valid UTF-8, may be empty
  std::vector<int32_t> token_ids;
  std::vector<TokenLogprobs> logprobs;  // as many as token_ids, where they were asked for
};

enum class FinishReason {
  kStop,        // the model ended its turn, or a stop string was met
  kLength,      // max_tokens, or the context is full
  kCancelled,   // by Cancel()
  kDegenerate,  // the answer repeats itself; see Finished::detail
};

struct Usage {
  int32_t prompt_tokens = 0;
  int32_t completion_tokens = 0;  // sampled, beyond forced_text; the end-of-turn token included
  int32_t cached_tokens = 0;      // of the prompt, not computed again
};

struct Timings {
  double queued_ms = 0;  // from Submit() to the first step
  double ttft_ms = 0;    // from Submit() to the first sampled token; 0: there was none
  double e2e_ms = 0;     // from Submit() to this event
  double decode_tokens_per_second = 0;  // after the first token; 0 below two tokens
};

struct Finished {
  FinishReason reason = FinishReason::kStop;
  Usage usage = {};
  Timings timings = {};
  std::string detail = {};  // kDegenerate: the check and its figure. kStop: the stop string, if one
};

struct Failed {
  Error error;
};

// What a scheduler is busy with.
struct Activity {
  int n_running = 0;
  int n_queued = 0;
};

using Event = std::variant<TextDelta, Finished, Failed>;
using EventSink = std::move_only_function<void(Event)>;

}  // namespace tandem::session
