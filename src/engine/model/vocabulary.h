// From a model file's tokenizer keys to the tokenizer's vocabulary.
#pragma once

#include "base/error.h"
#include "engine/gguf/file.h"
#include "engine/tokenizer/vocabulary.h"

namespace tandem::model {

// Reads tokenizer.ggml.* and tokenizer.chat_template.
// Errors: kUnsupported for a tokenizer that is not byte-level BPE of a known pre-tokeniser,
// kCorrupt for keys that are missing or contradict each other; the message names the key.
// Cost: copies the token and merge strings, about 10 MB for the real models.
Result<tokenizer::Vocabulary> VocabularyFromGguf(const gguf::File& file);

}  // namespace tandem::model
