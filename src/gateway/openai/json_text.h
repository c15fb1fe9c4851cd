// JSON written by appending to a string: what the hot path of a stream needs, without a tree.
#pragma once

#include <string>
#include <string_view>

namespace tandem::gateway::openai {

// Appends `text` as a JSON string with its quotes. Ill-formed UTF-8 becomes U+FFFD. Everything that
// some language's line reader takes for a line break is escaped: the control characters, and
// U+0085, U+2028 and U+2029 (Python's str.splitlines and Node's readline split there, and would cut
// an event in two).
void AppendJsonString(std::string_view text, std::string* out);

// Appends a number with as many digits as it takes to read the same float back. JSON has no
// infinities: what is not finite becomes -9999, which is what OpenAI sends for "no probability".
void AppendJsonNumber(float value, std::string* out);

}  // namespace tandem::gateway::openai
