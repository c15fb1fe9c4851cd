// GPT-2's reversible spelling of arbitrary bytes as printable code points: the form in which
// tokenizer.json and GGUF store byte-level tokens and merges.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tandem::tokenizer {

// The code point that stands for `byte`: itself where it is printable Latin-1, else U+0100 + n,
// where n counts the other bytes upwards (so space is U+0120 'Ġ').
char32_t ByteToUnicode(uint8_t byte);

// Appends the bytes that `text` spells. False, with `out` as it was, where `text` is not UTF-8 or
// holds a code point that stands for no byte.
bool AppendBytesFromUnicode(std::string_view text, std::string* out);

// The opposite direction, for any bytes.
std::string UnicodeFromBytes(std::string_view bytes);

}  // namespace tandem::tokenizer
