// Cuts text into the pieces inside which byte pairs merge, exactly as the published patterns do:
//
// o200k
// [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?
//       |[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?
//       |\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+
// qwen2  (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*
//       |\s*[\r\n]+|\s+(?!\S)|\s+
//
// where \s is Unicode White_Space. The two patterns are scanned by hand: each choice that a
// backtracking matcher would try is decided from one look at a run of code points, so the time is
// linear whatever the text. The tests hold the scanner against PCRE2 running the patterns.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "engine/tokenizer/vocabulary.h"

namespace tandem::tokenizer {

// Length in bytes of the piece at the front of `text`, which must be valid UTF-8 and not empty.
// What follows the piece matters, so pass all the text that is left.
// Cost: O(piece), amortised over the pieces of a text.
size_t FirstPieceLength(VocabularyKind kind, std::string_view text);

// All pieces of `text` (valid UTF-8), views into it; together they are `text`.
std::vector<std::string_view> Pretokenize(VocabularyKind kind, std::string_view text);

}  // namespace tandem::tokenizer
