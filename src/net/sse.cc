#include "net/sse.h"

#include <algorithm>
#include <charconv>
#include <utility>

namespace tandem::net {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

// Where the first line of `bytes` ends; npos: not in them. Two searches for one character each are
// many times faster than one for either.
size_t FindLineEnd(std::string_view bytes) {
  const size_t newline = bytes.find('\n');
  return std::min(bytes.substr(0, newline).find('\r'), newline);
}

// Calls for each line of `text`, whatever ends it; "" is one empty line.
template <typename Callback>
void ForEachLine(std::string_view text, Callback callback) {
  for (;;) {
    const size_t end = text.find_first_of("\r\n");
    callback(text.substr(0, end));
    if (end == text.npos) return;
    const bool crlf = text.substr(end).starts_with("\r\n");
    text.remove_prefix(end + (crlf ? 2 : 1));
  }
}

void AppendOneLine(std::string_view field, std::string_view value, std::string* out) {
  out->append(field);
  for (char c : value) out->push_back(c == '\r' || c == '\n' ? ' ' : c);
  out->push_back('\n');
}

}  // namespace

void AppendSseEvent(std::string_view data, std::string* out) {
  ForEachLine(data,
              [&](std::string_view line) { out->append("data: ").append(line).push_back('\n'); });
  out->push_back('\n');
}

void AppendSseEvent(std::string_view event, std::string_view id, std::string_view data,
                    std::string* out) {
  if (!event.empty()) AppendOneLine("event: ", event, out);
  if (!id.empty()) AppendOneLine("id: ", id, out);
  AppendSseEvent(data, out);
}

void AppendSseComment(std::string_view text, std::string* out) {
  ForEachLine(text, [&](std::string_view line) { out->append(": ").append(line).push_back('\n'); });
  out->push_back('\n');
}

SseParser::SseParser(Sink sink, size_t max_event_bytes)
    : sink_(std::move(sink)), max_event_bytes_(max_event_bytes) {}

Status SseParser::Push(std::string_view bytes) {
  const auto too_large = [&] {
    failed_ = true;
    return Err(ErrorCode::kResourceExhausted,
               "a server-sent event is larger than the {} bytes allowed", max_event_bytes_);
  };
  if (failed_) return too_large();
  while (!bytes.empty()) {
    if (std::exchange(after_cr_, false) && bytes.front() == '\n') {
      bytes.remove_prefix(1);
      continue;
    }
    const size_t end = FindLineEnd(bytes);
    if (event_bytes_ + line_.size() + std::min(end, bytes.size()) > max_event_bytes_) {
      return too_large();
    }
    if (end == bytes.npos) {
      line_.append(bytes);
      return {};
    }
    after_cr_ = bytes[end] == '\r';
    if (line_.empty()) {
      OnLine(bytes.substr(0, end));
    } else {
      line_.append(bytes.substr(0, end));
      OnLine(line_);
      line_.clear();
    }
    bytes.remove_prefix(end + 1);
  }
  return {};
}

void SseParser::OnLine(std::string_view line) {
  if (std::exchange(at_start_, false) && line.starts_with(kByteOrderMark)) {
    line.remove_prefix(kByteOrderMark.size());
  }
  if (line.empty()) return Dispatch();
  const size_t colon = line.find(':');
  if (colon == 0) return;  // a comment
  const std::string_view field = line.substr(0, colon);
  std::string_view value = colon == line.npos ? std::string_view() : line.substr(colon + 1);
  if (value.starts_with(' ')) value.remove_prefix(1);
  if (field == "data") {
    event_bytes_ += line.size();
    if (has_data_) event_.data.push_back('\n');
    has_data_ = true;
    event_.data.append(value);
  } else if (field == "event") {
    event_bytes_ += line.size();
    event_.event = value;
  } else if (field == "id") {
    if (value.find('\0') == value.npos) event_.id = value;
  } else if (field == "retry") {
    int ms = 0;
    const auto [end, ec] = std::from_chars(value.data(), value.data() + value.size(), ms);
    if (ec == std::errc() && end == value.data() + value.size() && ms >= 0) retry_ms_ = ms;
  }
}

void SseParser::Dispatch() {
  event_bytes_ = 0;
  if (has_data_) {
    if (event_.event.empty()) event_.event = "message";
    sink_(event_);
  }
  has_data_ = false;
  event_.event.clear();
  event_.data.clear();
}

}  // namespace tandem::net
