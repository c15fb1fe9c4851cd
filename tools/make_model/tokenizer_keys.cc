#include "make_model/tokenizer_keys.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "engine/tokenizer/byte_unicode.h"
#include "engine/tokenizer/tokenizer_json.h"
#include "engine/tokenizer/vocabulary.h"
#include "os/file.h"

namespace tandem::make_model {
namespace {

using tokenizer::TokenType;

// Far above the published ones (16 MB).
constexpr size_t kMaxTokenizerBytes = size_t{256} << 20;

// Source: tokenizer_config.json of Phi-4-mini-instruct.
constexpr std::string_view kPhi4MiniTemplate =
    "{% for message in messages %}{% if message['role'] == 'system' and 'tools' in message and "
    "message['tools'] is not none %}{{ '<|' + message['role'] + '|>' + message['content'] + "
    "'<|tool|>' + message['tools'] + '<|/tool|>' + '<|end|>' }}{% else %}{{ '<|' + "
    "message['role'] + '|>' + message['content'] + '<|end|>' }}{% endif %}{% endfor %}{% if "
    "add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}";

// Plain ChatML, as for Qwen2's base models.
constexpr std::string_view kChatMlTemplate =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] "
    "+ '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ "
    "'<|im_start|>assistant\\n' }}{% endif %}";

struct Tokens {
  std::vector<std::string> texts;
  std::vector<int32_t> types;
  std::vector<std::string> merges;

  void Add(std::string text, TokenType type) {
    texts.push_back(std::move(text));
    types.push_back(static_cast<int32_t>(type));
  }
};

Tokens ByteTokens(const Shape& shape) {
  Tokens tokens;
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    tokens.Add(tokenizer::UnicodeFromBytes({&c, 1}), TokenType::kNormal);
  }
  const std::vector<std::string_view> markers =
      shape.phi3
          ? std::vector<std::string_view>{"<|endoftext|>",    "<|assistant|>", "<|end|>",
                                          "<|user|>",         "<|system|>",    "<|tool|>",
                                          "<|/tool|>",        "<|tool_call|>", "<|/tool_call|>",
                                          "<|tool_response|>"}
          : std::vector<std::string_view>{"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
  for (const std::string_view marker : markers) {
    tokens.Add(std::string(marker), TokenType::kControl);
  }
  return tokens;
}

Result<Tokens> ReadTokens(const Shape& shape, const std::filesystem::path& tokenizer_json) {
  TANDEM_ASSIGN_OR_RETURN(const std::string text, os::ReadFile(tokenizer_json, kMaxTokenizerBytes));
  TANDEM_ASSIGN_OR_RETURN(const tokenizer::Vocabulary vocabulary,
                          tokenizer::VocabularyFromTokenizerJson(text));
  const auto kind =
      shape.phi3 ? tokenizer::VocabularyKind::kO200k : tokenizer::VocabularyKind::kQwen2;
  if (vocabulary.kind != kind) {
    return Err(ErrorCode::kInvalidArgument, "'{}' is not a tokenizer of {}'s family",
               tokenizer_json.string(), shape.name);
  }
  Tokens tokens;
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const std::string_view token = vocabulary.tokens[id];
    TokenType type = vocabulary.types[id];
    // llama.cpp's converter takes every added token that looks like a marker for a control token.
    if (type == TokenType::kUserDefined && token.starts_with("<|") && token.ends_with("|>")) {
      type = TokenType::kControl;
    }
    tokens.Add(type == TokenType::kUnused ? fmt::format("[PAD{}]", id) : std::string(token), type);
  }
  for (size_t i = 0; i < vocabulary.merges.size(); ++i) {
    tokens.merges.emplace_back(vocabulary.merges[i]);
  }
  return tokens;
}

}  // namespace

Result<int> SetTokenizerKeys(const Shape& shape,
                             const std::optional<std::filesystem::path>& tokenizer_json,
                             gguf::Writer* writer) {
  Tokens tokens = ByteTokens(shape);
  if (tokenizer_json) {
    TANDEM_ASSIGN_OR_RETURN(tokens, ReadTokens(shape, *tokenizer_json));
  }
  const auto vocab_size = static_cast<size_t>(shape.vocab_size);
  if (tokens.texts.size() > vocab_size && !shape.name.starts_with("tiny")) {
    return Err(ErrorCode::kInvalidArgument, "'{}' has {} tokens, but {} has room for {}",
               tokenizer_json.value_or("").string(), tokens.texts.size(), shape.name, vocab_size);
  }
  for (size_t id = tokens.texts.size(); id < vocab_size; ++id) {
    tokens.Add(fmt::format("[PAD{}]", id), TokenType::kUnused);
  }

  writer->SetString("tokenizer.ggml.model", "gpt2");
  writer->SetString("tokenizer.ggml.pre", shape.phi3 ? "gpt-4o" : "qwen2");
  writer->SetStringArray("tokenizer.ggml.tokens", tokens.texts);
  writer->SetArray<int32_t>("tokenizer.ggml.token_type", tokens.types);
  writer->SetStringArray("tokenizer.ggml.merges", tokens.merges);
  const auto set_id = [&](std::string_view key, std::string_view text) -> Status {
    const auto at = std::ranges::find(tokens.texts, text);
    if (at == tokens.texts.end()) {
      return Err(ErrorCode::kInvalidArgument, "the tokenizer has no token '{}'", text);
    }
    writer->SetNumber<uint32_t>(key, static_cast<uint32_t>(at - tokens.texts.begin()));
    return {};
  };
  TANDEM_RETURN_IF_ERROR(set_id("tokenizer.ggml.bos_token_id", "<|endoftext|>"));
  TANDEM_RETURN_IF_ERROR(
      set_id("tokenizer.ggml.eos_token_id", shape.phi3 ? "<|end|>" : "<|im_end|>"));
  TANDEM_RETURN_IF_ERROR(set_id("tokenizer.ggml.padding_token_id", "<|endoftext|>"));
  writer->SetNumber<bool>("tokenizer.ggml.add_bos_token", false);
  writer->SetString("tokenizer.chat_template", shape.phi3 ? kPhi4MiniTemplate : kChatMlTemplate);
  return static_cast<int>(tokens.texts.size());
}

}  // namespace tandem::make_model
