// A model's tokenizer and chat template behind the engine's door, usable without its weights.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/package/file.h"
#include "engine/tokenizer/chat_template.h"
#include "engine/tokenizer/continuation.h"
#include "engine/tokenizer/tokenizer.h"

namespace tandem::engine {

using tokenizer::ChatMessage;  // role, content, tool_calls, ...
using tokenizer::ToolCall;

// Immutable. Thread: any.
class TextCodec {
 public:
  // A model file (a package, or GGUF, the first part where it is split), a folder in Hugging Face's
  // form or a tokenizer.json, told apart by their content.
  // Errors: kNotFound, kIo, kCorrupt, kUnsupported.
  static Result<std::shared_ptr<const TextCodec>> Open(const std::filesystem::path& path);
  static Result<std::shared_ptr<const TextCodec>> Create(const tokenizer::Vocabulary& vocabulary);
  // Over the tables of a package, which are read where they are mapped.
  // Errors: kUnsupported for a package without a tokenizer; kCorrupt.
  static Result<std::shared_ptr<const TextCodec>> FromPackage(
      const std::shared_ptr<const package::File>& file);

  // What markers such as <|user|> in a text become.
  enum class Specials { kText, kTokens };
  // No beginning-of-sequence token is added.
  // Errors: kInvalidArgument for text that is not UTF-8, with the offset.
  Result<std::vector<int32_t>> Encode(std::string_view text, Specials specials) const;
  // Valid UTF-8; U+FFFD stands for what is not. kText hides control tokens, kTokens spells them.
  // Errors: kInvalidArgument for an id outside the vocabulary.
  Result<std::string> Decode(std::span<const int32_t> token_ids, Specials specials) const;
  // A prompt that is text as it is: kTokens, and the beginning-of-sequence token where the model
  // has one.
  // Errors: as Encode().
  Result<std::vector<int32_t>> EncodePrompt(std::string_view text) const;
  // The prompt for the next turn (or the closed conversation, without add_generation_prompt).
  // Markers in messages are never parsed.
  // Errors: kInvalidArgument for a role or JSON that the template cannot render, kUnsupported for
  // tools where it has none.
  Result<std::vector<int32_t>> RenderChat(std::span<const ChatMessage> messages,
                                          std::string_view tools_json,
                                          bool add_generation_prompt = true) const;

  // How an answer that begins with `text` is continued.
  // Errors: kInvalidArgument for text that is not UTF-8, with the offset.
  Result<tokenizer::Continuation> PlanContinuation(std::string_view text) const;

  // Why answers may be worse than the model can do, such as a template that is not known; else
  // empty.
  const std::string& warning() const { return chat_template_.warning(); }
  int32_t n_tokens() const { return tokenizer_->n_tokens(); }
  const std::shared_ptr<const tokenizer::Tokenizer>& tokenizer() const { return tokenizer_; }

 private:
  TextCodec(std::shared_ptr<const tokenizer::Tokenizer> tokenizer,
            tokenizer::ChatTemplate chat_template);
  static std::shared_ptr<const TextCodec> Make(
      std::shared_ptr<const tokenizer::Tokenizer> tokenizer, std::string_view jinja);

  // The model's beginning-of-sequence token in front, where it has one and wants it.
  std::vector<int32_t> WithBos(std::vector<int32_t> token_ids) const;

  const std::shared_ptr<const tokenizer::Tokenizer> tokenizer_;
  const tokenizer::ChatTemplate chat_template_;
};

}  // namespace tandem::engine
