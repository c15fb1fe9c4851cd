// Character tests for the finders, by the C locale's rules whatever the process's locale is, and
// sets of words.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace tandem::gateway::privacy::ascii {

enum Class : uint8_t { kDigit = 1, kUpper = 2, kLower = 4, kHexLetter = 8, kKeyMark = 16 };

// One table for all tests: the finders read every byte of a text several times.
inline constexpr std::array<uint8_t, 256> kClasses = [] {
  std::array<uint8_t, 256> classes{};
  for (size_t c = '0'; c <= '9'; ++c) classes[c] = kDigit;
  for (size_t c = 'A'; c <= 'Z'; ++c) classes[c] = kUpper;
  for (size_t c = 'a'; c <= 'z'; ++c) classes[c] = kLower;
  for (size_t c = 'A'; c <= 'F'; ++c) classes[c] |= kHexLetter;
  for (size_t c = 'a'; c <= 'f'; ++c) classes[c] |= kHexLetter;
  for (const char c : std::string_view("_-+/=.")) classes[static_cast<uint8_t>(c)] = kKeyMark;
  return classes;
}();

constexpr bool Is(char c, int classes) {
  return (kClasses[static_cast<uint8_t>(c)] & classes) != 0;
}
constexpr bool IsDigit(char c) { return Is(c, kDigit); }
constexpr bool IsUpper(char c) { return Is(c, kUpper); }
constexpr bool IsLower(char c) { return Is(c, kLower); }
constexpr bool IsAlpha(char c) { return Is(c, kUpper | kLower); }
constexpr bool IsAlnum(char c) { return Is(c, kDigit | kUpper | kLower); }
constexpr bool IsHex(char c) { return Is(c, kDigit | kHexLetter); }
// What keys in base64, base64url and hexadecimal are written with, and what joins their parts.
constexpr bool IsKeyByte(char c) { return Is(c, kDigit | kUpper | kLower | kKeyMark); }
constexpr char ToLower(char c) { return IsUpper(c) ? static_cast<char>(c + 32) : c; }

// `word` is in lower case. Bytes outside ASCII are compared as they are.
constexpr bool EqualsIgnoringCase(std::string_view text, std::string_view word) {
  return text.size() == word.size() &&
         std::ranges::equal(text, word, [](char a, char b) { return ToLower(a) == b; });
}

// Words in lower case.
class WordSet {
 public:
  explicit constexpr WordSet(std::span<const std::string_view> words) : words_(words) {
    for (const std::string_view word : words) starts_[static_cast<uint8_t>(word.front())] = true;
  }

  // Whether one of them is in `text` and ends at most `max_gap` bytes before its end. A word that
  // begins or ends with an ASCII letter counts only where the letter beside it is not of the same
  // word: "tel" is not in "hotel".
  constexpr bool IsIn(std::string_view text, size_t max_gap = std::string_view::npos) const {
    for (size_t at = 0; at < text.size(); ++at) {
      if (!starts_[static_cast<uint8_t>(ToLower(text[at]))]) continue;
      const bool inside = at > 0 && IsAlpha(text[at - 1]) && IsLower(text[at]);
      for (const std::string_view word : words_) {
        if (!EqualsIgnoringCase(text.substr(at, word.size()), word)) continue;
        const size_t end = at + word.size();
        if (text.size() - end > max_gap) continue;
        const bool joined = IsLower(word.back()) && end < text.size() && IsLower(text[end]);
        if (!joined && !(inside && IsLower(word.front()))) return true;
      }
    }
    return false;
  }

 private:
  std::span<const std::string_view> words_;
  std::array<bool, 256> starts_{};
};

}  // namespace tandem::gateway::privacy::ascii
