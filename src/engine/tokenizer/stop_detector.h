// Finds stop strings in generated text, wherever the text is cut.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::tokenizer {

// The text ends at the first place where some stop string is complete; of several that are complete
// there the longest counts. What comes out is the text before that stop string, and does not depend
// on how the text was cut. Held back is only what may yet turn out to be the start of a stop
// string: never more than the longest one less a byte. Where text and stop strings are valid UTF-8,
// so is all that comes out.
//
// One stream, one thread.
class StopDetector {
 public:
  // Empty stop strings are ignored.
  explicit StopDetector(std::vector<std::string> stops);

  // The text that is now safe to show.
  // Cost: amortised O(text bytes * stop strings).
  std::string Push(std::string_view text);

  // The end of the text: what was held back, unless a stop string was found.
  std::string Flush();

  // True from the Push on that completed a stop string; nothing comes out any more.
  bool stopped() const { return stopped_; }
  // The stop string that was found; empty until then.
  const std::string& stop() const { return stop_; }

 private:
  // Knuth-Morris-Pratt: `fallback[n]` is the longest proper border of the first n bytes.
  struct Pattern {
    std::string text;
    std::vector<size_t> fallback;  // [text bytes + 1]
    size_t matched = 0;            // bytes of `text` that the stream ends with
  };
  static bool Advance(Pattern* pattern, char byte);  // true: complete

  std::vector<Pattern> patterns_;
  std::string held_;  // the longest of the matched starts
  std::string stop_;
  bool stopped_ = false;
};

}  // namespace tandem::tokenizer
