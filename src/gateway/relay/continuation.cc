#include "gateway/relay/continuation.h"

#include <algorithm>

#include <fmt/format.h>

#include "gateway/relay/overlap.h"

namespace tandem::gateway::relay {
namespace {

constexpr std::string_view kInstruction =
    "Your last message was cut off. Continue it exactly where it stopped, in the same language and "
    "format, as if it had never been interrupted. Begin by repeating its last words, which stand "
    "between the two lines below, character for character, then go on without a break. Write "
    "nothing else: no introduction, no quotation marks, no remark about the interruption, and none "
    "of what came before those words.\n---\n{}\n---";

}  // namespace

GenerateRequest ContinueFrom(const GenerateRequest& request, Continuation how,
                             std::string_view said, int64_t n_used) {
  GenerateRequest next = request;
  next.assistant_prefix.append(said);
  if (next.max_tokens) {
    next.max_tokens = static_cast<int32_t>(std::max<int64_t>(1, *next.max_tokens - n_used));
  }
  if (how == Continuation::kPrompted) {
    const std::string text = std::move(next.assistant_prefix);
    next.assistant_prefix.clear();
    next.messages.push_back(Message{.role = "assistant", .content = text});
    next.messages.push_back(
        Message{.role = "user", .content = fmt::format(kInstruction, AnchorOf(text))});
  }
  return next;
}

}  // namespace tandem::gateway::relay
