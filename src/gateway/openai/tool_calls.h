// Finds the function calls in the text that a model writes, while it is still being written.
//
// Three spellings are understood, all leniently because models are sloppy:
//   <|tool_call|>[{"name":"f","arguments":{...}}, ...]<|/tool_call|>   Phi-4-mini; a single object
//                                                and a missing closing tag are common
//   <tool_call>\n{"name":"f","arguments":{...}}\n</tool_call>          MiMo and Qwen, one per call
//   functools[{"name":"f","arguments":{...}}, ...]                     vLLM's prompt for
//   Phi-4-mini;
//                                                only where it opens the answer
// What looks like a call but does not hold one is passed on as the text it is: nothing is lost.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "gateway/provider/provider.h"

namespace tandem::gateway::openai {

// A piece of text for the client, or a complete call (whose id the caller gives).
using ToolCallEvent = std::variant<std::string, ToolCall>;

// The events do not depend on how the text was cut: joined text and calls are the same for every
// split. White space around calls is dropped. Thread: one.
class ToolCallParser {
 public:
  // Appends what `text` made certain; keeps back at most a marker's length of text and white space,
  // or a call that is not complete (at most kMaxCallBytes; beyond, it is text).
  void Push(std::string_view text, std::vector<ToolCallEvent>* events);

  // The answer has ended: appends whatever was kept back.
  void Finish(std::vector<ToolCallEvent>* events);

  static constexpr size_t kMaxCallBytes = size_t{256} << 10;

 private:
  // Where a JSON value ends, fed byte by byte.
  class ValueScanner {
   public:
    enum class Progress { kInside, kDone, kNotAValue };
    Progress Feed(char c);

   private:
    int depth_ = 0;
    bool in_string_ = false;
    bool escaped_ = false;
  };

  enum class State {
    kText,       // held_: white space, then perhaps the beginning of a marker
    kValue,      // held_: white space, marker and the JSON value so far
    kAfterCall,  // held_: white space, then perhaps the beginning of a closing tag
  };

  void Feed(char c, std::vector<ToolCallEvent>* events);
  void FeedText(char c, std::vector<ToolCallEvent>* events);
  void FeedValue(char c, std::vector<ToolCallEvent>* events);
  void FeedAfterCall(char c, std::vector<ToolCallEvent>* events);
  void OpenValue(size_t value_start);
  void CloseValue(std::vector<ToolCallEvent>* events);
  void EmitHeldAsText(std::vector<ToolCallEvent>* events);
  void EmitText(std::string_view text, std::vector<ToolCallEvent>* events);

  State state_ = State::kText;
  std::string held_;
  size_t marker_start_ = 0;  // in held_: the white space before it
  size_t value_start_ = 0;   // in held_, in state kValue
  ValueScanner scanner_;
  bool text_was_emitted_ = false;  // "functools[" counts only before
};

}  // namespace tandem::gateway::openai
