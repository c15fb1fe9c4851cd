// A folder in Hugging Face's form (config.json, tokenizer.json, safetensors) as a model file.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "base/error.h"
#include "engine/gguf/file.h"

namespace tandem::model {

// A folder with a config.json.
bool IsHuggingFaceFolder(const std::filesystem::path& path);

// What the folder would be as a GGUF file: the keys and names of GGUF, the tensors where they are
// mapped. Runs Phi3ForCausalLM, Qwen2ForCausalLM and MiMoForCausalLM; of MiMo's multi-token
// prediction layers the first, in the nextn convention, for which the halves of its input_proj
// change places: a copy, the only tensor that is not just mapped.
//
// config.json and generation_config.json give the keys, tokenizer.json the tokens,
// tokenizer_config.json or chat_template.jinja the template; of these only config.json must be
// there. Flags of added tokens (rstrip and the like) are those of the family, for GGUF has none.
//
// Errors: kUnsupported for another architecture or something in config.json that Tandem does not
// compute; kCorrupt for a value that makes no sense; those of safetensors::Checkpoint::Open() and
// os::ReadFile(). The message names the file and the field.
// Cost: tokenizer.json is parsed, a second for 200,000 tokens; reads no tensor but input_proj.
Result<std::shared_ptr<const gguf::File>> OpenHuggingFace(const std::filesystem::path& folder);

// All files that OpenHuggingFace() looks at. Errors: kNotFound where there are no weights.
Result<std::vector<std::filesystem::path>> HuggingFaceFiles(const std::filesystem::path& folder);

}  // namespace tandem::model
