// What kind of task a prompt asks for, in microseconds. Charter of gateway/classify: task class and
// an estimate of difficulty from the text alone; it includes base. Deliberately absent: which
// target serves a class (gateway/router), how well it went, and anything that remembers or logs a
// prompt.
//
// Rules decide what is certain (a code fence, LaTeX, "translate ... into German"); a linear model
// over hashed words and character n-grams decides the rest. data/classify/README.md says what the
// classes mean, what the model is trained on and how well it does.
#pragma once

#include <string_view>

#include "gateway/classify/linear_model.h"
#include "gateway/classify/task_class.h"

namespace tandem::gateway {

// What the request shows beside the message that is classified.
struct PromptHints {
  // The user's message before this one: tells what "and in Spanish?" is about. May be empty.
  std::string_view previous_user_text;
  bool has_code = false;    // earlier messages hold code
  bool has_tools = false;   // the request offers tools
  bool wants_json = false;  // response_format asks for JSON
};

struct Classification {
  TaskClass task = TaskClass::kGeneralConversation;
  float confidence = 0;  // 0..1: how often such an answer is right on held-out prompts
  // Whether the answer takes several steps: a proof, a plan under conditions, a search for a cause.
  // An estimate: what a prompt asks for tells little of how hard it is.
  bool complex_reasoning = false;
  float complexity = 0;     // the probability behind it
  std::string_view reason;  // "model", "context" or the name of a rule; static
};

// Classifies the last message of a user; earlier ones only through `hints`. Of a long text the
// first 1.5 KiB and the last 512 bytes are read. Bytes that are no UTF-8 do no harm.
// Thread: any. Never allocates (the first call of a process unpacks the model). Cost: about 10 us.
Classification Classify(std::string_view prompt, const PromptHints& hints = {});

// The same with another model than the build's own: for the trainer and its exam.
Classification ClassifyWith(const LinearModel& model, std::string_view prompt,
                            const PromptHints& hints = {});

}  // namespace tandem::gateway
