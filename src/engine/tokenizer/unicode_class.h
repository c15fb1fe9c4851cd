// The few Unicode properties that tokenizers ask for, over utf8proc's tables (Unicode 15).
#pragma once

#include <cstdint>

namespace tandem::tokenizer {

// A set of these bits describes a code point.
enum UnicodeClass : uint8_t {
  kUpperSet = 1,     // Lu, Lt, Lm, Lo, M: what may stand in a word's first half (o200k)
  kLowerSet = 2,     // Ll, Lm, Lo, M: what may stand in its second half
  kLetter = 4,       // L
  kNumber = 8,       // N
  kWhiteSpace = 16,  // White_Space
  kLineBreak = 32,   // CR or LF
};

uint8_t ClassOf(char32_t code_point);

// White_Space, the property: not U+200B, U+FEFF, U+180E or U+001C-001F.
bool IsWhiteSpace(char32_t code_point);

// \w of Rust's regex: Alphabetic (here: L and Nl), M, Nd, Pc and the joiners.
bool IsWordCharacter(char32_t code_point);

}  // namespace tandem::tokenizer
