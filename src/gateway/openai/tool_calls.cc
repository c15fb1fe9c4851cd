#include "gateway/openai/tool_calls.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "gateway/openai/object_reader.h"

namespace tandem::gateway::openai {
namespace {

namespace json = boost::json;

constexpr std::string_view kFunctools = "functools[";  // its '[' already belongs to the value
constexpr std::array<std::string_view, 3> kMarkers = {"<|tool_call|>", "<tool_call>", kFunctools};
constexpr std::array<std::string_view, 2> kClosers = {"<|/tool_call|>", "</tool_call>"};

constexpr bool IsSpace(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

std::string_view AsView(const json::string& text) { return {text.data(), text.size()}; }

std::optional<ToolCall> ReadCall(const json::value& value) {
  const json::object* object = value.if_object();
  if (object == nullptr) return std::nullopt;
  // {"type":"function","function":{...}}, as in OpenAI's own messages.
  if (const json::value* function = object->if_contains("function")) {
    if (function->is_object()) object = &function->get_object();
  }
  const json::value* name = object->if_contains("name");
  if (name == nullptr || !name->is_string() || name->get_string().empty()) return std::nullopt;
  ToolCall call;
  call.name = AsView(name->get_string());
  const json::value* arguments = object->if_contains("arguments");
  if (arguments == nullptr) arguments = object->if_contains("parameters");
  if (arguments == nullptr || arguments->is_null()) {
    call.arguments = "{}";
  } else if (const json::string* text = arguments->if_string()) {
    call.arguments = AsView(*text);
  } else {
    AppendJsonValue(*arguments, &call.arguments);
  }
  return call;
}

// The calls in a JSON list or a single JSON object; nothing where it is anything else.
std::vector<ToolCall> ReadCalls(std::string_view text) {
  json::error_code error;
  json::parse_options options;
  options.max_depth = 100;
  const json::value value =
      json::parse(json::string_view(text.data(), text.size()), error, {}, options);
  std::vector<ToolCall> calls;
  if (error) return calls;
  const json::array* array = value.if_array();
  const size_t n = array == nullptr ? 1 : array->size();
  for (size_t i = 0; i < n; ++i) {
    std::optional<ToolCall> call = ReadCall(array == nullptr ? value : (*array)[i]);
    if (!call) return {};
    calls.push_back(*std::move(call));
  }
  return calls;
}

}  // namespace

ToolCallParser::ValueScanner::Progress ToolCallParser::ValueScanner::Feed(char c) {
  if (in_string_) {
    if (escaped_) {
      escaped_ = false;
    } else if (c == '\\') {
      escaped_ = true;
    } else if (c == '"') {
      in_string_ = false;
    }
    return Progress::kInside;
  }
  if (c == '[' || c == '{') {
    ++depth_;
    return Progress::kInside;
  }
  if (depth_ == 0) return IsSpace(c) ? Progress::kInside : Progress::kNotAValue;
  if (c == '"') in_string_ = true;
  if (c == ']' || c == '}') --depth_;
  return depth_ == 0 ? Progress::kDone : Progress::kInside;
}

void ToolCallParser::Push(std::string_view text, std::vector<ToolCallEvent>* events) {
  for (const char c : text) Feed(c, events);
}

void ToolCallParser::Feed(char c, std::vector<ToolCallEvent>* events) {
  switch (state_) {
    case State::kText:
      return FeedText(c, events);
    case State::kValue:
      return FeedValue(c, events);
    case State::kAfterCall:
      return FeedAfterCall(c, events);
  }
}

void ToolCallParser::FeedText(char c, std::vector<ToolCallEvent>* events) {
  if (IsSpace(c) && marker_start_ == held_.size()) {
    held_ += c;
    marker_start_ = held_.size();
    return;
  }
  held_ += c;
  const std::string_view begun = std::string_view(held_).substr(marker_start_);
  for (const std::string_view marker : kMarkers) {
    if (marker == kFunctools && text_was_emitted_) continue;
    if (!marker.starts_with(begun)) continue;
    if (marker == begun) OpenValue(held_.size() - (marker == kFunctools ? 1 : 0));
    return;
  }
  // No marker begins here, but one may within what was held.
  const std::string rest(begun.substr(1));
  EmitText(std::string_view(held_).substr(0, marker_start_ + 1), events);
  held_.clear();
  marker_start_ = 0;
  for (const char again : rest) Feed(again, events);
}

void ToolCallParser::OpenValue(size_t value_start) {
  state_ = State::kValue;
  value_start_ = value_start;
  scanner_ = ValueScanner();
  for (size_t i = value_start; i < held_.size(); ++i) scanner_.Feed(held_[i]);
}

void ToolCallParser::FeedValue(char c, std::vector<ToolCallEvent>* events) {
  switch (scanner_.Feed(c)) {
    case ValueScanner::Progress::kInside:
      held_ += c;
      if (held_.size() > kMaxCallBytes) EmitHeldAsText(events);
      return;
    case ValueScanner::Progress::kDone:
      held_ += c;
      return CloseValue(events);
    case ValueScanner::Progress::kNotAValue:
      EmitHeldAsText(events);
      return Feed(c, events);  // it may begin the next marker
  }
}

void ToolCallParser::CloseValue(std::vector<ToolCallEvent>* events) {
  std::vector<ToolCall> calls = ReadCalls(std::string_view(held_).substr(value_start_));
  if (calls.empty()) return EmitHeldAsText(events);
  for (ToolCall& call : calls) events->emplace_back(std::move(call));
  held_.clear();
  marker_start_ = 0;
  state_ = State::kAfterCall;
}

void ToolCallParser::FeedAfterCall(char c, std::vector<ToolCallEvent>* events) {
  if (held_.empty() && IsSpace(c)) return;
  held_ += c;
  for (const std::string_view closer : kClosers) {
    if (!closer.starts_with(held_)) continue;
    if (closer == held_) held_.clear();
    return;
  }
  state_ = State::kText;
  const std::string rest = std::exchange(held_, {});
  for (const char again : rest) Feed(again, events);
}

void ToolCallParser::Finish(std::vector<ToolCallEvent>* events) {
  if (state_ == State::kValue) {
    // A list whose ']' the model forgot: every call in it is complete.
    held_ += ']';
    std::vector<ToolCall> calls = ReadCalls(std::string_view(held_).substr(value_start_));
    held_.pop_back();
    if (!calls.empty()) held_.clear();
    for (ToolCall& call : calls) events->emplace_back(std::move(call));
  }
  EmitHeldAsText(events);
}

void ToolCallParser::EmitHeldAsText(std::vector<ToolCallEvent>* events) {
  EmitText(held_, events);
  held_.clear();
  marker_start_ = 0;
  state_ = State::kText;
}

void ToolCallParser::EmitText(std::string_view text, std::vector<ToolCallEvent>* events) {
  if (text.empty()) return;
  text_was_emitted_ = text_was_emitted_ || !std::ranges::all_of(text, IsSpace);
  // One event a run: what is between two calls is one piece of text.
  if (!events->empty()) {
    if (auto* last = std::get_if<std::string>(&events->back())) {
      last->append(text);
      return;
    }
  }
  events->emplace_back(std::string(text));
}

}  // namespace tandem::gateway::openai
