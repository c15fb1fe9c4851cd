// Charter of engine/tokenizer/: text to token ids and back, and messages to the text that a model
// was trained on. Byte-level BPE of the o200k and qwen2 families, chat templates, streaming
// decoding, stop strings. It includes base, utf8proc and Boost.JSON (in .cc files).
// Deliberately absent: files (a GGUF adaptor fills a Vocabulary), sampling, a Jinja interpreter.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "engine/tokenizer/added_tokens.h"
#include "engine/tokenizer/bpe.h"
#include "engine/tokenizer/tables.h"
#include "engine/tokenizer/vocabulary.h"

namespace tandem::tokenizer {

enum class SpecialTokens {
  kIgnore,  // text of others: "<|end|>" is seven ordinary characters. No added token comes out.
  kParse,   // text of ours, for example a template's markers
};

enum class ControlTokens {
  kHide,  // decode to nothing
  kShow,  // decode to their text
};

// A stretch of a prompt. Added tokens are looked for in special segments only; everything that came
// from outside belongs in ordinary ones.
struct PromptSegment {
  std::string text;
  bool special = false;

  bool operator==(const PromptSegment&) const = default;
};

struct TokenizerOptions {
  // Whether rstrip flags count. HF's tokenizers honour them, llama.cpp does not for these models.
  bool rstrip = true;
};

// Immutable; any thread.
class Tokenizer {
 public:
  // Checks and indexes `vocabulary`.
  //
  // Flags of added tokens: GGUF files carry none. Where `vocabulary.added` is absent and an o200k
  // vocabulary has the markers <|system|>, <|user|>, <|assistant|> and <|end|>, it is taken for one
  // of Phi-4-mini's family and gets the flags of the published tokenizer.json: rstrip for ids
  // 200019-200028 there, and the five tool tags are shown when decoding (GGUF files call them
  // control tokens).
  //
  // End of generation: eos, eot and eom where the file names them, and every control token whose
  // text ends an answer or a document in one of the families (<|end|>, <|endoftext|>, <|im_end|>,
  // <|eot_id|>, <|eom_id|>, <|end_of_text|>): early Phi-4-mini files name only <|endoftext|>, and
  // a model would run on past <|end|>.
  //
  // Errors: kCorrupt for a vocabulary that contradicts itself, naming the token or merge.
  // Cost:   one pass; the memory of the result is about 24 bytes a token and 24 a merge.
  static Result<std::shared_ptr<const Tokenizer>> Create(const Vocabulary& vocabulary,
                                                         TokenizerOptions options = {});

  // A tokenizer over the bytes() of another one, read in place. `owner` keeps them
  // alive (a mapped file).
  // Errors: kCorrupt, kUnsupported for bytes that are no tables of this version; kInvalidArgument
  // for bytes that are not aligned to 4.
  // Cost:   one pass over the tables, nothing is built.
  static Result<std::shared_ptr<const Tokenizer>> Open(std::span<const std::byte> bytes,
                                                       std::shared_ptr<const void> owner);
  // All that this tokenizer knows, in the form that Open() takes.
  std::span<const std::byte> bytes() const { return image_; }

  // Ids of `text`, any bytes: each ill-formed sequence counts as U+FFFD. No bos is added.
  // Cost: O(n log n) for any text of n bytes.
  std::vector<int32_t> Encode(std::string_view text, SpecialTokens special) const;

  // Ids of a prompt. The same as encoding the segments' texts as one, except that only special
  // segments can give added tokens: word pieces do form across the border of two segments.
  std::vector<int32_t> EncodeSegments(std::span<const PromptSegment> segments) const;

  // The text of `ids`, any ids in range; ill-formed sequences become U+FFFD.
  // Errors: kInvalidArgument for an id out of range.
  Result<std::string> Decode(std::span<const int32_t> ids, ControlTokens control) const;

  // What `id` stands for: bytes that may be part of a code point, or a control token's text. Empty
  // for padding rows and ids out of range. Lives as long as the tokenizer.
  std::string_view TokenBytes(int32_t id) const;
  TokenType Type(int32_t id) const;  // kUnused out of range
  bool IsControl(int32_t id) const { return Type(id) == TokenType::kControl; }
  // False for rows that no text makes (padding, out of range): sampling must mask them.
  bool IsUsable(int32_t id) const { return Type(id) != TokenType::kUnused; }

  int32_t n_tokens() const { return tables_.n_tokens(); }
  VocabularyKind kind() const { return tables_.kind; }
  // The id of an added token by its text, for example "<|end|>".
  std::optional<int32_t> FindSpecial(std::string_view text) const;
  const std::vector<int32_t>& end_of_generation() const {
    return tables_.end_of_generation;  // sorted
  }
  bool IsEndOfGeneration(int32_t id) const;
  std::optional<int32_t> bos() const { return tables_.bos; }
  std::optional<int32_t> eos() const { return tables_.eos; }
  std::optional<int32_t> pad() const { return tables_.pad; }
  // Whether a prompt starts with bos(). Left to the caller, who knows where a prompt starts.
  bool add_bos() const { return tables_.add_bos; }

 private:
  class PromptEncoder;

  class Builder;

  Tokenizer(std::span<const std::byte> image, std::shared_ptr<const void> owner, Tables tables)
      : owner_(std::move(owner)), image_(image), tables_(std::move(tables)), merger_(tables_) {}
  Status IndexAddedTokens();
  std::string Normalize(std::string text) const;

  const std::shared_ptr<const void> owner_;  // of image_
  const std::span<const std::byte> image_;
  const Tables tables_;  // views into image_
  const BytePairMerger merger_;
  AddedTokenMatcher raw_added_;         // looked for in the raw text
  AddedTokenMatcher normalized_added_;  // looked for after normalisation
};

}  // namespace tandem::tokenizer
