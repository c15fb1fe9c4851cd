// Unicode normalisation form C, which Qwen2's tokenizer applies before anything else.
#pragma once

#include <string>
#include <string_view>

namespace tandem::tokenizer {

// `text` must be valid UTF-8.
// Cost:   O(n log n) for any text; one pass and a copy where every code point is below U+0300.
// Source: Unicode Standard Annex 15, with utf8proc's tables (Unicode 15).
std::string NormalizeNfc(std::string_view text);

}  // namespace tandem::tokenizer
