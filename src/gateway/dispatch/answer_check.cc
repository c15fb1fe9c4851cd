#include "gateway/dispatch/answer_check.h"

#include <algorithm>
#include <cstddef>

#include <fmt/format.h>

namespace tandem::gateway::dispatch {
namespace {

// Loops of quantised models repeat a word, a sentence or a paragraph.
constexpr size_t kMaxPeriod = 400;  // bytes
// A chorus, a table rule or "no, no, no" stays below both of these; a loop runs on.
constexpr size_t kMinRepeats = 6;
constexpr size_t kMinRepeatedBytes = 160;

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

bool IsSpace(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

// How many bytes at the end of `text` equal the byte `period` before them.
size_t PeriodicTail(std::string_view text, size_t period) {
  size_t length = 0;
  while (length + period < text.size() &&
         text[text.size() - 1 - length] == text[text.size() - 1 - length - period]) {
    ++length;
  }
  return length;
}

}  // namespace

std::optional<std::string> FindDegeneration(std::string_view text) {
  if (std::ranges::all_of(text, IsSpace)) return fmt::format("empty: {} bytes", text.size());

  for (size_t period = 1; period <= std::min(kMaxPeriod, text.size() / kMinRepeats); ++period) {
    const size_t run = PeriodicTail(text, period) + period;
    if (run >= kMinRepeatedBytes && run / period >= kMinRepeats) {
      return fmt::format("repetition: the last {} bytes are one piece of {} bytes, {} times", run,
                         period, run / period);
    }
  }

  size_t n_characters = 0;
  size_t n_replacements = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xC0) != 0x80) ++n_characters;
    if (text.substr(i).starts_with(kReplacement)) ++n_replacements;
  }
  if (n_replacements * 10 > n_characters) {
    return fmt::format("replacement: {} of {} characters are U+FFFD", n_replacements, n_characters);
  }
  return std::nullopt;
}

}  // namespace tandem::gateway::dispatch
