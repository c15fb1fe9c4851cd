// Server-sent events, both ways, by the WHATWG HTML standard's section 9.2.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace tandem::net {

// ---- Server side: text to append to a stream -------------------------------------------------

// "data: ...\n\n"; data of several lines (LF, CR or CRLF) becomes several data lines, which the
// client joins with LF. `event` and `id` must not hold line breaks; where they do, the breaks
// become spaces.
void AppendSseEvent(std::string_view data, std::string* out);
void AppendSseEvent(std::string_view event, std::string_view id, std::string_view data,
                    std::string* out);

// ": text\n\n", which clients skip: a heartbeat.
void AppendSseComment(std::string_view text, std::string* out);

// ---- Client side -----------------------------------------------------------------------------

struct SseEvent {
  std::string event;  // "message" where the server gave none
  std::string data;   // lines joined with LF; may be empty where the server sent an empty data line
  std::string id;     // the last one that the stream gave, of this event or an earlier one
};

// Takes a stream's bytes in any pieces and calls back for every complete event. Lines end with LF,
// CR or CRLF. Comments and unknown fields are skipped, and so is an event that the stream ends
// before the empty line that completes it, as the standard wants; see in_event(). Thread: one.
class SseParser {
 public:
  // `event` is the parser's own, good until the call returns.
  using Sink = std::function<void(const SseEvent& event)>;

  // max_event_bytes bounds what one event or line may hold in memory.
  explicit SseParser(Sink sink, size_t max_event_bytes = 4 << 20);

  // Errors: kResourceExhausted for an event or a line beyond the limit; the parser is then of no
  // further use and says so again.
  // Cost: each byte is looked at once or twice; nothing is copied but fields' values.
  Status Push(std::string_view bytes);

  // True while something of an event has come that no empty line has completed: a stream that ends
  // now was cut.
  bool in_event() const { return event_bytes_ > 0 || !line_.empty(); }

  // What the server asked for with "retry:", in milliseconds.
  std::optional<int> retry_ms() const { return retry_ms_; }

 private:
  void OnLine(std::string_view line);
  void Dispatch();

  const Sink sink_;
  const size_t max_event_bytes_;
  std::string line_;  // the start of a line whose end has not come
  bool at_start_ = true;
  bool after_cr_ = false;  // an LF that comes next belongs to the line break before it
  bool failed_ = false;
  bool has_data_ = false;
  size_t event_bytes_ = 0;  // of the fields since the last empty line
  SseEvent event_;
  std::optional<int> retry_ms_;
};

}  // namespace tandem::net
