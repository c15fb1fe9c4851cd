// Text as the classifier compares it: lower case, no accents, ASCII where there is an equivalent.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace tandem::gateway {

enum class CharKind {
  kSpace,  // and what is no UTF-8
  kNewline,
  kLetter,     // of a script that separates words
  kDigit,      // folded to '0'
  kIdeograph,  // Chinese, kana: a character is about a syllable or a word
  kUnspaced,   // Thai, Lao, Khmer, Burmese: words of letters without spaces between
  kSymbol,
};

struct FoldedChar {
  char32_t code_point = 0;
  CharKind kind = CharKind::kSpace;
};

// Writes at most one character for each byte of `text`; combining accents give none. Returns how
// many; stops where `out` is full.
// Thread: any. Never allocates.
size_t Fold(std::string_view text, std::span<FoldedChar> out);

}  // namespace tandem::gateway
