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

namespace tandem::tokenizer {
class ChatTemplate;
class Tokenizer;
}  // namespace tandem::tokenizer

namespace tandem::engine {

// One function call that a model asked for.
struct ToolCall {
  std::string id;
  std::string name;
  std::string arguments;  // JSON text of an object
};

struct ChatMessage {
  std::string role;     // "system", "user", "assistant", "tool"
  std::string content;  // valid UTF-8
  std::string name = {};
  std::vector<ToolCall> tool_calls = {};  // of an assistant's turn
  std::string tool_call_id = {};          // of a tool's turn
};

// Immutable. Thread: any.
class TextCodec {
 public:
  // A model file (GGUF, first part where it is split) or a tokenizer.json, told apart by their
  // content. Errors: kNotFound, kIo, kCorrupt, kUnsupported.
  static Result<std::shared_ptr<const TextCodec>> Open(const std::filesystem::path& path);
  ~TextCodec();

  // What markers such as <|user|> in a text become.
  enum class Specials { kText, kTokens };
  // Errors: kInvalidArgument for text that is not UTF-8, with the offset.
  Result<std::vector<int32_t>> Encode(std::string_view text, Specials specials) const;
  // Valid UTF-8; U+FFFD stands for what is not. `kText` leaves special tokens out, `kTokens` spells
  // them. Errors: kInvalidArgument for an id outside the vocabulary.
  Result<std::string> Decode(std::span<const int32_t> token_ids, Specials specials) const;
  // The prompt for the next turn (or the closed conversation, without add_generation_prompt).
  // Markers in messages are never parsed. Errors: kInvalidArgument for a role or JSON that the
  // template cannot render.
  Result<std::vector<int32_t>> RenderChat(std::span<const ChatMessage> messages,
                                          std::string_view tools_json,
                                          bool add_generation_prompt = true) const;

  int32_t n_tokens() const;
  const tokenizer::Tokenizer& tokenizer() const { return *tokenizer_; }

  TextCodec(std::shared_ptr<const tokenizer::Tokenizer> tokenizer,
            std::unique_ptr<const tokenizer::ChatTemplate> chat_template);

 private:
  std::shared_ptr<const tokenizer::Tokenizer> tokenizer_;
  std::unique_ptr<const tokenizer::ChatTemplate> chat_template_;
};

}  // namespace tandem::engine
