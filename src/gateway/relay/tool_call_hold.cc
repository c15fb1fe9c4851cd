#include "gateway/relay/tool_call_hold.h"

#include <array>

namespace tandem::gateway::relay {
namespace {

constexpr std::string_view kFunctools = "functools[";
constexpr std::array<std::string_view, 3> kMarks = {"<|tool_call|>", "<tool_call>", kFunctools};

constexpr bool IsSpace(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

}  // namespace

void ToolCallHold::Push(std::string_view text) {
  for (const char c : text) {
    Take(c);
    ++n_bytes_;
    only_spaces_ = only_spaces_ && IsSpace(c);
  }
}

std::optional<size_t> ToolCallHold::open_at() const {
  if (state_ == State::kText) return std::nullopt;
  return begin_;
}

void ToolCallHold::Take(char c) {
  switch (state_) {
    case State::kText:
      if (c != '<' && (c != 'f' || !only_spaces_)) return;
      begin_ = n_bytes_;
      mark_.clear();
      state_ = State::kMark;
      return TakeMark(c);
    case State::kMark:
      return TakeMark(c);
    case State::kBeforeValue:
      if (IsSpace(c)) return;
      state_ = State::kText;
      if (c != '[' && c != '{') return Take(c);
      return OpenValue();
    case State::kValue:
      if (n_bytes_ - begin_ >= kMaxCallBytes) {
        state_ = State::kText;
        return;
      }
      if (in_string_) {
        if (escaped_) {
          escaped_ = false;
        } else if (c == '\\') {
          escaped_ = true;
        } else if (c == '"') {
          in_string_ = false;
        }
        return;
      }
      if (c == '"') in_string_ = true;
      if (c == '[' || c == '{') ++depth_;
      if ((c == ']' || c == '}') && --depth_ == 0) state_ = State::kText;
      return;
  }
}

void ToolCallHold::TakeMark(char c) {
  mark_ += c;
  for (const std::string_view mark : kMarks) {
    if (!mark.starts_with(mark_)) continue;
    if (mark == mark_) {
      state_ = State::kBeforeValue;
      if (mark == kFunctools) OpenValue();  // its bracket is the value's
    }
    return;
  }
  // No mark holds its first byte twice, so only the byte that did not fit can begin another.
  state_ = State::kText;
  if (c == '<') Take(c);
}

void ToolCallHold::OpenValue() {
  state_ = State::kValue;
  any_ = true;
  depth_ = 1;
  in_string_ = false;
  escaped_ = false;
}

}  // namespace tandem::gateway::relay
