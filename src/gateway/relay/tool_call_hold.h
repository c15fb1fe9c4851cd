// Where in an answer's text a function call stands that is not whole yet.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace tandem::gateway::relay {

// The spellings are those that gateway/openai/tool_calls.h reads: "<|tool_call|>" or "<tool_call>"
// and a JSON object or array, and "functools[" at the beginning of the answer. A call is whole with
// its last bracket; a closing tag is plain text here. Thread: one.
class ToolCallHold {
 public:
  // Takes the next piece of the answer.
  void Push(std::string_view text);

  // Offset in all text pushed at which a call, or what may become the mark of one, begins; absent
  // where the text ends outside of calls.
  std::optional<size_t> open_at() const;
  // A mark and the beginning of its value have been seen.
  bool any() const { return any_; }

  // A call longer than this is text to the reader of calls too.
  static constexpr size_t kMaxCallBytes = size_t{256} << 10;

 private:
  enum class State { kText, kMark, kBeforeValue, kValue };
  void Take(char c);
  void TakeMark(char c);
  void OpenValue();

  State state_ = State::kText;
  size_t n_bytes_ = 0;
  size_t begin_ = 0;  // of the mark
  std::string mark_;  // so far
  bool only_spaces_ = true;
  bool any_ = false;
  int depth_ = 0;
  bool in_string_ = false;
  bool escaped_ = false;
};

}  // namespace tandem::gateway::relay
