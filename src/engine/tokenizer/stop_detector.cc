#include "engine/tokenizer/stop_detector.h"

#include <algorithm>
#include <utility>

namespace tandem::tokenizer {

StopDetector::StopDetector(std::vector<std::string> stops) {
  std::erase_if(stops, [](const std::string& stop) { return stop.empty(); });
  // Longest first: of those that are complete at one place the first one found counts.
  std::ranges::sort(stops, std::ranges::greater(), &std::string::size);
  for (std::string& stop : stops) {
    Pattern pattern{.text = std::move(stop), .fallback = {0, 0}, .matched = 0};
    size_t border = 0;
    for (size_t n = 1; n < pattern.text.size(); ++n) {
      while (border > 0 && pattern.text[border] != pattern.text[n]) {
        border = pattern.fallback[border];
      }
      if (pattern.text[border] == pattern.text[n]) ++border;
      pattern.fallback.push_back(border);
    }
    patterns_.push_back(std::move(pattern));
  }
}

bool StopDetector::Advance(Pattern* pattern, char byte) {
  size_t& matched = pattern->matched;
  while (matched > 0 && pattern->text[matched] != byte) matched = pattern->fallback[matched];
  if (pattern->text[matched] == byte) ++matched;
  return matched == pattern->text.size();
}

std::string StopDetector::Push(std::string_view text) {
  if (stopped_) return {};
  std::string safe = std::exchange(held_, {});
  for (const char byte : text) {
    safe.push_back(byte);
    for (Pattern& pattern : patterns_) {
      if (!Advance(&pattern, byte)) continue;
      stopped_ = true;
      stop_ = pattern.text;
      safe.resize(safe.size() - stop_.size());
      return safe;
    }
  }
  size_t held = 0;
  for (const Pattern& pattern : patterns_) held = std::max(held, pattern.matched);
  held_ = safe.substr(safe.size() - held);
  safe.resize(safe.size() - held);
  return safe;
}

std::string StopDetector::Flush() { return std::exchange(held_, {}); }

}  // namespace tandem::tokenizer
