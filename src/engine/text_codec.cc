#include "engine/text_codec.h"

#include <algorithm>
#include <utility>

#include "base/utf8.h"
#include "engine/gguf/file.h"
#include "engine/model/huggingface.h"
#include "engine/model/vocabulary.h"
#include "engine/tokenizer/tokenizer_json.h"
#include "os/file.h"

namespace tandem::engine {
namespace {

constexpr std::string_view kGgufMagic = "GGUF";

std::string_view AsText(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

TextCodec::TextCodec(std::shared_ptr<const tokenizer::Tokenizer> tokenizer,
                     tokenizer::ChatTemplate chat_template)
    : tokenizer_(std::move(tokenizer)), chat_template_(std::move(chat_template)) {}

std::shared_ptr<const TextCodec> TextCodec::Make(
    std::shared_ptr<const tokenizer::Tokenizer> tokenizer, std::string_view jinja) {
  const std::string_view eos_text =
      tokenizer->eos() ? tokenizer->TokenBytes(*tokenizer->eos()) : std::string_view{};
  auto chat_template = tokenizer::ChatTemplate::Choose(jinja, tokenizer->kind(), eos_text);
  return std::shared_ptr<const TextCodec>(
      new TextCodec(std::move(tokenizer), std::move(chat_template)));
}

Result<std::shared_ptr<const TextCodec>> TextCodec::Create(
    const tokenizer::Vocabulary& vocabulary) {
  TANDEM_ASSIGN_OR_RETURN(std::shared_ptr<const tokenizer::Tokenizer> tokenizer,
                          tokenizer::Tokenizer::Create(vocabulary));
  return Make(std::move(tokenizer), vocabulary.chat_template);
}

Result<std::shared_ptr<const TextCodec>> TextCodec::FromPackage(
    const std::shared_ptr<const package::File>& file) {
  if (file->tokenizer().empty()) {
    return Err(ErrorCode::kUnsupported,
               "{}: the package has no tokenizer; the model file's could not be used when it was "
               "packed",
               file->name());
  }
  auto tokenizer = tokenizer::Tokenizer::Open(file->tokenizer(), file);
  if (!tokenizer) return Wrap(std::move(tokenizer).error(), file->name());
  TANDEM_ASSIGN_OR_RETURN(const std::optional<std::string_view> jinja,
                          file->model()->FindString("tokenizer.chat_template"));
  return Make(*std::move(tokenizer), jinja.value_or(""));
}

Result<std::shared_ptr<const TextCodec>> TextCodec::Open(const std::filesystem::path& path) {
  if (model::IsHuggingFaceFolder(path)) {
    TANDEM_ASSIGN_OR_RETURN(const auto file, model::OpenHuggingFace(path));
    TANDEM_ASSIGN_OR_RETURN(const tokenizer::Vocabulary vocabulary,
                            model::VocabularyFromGguf(*file));
    return Create(vocabulary);
  }
  TANDEM_ASSIGN_OR_RETURN(const os::MappedFile mapped, os::MappedFile::Open(path));
  const std::string_view bytes = AsText(mapped.bytes());
  if (bytes.starts_with(package::kMagic)) {
    TANDEM_ASSIGN_OR_RETURN(const auto file, package::File::Open(path));
    return FromPackage(file);
  }
  if (bytes.starts_with(kGgufMagic)) {
    TANDEM_ASSIGN_OR_RETURN(const std::shared_ptr<const gguf::File> file, gguf::File::Open(path));
    TANDEM_ASSIGN_OR_RETURN(const tokenizer::Vocabulary vocabulary,
                            model::VocabularyFromGguf(*file));
    return Create(vocabulary);
  }
  auto vocabulary = tokenizer::VocabularyFromTokenizerJson(bytes);
  if (!vocabulary) return Wrap(std::move(vocabulary).error(), path.string());
  return Create(*vocabulary);
}

Result<std::vector<int32_t>> TextCodec::Encode(std::string_view text, Specials specials) const {
  if (const size_t at = utf8::FindInvalid(text); at != utf8::npos) {
    return Err(ErrorCode::kInvalidArgument, "the text is not valid UTF-8 at byte {}", at);
  }
  return tokenizer_->Encode(text, specials == Specials::kTokens
                                      ? tokenizer::SpecialTokens::kParse
                                      : tokenizer::SpecialTokens::kIgnore);
}

Result<std::string> TextCodec::Decode(std::span<const int32_t> token_ids, Specials specials) const {
  return tokenizer_->Decode(token_ids, specials == Specials::kTokens
                                           ? tokenizer::ControlTokens::kShow
                                           : tokenizer::ControlTokens::kHide);
}

Result<std::vector<int32_t>> TextCodec::EncodePrompt(std::string_view text) const {
  TANDEM_ASSIGN_OR_RETURN(std::vector<int32_t> token_ids, Encode(text, Specials::kTokens));
  return WithBos(std::move(token_ids));
}

Result<std::vector<int32_t>> TextCodec::RenderChat(std::span<const ChatMessage> messages,
                                                   std::string_view tools_json,
                                                   bool add_generation_prompt) const {
  TANDEM_ASSIGN_OR_RETURN(const std::vector<tokenizer::PromptSegment> segments,
                          chat_template_.Render(messages, tools_json, add_generation_prompt));
  return WithBos(tokenizer_->EncodeSegments(segments));
}

Result<tokenizer::Continuation> TextCodec::PlanContinuation(std::string_view text) const {
  if (const size_t at = utf8::FindInvalid(text); at != utf8::npos) {
    return Err(ErrorCode::kInvalidArgument, "the text is not valid UTF-8 at byte {}", at);
  }
  return tokenizer::PlanContinuation(*tokenizer_, text);
}

std::vector<int32_t> TextCodec::WithBos(std::vector<int32_t> token_ids) const {
  if (tokenizer_->add_bos() && tokenizer_->bos()) {
    token_ids.insert(token_ids.begin(), *tokenizer_->bos());
  }
  return token_ids;
}

}  // namespace tandem::engine
