// Puts secrets back into an answer while it is being written.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "gateway/privacy/redaction_map.h"

namespace tandem::gateway::privacy {

// How many JSON strings the end of an answer lies in: 0 in plain text, 1 in a string of a function
// call's arguments or of a JSON answer, 2 in a JSON text that is itself a string there. A secret is
// escaped that often. JSON begins behind a function call's marker (gateway/openai/tool_calls.h
// knows the same ones), behind "```json", or with the answer. Thread: one.
class JsonNesting {
 public:
  void Feed(char c);
  int level() const;

 private:
  // A JSON value that is being read, and whether its end is inside a string.
  struct Value {
    int depth = 0;
    bool in_string = false;
    bool escaped = false;
    bool done = false;
    // The character that the string's content has here; 0: none yet (an escape has begun).
    char Feed(char c);
  };

  bool inside_ = false;      // a value
  bool text_begun_ = false;  // something but white space was seen
  std::string marker_;       // the last bytes of the text, where a marker could end
  Value outer_;
  Value inner_;  // of outer_'s current string
  bool inner_begun_ = false;
  bool inner_is_json_ = false;
};

// Feed deltas in order; texts come back with their secrets. Where a delta ends within what could be
// a placeholder, that part is kept back: the joined text does not depend on how it was cut. A
// placeholder that this map did not make stays as it is. Thread: one. Cost: linear in the text.
class StreamingRestorer {
 public:
  explicit StreamingRestorer(std::shared_ptr<const RedactionMap> map) : map_(std::move(map)) {}

  std::string Push(std::string_view delta);
  // The answer has ended: what was kept back was no placeholder.
  std::string Finish();

 private:
  void Feed(char c, std::string* out);
  void Emit(std::string_view text, std::string* out);

  const std::shared_ptr<const RedactionMap> map_;
  std::string held_;       // a placeholder's beginning, as it was written
  std::string canonical_;  // the same without Markdown's backslash
  JsonNesting nesting_;
};

}  // namespace tandem::gateway::privacy
