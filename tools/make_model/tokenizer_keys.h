// The tokenizer's part of a model file's metadata.
#pragma once

#include <filesystem>
#include <optional>

#include "base/error.h"
#include "engine/gguf/writer.h"
#include "make_model/shapes.h"

namespace tandem::make_model {

// Sets tokenizer.ggml.* and tokenizer.chat_template as llama.cpp's converter would, and returns the
// number of tokens, which is what the embedding needs rows for.
// With a tokenizer.json its tokens, types and merges; without one the 256 bytes and the family's
// markers, no merges. Then unused rows "[PADn]" up to the shape's vocabulary; the tiny shapes grow
// to the tokenizer's instead.
// Errors: those of reading the file; kInvalidArgument if the tokenizer is of the other family or
// has more tokens than the shape.
Result<int> SetTokenizerKeys(const Shape& shape,
                             const std::optional<std::filesystem::path>& tokenizer_json,
                             gguf::Writer* writer);

}  // namespace tandem::make_model
