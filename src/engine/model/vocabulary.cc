#include "engine/model/vocabulary.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace tandem::model {
namespace {

using tokenizer::TokenType;

Status ReadTokens(const gguf::File& file, tokenizer::Vocabulary* vocabulary) {
  TANDEM_ASSIGN_OR_RETURN(const std::vector<std::string_view> tokens,
                          file.GetStringArray("tokenizer.ggml.tokens"));
  if (tokens.empty()) {
    return Err(ErrorCode::kCorrupt, "{}: tokenizer.ggml.tokens is empty", file.name());
  }
  // An id without an embedding could be encoded but not computed.
  const gguf::Tensor* embedding = file.Find("token_embd.weight");
  if (embedding != nullptr && tokens.size() > static_cast<uint64_t>(embedding->dims[1])) {
    return Err(ErrorCode::kCorrupt, "{}: {} tokens but only {} rows in token_embd.weight",
               file.name(), tokens.size(), embedding->dims[1]);
  }
  size_t n_bytes = 0;
  for (const std::string_view token : tokens) n_bytes += token.size();
  vocabulary->tokens.Reserve(tokens.size(), n_bytes);
  for (const std::string_view token : tokens) vocabulary->tokens.Append(token);

  vocabulary->types.assign(tokens.size(), TokenType::kNormal);
  if (file.FindKey("tokenizer.ggml.token_type") == nullptr) return {};
  TANDEM_ASSIGN_OR_RETURN(const gguf::IntArray types,
                          file.GetIntArray("tokenizer.ggml.token_type"));
  if (types.size() != tokens.size()) {
    return Err(ErrorCode::kCorrupt, "{}: tokenizer.ggml.token_type has {} entries for {} tokens",
               file.name(), types.size(), tokens.size());
  }
  for (size_t i = 0; i < types.size(); ++i) {
    const int64_t type = types[i];
    if (type < static_cast<int64_t>(TokenType::kNormal) ||
        type > static_cast<int64_t>(TokenType::kByte)) {
      return Err(ErrorCode::kCorrupt,
                 "{}: tokenizer.ggml.token_type of token {} is {}; "
                 "expected 1 to 6",
                 file.name(), i, type);
    }
    vocabulary->types[i] = static_cast<TokenType>(type);
  }
  return {};
}

Status ReadMerges(const gguf::File& file, tokenizer::Vocabulary* vocabulary) {
  TANDEM_ASSIGN_OR_RETURN(const std::vector<std::string_view> merges,
                          file.GetStringArray("tokenizer.ggml.merges"));
  size_t n_bytes = 0;
  for (const std::string_view merge : merges) n_bytes += merge.size();
  vocabulary->merges.Reserve(merges.size(), n_bytes);
  for (const std::string_view merge : merges) vocabulary->merges.Append(merge);
  return {};
}

Result<std::optional<int32_t>> SpecialId(const gguf::File& file, std::string_view name,
                                         size_t n_tokens) {
  const std::string key = fmt::format("tokenizer.ggml.{}_token_id", name);
  TANDEM_ASSIGN_OR_RETURN(const std::optional<uint64_t> id, file.FindUint(key));
  if (!id) return std::nullopt;
  if (*id >= n_tokens) {
    return Err(ErrorCode::kCorrupt, "{}: {} is {}, but there are {} tokens", file.name(), key, *id,
               n_tokens);
  }
  return static_cast<int32_t>(*id);
}

Result<tokenizer::Vocabulary> Read(const gguf::File& file) {
  tokenizer::Vocabulary vocabulary;
  TANDEM_ASSIGN_OR_RETURN(const std::string_view model, file.GetString("tokenizer.ggml.model"));
  if (model != "gpt2") {
    return Err(ErrorCode::kUnsupported,
               "{}: tokenizer model '{}' is not supported; Tandem has byte-level BPE ('gpt2')",
               file.name(), model);
  }
  TANDEM_ASSIGN_OR_RETURN(const std::string_view pre, file.GetString("tokenizer.ggml.pre"));
  TANDEM_ASSIGN_OR_RETURN(vocabulary.kind, tokenizer::VocabularyKindFromPre(pre));
  TANDEM_RETURN_IF_ERROR(ReadTokens(file, &vocabulary));
  TANDEM_RETURN_IF_ERROR(ReadMerges(file, &vocabulary));

  const std::pair<const char*, std::optional<int32_t>*> ids[] = {{"bos", &vocabulary.bos},
                                                                 {"eos", &vocabulary.eos},
                                                                 {"eot", &vocabulary.eot},
                                                                 {"eom", &vocabulary.eom},
                                                                 {"padding", &vocabulary.pad}};
  for (const auto& [name, id] : ids) {
    TANDEM_ASSIGN_OR_RETURN(*id, SpecialId(file, name, vocabulary.tokens.size()));
  }
  TANDEM_ASSIGN_OR_RETURN(const std::optional<bool> add_bos,
                          file.FindBool("tokenizer.ggml.add_bos_token"));
  vocabulary.add_bos = add_bos.value_or(false);
  TANDEM_ASSIGN_OR_RETURN(const std::optional<std::string_view> chat_template,
                          file.FindString("tokenizer.chat_template"));
  vocabulary.chat_template = chat_template.value_or("");
  return vocabulary;
}

}  // namespace

Result<tokenizer::Vocabulary> VocabularyFromGguf(const gguf::File& file) {
  Result<tokenizer::Vocabulary> vocabulary = Read(file);
  // A key that a model file must have is not just absent: the file is broken.
  if (!vocabulary && vocabulary.error().code == ErrorCode::kNotFound) {
    vocabulary.error().code = ErrorCode::kCorrupt;
  }
  return vocabulary;
}

}  // namespace tandem::model
