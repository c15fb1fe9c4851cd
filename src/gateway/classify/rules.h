// What can be told of a prompt without a model.
#pragma once

#include <optional>
#include <string_view>

#include "gateway/classify/task_class.h"

namespace tandem::gateway {

struct RuleMatch {
  TaskClass task = TaskClass::kGeneralConversation;
  std::string_view name;  // static
  // Code and traces are also translated, summarised and searched: a model that is sure of that
  // wins.
  bool yields = false;
};

// The first rule that matches:
//   empty         nothing but spaces
//   arithmetic    nothing but numbers and operators: "12 * (7 + 5) = ?"
//   translation   a verb of translating, at most polite words before it, and a natural language
//   latex         a formula
//   code_fence    a fenced block that looks like code, or like a compiler or a run time complaining
//   stack_trace   the same without a fence
// Thread: any. Never allocates.
std::optional<RuleMatch> MatchRule(std::string_view prompt);

}  // namespace tandem::gateway
