// UTF-8 by the Unicode standard's table 3-7 (no surrogates, no overlong forms, at most U+10FFFF).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace tandem::utf8 {

inline constexpr char32_t kReplacement = 0xFFFD;
inline constexpr size_t npos = static_cast<size_t>(-1);

enum class Kind {
  kValid,       // one code point, `length` bytes
  kInvalid,     // a maximal ill-formed subpart of `length` bytes: becomes one U+FFFD
  kIncomplete,  // the text ends inside a sequence that is valid so far; `length` bytes of it
};

struct Decoded {
  Kind kind = Kind::kInvalid;
  char32_t code_point = kReplacement;
  size_t length = 0;
};

// Decodes the sequence at the front of `text`, which must not be empty.
Decoded DecodeOne(std::string_view text);

// Offset of the first ill-formed or incomplete sequence, npos where there is none.
size_t FindInvalid(std::string_view text);
inline bool IsValid(std::string_view text) { return FindInvalid(text) == npos; }

// Each maximal ill-formed subpart replaced by U+FFFD, as Python and Rust decoders do.
std::string Sanitize(std::string_view text);

void Append(char32_t code_point, std::string* out);

}  // namespace tandem::utf8
