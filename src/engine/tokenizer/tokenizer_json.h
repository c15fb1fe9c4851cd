// Reads HF's tokenizer.json.
#pragma once

#include <string_view>

#include "base/error.h"
#include "engine/tokenizer/vocabulary.h"

namespace tandem::tokenizer {

// The vocabulary that `json`, the text of a tokenizer.json, describes. The file names no eos and no
// chat template; those are in tokenizer_config.json, which is not read.
//
// Both spellings of merges are taken ("a b" and ["a", "b"]). Ids that neither the vocabulary nor
// the added tokens name become unused rows.
//
// Errors: kCorrupt where it is not JSON or lacks what a byte-level BPE needs; kUnsupported where it
//         is a tokenizer of another kind. Both say which field.
// Cost:   a JSON document in memory, about ten times the text; for tools and tests.
Result<Vocabulary> VocabularyFromTokenizerJson(std::string_view json);

}  // namespace tandem::tokenizer
