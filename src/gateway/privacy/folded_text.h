// A text in the form that the finders read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tandem::gateway::privacy {

// Full-width letters, other scripts' digits, typographic hyphens and spaces become their ASCII
// equals, and invisible characters go, so that a number typed with a Chinese or Thai keyboard, or
// broken by a soft hyphen, is found like any other. Keeps a view of the original, which outlives
// it. Cost: linear; nothing is copied where there is nothing to fold.
class FoldedText {
 public:
  explicit FoldedText(std::string_view original);

  std::string_view text() const { return folded_ ? std::string_view(buffer_) : original_; }

  // The bytes of the original that [begin, end) of text() came from. begin < end.
  std::pair<size_t, size_t> Original(size_t begin, size_t end) const;

 private:
  std::string_view original_;
  bool folded_ = false;
  std::string buffer_;             // where folded_
  std::vector<uint32_t> offsets_;  // [buffer_.size()]: of each byte's source in original_
};

// Letters, marks, digits and '_': what a word is made of.
bool IsWordCodePoint(char32_t c);
// Scripts that put no space between words (and Hangul, whose particles follow names directly).
bool IsSpacelessScript(char32_t c);

// The code point that ends right before `at` (0 < at <= size), and where it begins. Ill-formed
// bytes count one by one, as U+FFFD.
std::pair<char32_t, size_t> CodePointBefore(std::string_view text, size_t at);

// Whether a word may begin (end) at `at`: the characters on both sides are not part of one word.
bool IsWordBoundary(std::string_view text, size_t at);

}  // namespace tandem::gateway::privacy
