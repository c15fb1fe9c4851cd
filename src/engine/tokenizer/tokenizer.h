// Charter of engine/tokenizer/: text to token ids and back, and messages to the text that a model
// was trained on. Byte-level BPE of the o200k and qwen2 families, chat templates, streaming
// decoding, stop strings. It includes base, utf8proc and Boost.JSON (in .cc files).
// Deliberately absent: files (a GGUF adaptor fills a Vocabulary), sampling, a Jinja interpreter.
#pragma once

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

  int32_t n_tokens() const { return static_cast<int32_t>(types_.size()); }
  VocabularyKind kind() const { return kind_; }
  // The id of an added token by its text, for example "<|end|>".
  std::optional<int32_t> FindSpecial(std::string_view text) const;
  const std::vector<int32_t>& end_of_generation() const { return end_of_generation_; }  // sorted
  bool IsEndOfGeneration(int32_t id) const;
  std::optional<int32_t> bos() const { return bos_; }
  std::optional<int32_t> eos() const { return eos_; }
  std::optional<int32_t> pad() const { return pad_; }
  // Whether a prompt starts with bos(). Left to the caller, who knows where a prompt starts.
  bool add_bos() const { return add_bos_; }

 private:
  class PromptEncoder;

  explicit Tokenizer(BytePairMerger merger) : merger_(std::move(merger)) {}
  void IndexTokens(const Vocabulary& vocabulary);
  Status IndexAddedTokens(const Vocabulary& vocabulary, TokenizerOptions options);
  void ApplyPublishedFlags(std::vector<AddedToken>* added);
  Status SetSpecialIds(const Vocabulary& vocabulary);
  std::string Normalize(std::string text) const;

  VocabularyKind kind_ = VocabularyKind::kO200k;
  BytePairMerger merger_;
  AddedTokenMatcher raw_added_;         // looked for in the raw text
  AddedTokenMatcher normalized_added_;  // looked for after normalisation
  std::string bytes_;                   // of all tokens, back to back
  std::vector<uint32_t> ends_;          // [n_tokens] in bytes_
  std::vector<TokenType> types_;        // [n_tokens]
  std::vector<int32_t> end_of_generation_;
  std::optional<int32_t> bos_, eos_, pad_;
  bool add_bos_ = false;
};

}  // namespace tandem::tokenizer
