// A vocabulary as plain data: what a tokenizer.json or a GGUF file says, not yet checked or
// indexed. Tokenizer::Create checks it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace tandem::tokenizer {

// Which published pattern cuts text into pieces, and what is done to the text before.
enum class VocabularyKind {
  kO200k,  // GGUF's "gpt-4o": Phi-4-mini; no normalisation
  kQwen2,  // GGUF's "qwen2": Qwen2, Qwen2.5, MiMo; NFC first
};

// From GGUF's tokenizer.ggml.pre. kUnsupported for any other name: a wrong pattern would give
// plausible but wrong ids.
Result<VocabularyKind> VocabularyKindFromPre(std::string_view pre);

// The values are those of GGUF's tokenizer.ggml.token_type.
enum class TokenType : uint8_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,      // never shown to a reader, for example <|end|>
  kUserDefined = 4,  // matched whole like kControl, but shown, for example <tool_call>
  kUnused = 5,       // a padding row; no text makes it and sampling must mask it
  kByte = 6,         // like kNormal here
};

// How an added token (kControl or kUserDefined) is matched. HF's names and meanings.
struct AddedTokenFlags {
  int32_t id = 0;
  bool lstrip = false;       // also eats the white space before it
  bool rstrip = false;       // also eats the white space after it
  bool single_word = false;  // not where a word character touches it
  bool normalized = false;   // looked for after normalisation instead of in the raw text
};

// Strings back to back in one buffer: 200,000 short ones without 200,000 allocations.
class FlatStrings {
 public:
  void Reserve(size_t n_strings, size_t n_bytes) {
    ends_.reserve(n_strings);
    bytes_.reserve(n_bytes);
  }
  void Append(std::string_view text) {
    bytes_.append(text);
    ends_.push_back(bytes_.size());
  }
  size_t size() const { return ends_.size(); }
  bool empty() const { return ends_.empty(); }
  std::string_view operator[](size_t i) const {
    const size_t begin = i == 0 ? 0 : ends_[i - 1];
    return std::string_view(bytes_).substr(begin, ends_[i] - begin);
  }
  size_t n_bytes() const { return bytes_.size(); }

 private:
  std::string bytes_;
  std::vector<size_t> ends_;  // [n_strings]
};

struct Vocabulary {
  VocabularyKind kind = VocabularyKind::kO200k;

  // [n_tokens], by id. kNormal: in GPT-2's byte-to-unicode spelling ("Ġthe"). kControl and
  // kUserDefined: the text itself ("<|end|>").
  FlatStrings tokens;
  std::vector<TokenType> types;  // [n_tokens]

  // [n_merges] "left right" in the same spelling, most important first. Each is split at its first
  // space after byte 0.
  FlatStrings merges;

  // Flags of added tokens, any order. Without a value the file has none (GGUF), and the flags
  // published for the family apply where its markers are recognised: see Tokenizer::Create.
  std::optional<std::vector<AddedTokenFlags>> added;

  std::optional<int32_t> bos, eos, eot, eom, pad;
  bool add_bos = false;
  std::string chat_template;  // Jinja; empty: none
};

}  // namespace tandem::tokenizer
