#include "gateway/privacy/streaming_restorer.h"

#include <algorithm>

#include <boost/json/serialize.hpp>

namespace tandem::gateway::privacy {
namespace {

constexpr std::array<std::string_view, 4> kMarkers = {"<tool_call>", "<|tool_call|>", "functools",
                                                      "```json"};
constexpr size_t kMaxMarkerBytes = 13;

// Structure, numbers, true, false and null.
constexpr std::string_view kOutsideStrings = "{}[]:,\"0123456789+-.eEtrufalsn";

constexpr bool IsSpace(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

// As the inside of a JSON string.
std::string Escaped(std::string_view text) {
  const std::string quoted = boost::json::serialize(boost::json::string_view(text));
  return quoted.substr(1, quoted.size() - 2);
}

}  // namespace

char JsonNesting::Value::Feed(char c) {
  if (!in_string) {
    if (c == '"') in_string = true;
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') --depth;
    // A character that JSON has nowhere outside its strings: this never was JSON.
    const bool foreign = !IsSpace(c) && kOutsideStrings.find(c) == kOutsideStrings.npos;
    done = (depth <= 0 && !in_string) || foreign;
    return c;
  }
  if (escaped) {
    escaped = false;
    return c == 'n' || c == 'r' || c == 't' ? ' ' : c;
  }
  if (c == '\\') {
    escaped = true;
    return 0;
  }
  if (c == '"') in_string = false;
  return c;
}

void JsonNesting::Feed(char c) {
  if (!inside_) {
    if (!text_begun_ && (c == '{' || c == '[')) inside_ = true;
    if (!IsSpace(c)) text_begun_ = true;
    if (std::ranges::any_of(kMarkers, [&](auto marker) { return marker_.ends_with(marker); })) {
      if (IsSpace(c)) return;
      inside_ = c == '{' || c == '[';
    }
    marker_ += c;
    if (marker_.size() > kMaxMarkerBytes) marker_.erase(0, 1);
    if (!inside_) return;
    marker_.clear();
    outer_ = Value();
  }
  const bool was_in_string = outer_.in_string;
  const char content = outer_.Feed(c);
  if (outer_.done) {
    inside_ = false;
    return;
  }
  if (!outer_.in_string || !was_in_string) {
    inner_ = Value();
    inner_begun_ = inner_is_json_ = false;
    return;
  }
  if (content == 0) return;
  if (!inner_begun_) {
    if (IsSpace(content)) return;
    inner_begun_ = true;
    inner_is_json_ = content == '{' || content == '[';
  }
  if (!inner_is_json_) return;
  inner_.Feed(content);
  inner_is_json_ = !inner_.done;
}

int JsonNesting::level() const {
  if (!inside_ || !outer_.in_string) return 0;
  return inner_is_json_ && inner_.in_string ? 2 : 1;
}

std::string StreamingRestorer::Push(std::string_view delta) {
  std::string out;
  out.reserve(delta.size());
  for (const char c : delta) Feed(c, &out);
  return out;
}

std::string StreamingRestorer::Finish() {
  std::string rest;
  Emit(held_, &rest);
  held_.clear();
  canonical_.clear();
  return rest;
}

void StreamingRestorer::Feed(char c, std::string* out) {
  if (held_.empty()) {
    if (c == '[' && !map_->empty()) {
      held_ = canonical_ = c;
    } else {
      nesting_.Feed(c);
      *out += c;
    }
    return;
  }
  // "[EMAIL\_1]" is how Markdown writes it.
  const bool escape = c == '\\' && !held_.ends_with('\\') && map_->IsPrefix(canonical_ + '_');
  held_ += c;
  if (escape) return;
  canonical_ += c;
  if (const std::string* secret = c == ']' ? map_->SecretOf(canonical_) : nullptr) {
    std::string text = *secret;
    for (int i = nesting_.level(); i > 0; --i) text = Escaped(text);
    held_.clear();
    canonical_.clear();
    *out += text;
    return;
  }
  if (map_->IsPrefix(canonical_)) return;
  // No placeholder; but one may begin with this very character.
  const std::string text = std::move(held_);
  held_.clear();
  canonical_.clear();
  Emit(std::string_view(text).substr(0, text.size() - 1), out);
  Feed(c, out);
}

void StreamingRestorer::Emit(std::string_view text, std::string* out) {
  for (const char c : text) nesting_.Feed(c);
  *out += text;
}

}  // namespace tandem::gateway::privacy
