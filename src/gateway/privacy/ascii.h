// Character tests for the finders, by the C locale's rules whatever the process's locale is.
#pragma once

#include <algorithm>
#include <string_view>

namespace tandem::gateway::privacy::ascii {

constexpr bool IsDigit(char c) { return c >= '0' && c <= '9'; }
constexpr bool IsUpper(char c) { return c >= 'A' && c <= 'Z'; }
constexpr bool IsLower(char c) { return c >= 'a' && c <= 'z'; }
constexpr bool IsAlpha(char c) { return IsUpper(c) || IsLower(c); }
constexpr bool IsAlnum(char c) { return IsAlpha(c) || IsDigit(c); }
constexpr bool IsHex(char c) {
  return IsDigit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}
constexpr char ToLower(char c) { return IsUpper(c) ? static_cast<char>(c + 32) : c; }

// `word` is in lower case. Bytes outside ASCII are compared as they are.
constexpr bool EqualsIgnoringCase(std::string_view text, std::string_view word) {
  return text.size() == word.size() &&
         std::ranges::equal(text, word, [](char a, char b) { return ToLower(a) == b; });
}

// Whether `text` has one of `words` (lower case) in it. A word that begins or ends with an ASCII
// letter counts only where the letter beside it is not part of the same word: "tel" is not in
// "hotel".
template <typename Words>
constexpr bool HasWord(std::string_view text, const Words& words) {
  for (const std::string_view word : words) {
    for (size_t at = 0; at + word.size() <= text.size(); ++at) {
      if (!EqualsIgnoringCase(text.substr(at, word.size()), word)) continue;
      const size_t end = at + word.size();
      const bool joined_before =
          IsLower(word.front()) && at > 0 && IsAlpha(text[at - 1]) && !IsUpper(text[at]);
      const bool joined_after = IsLower(word.back()) && end < text.size() && IsLower(text[end]);
      if (!joined_before && !joined_after) return true;
    }
  }
  return false;
}

}  // namespace tandem::gateway::privacy::ascii
