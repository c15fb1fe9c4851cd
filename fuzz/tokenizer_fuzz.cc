// Any bytes as text, as a chat template, as tokenizer.json and as tools: text must come back from
// its tokens, text of others must give no added token, and nothing may crash.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/utf8.h"
#include "engine/tokenizer/chat_template.h"
#include "engine/tokenizer/fake_vocabulary.h"
#include "engine/tokenizer/normalizer.h"
#include "engine/tokenizer/python_json.h"
#include "engine/tokenizer/stop_detector.h"
#include "engine/tokenizer/stream_decoder.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/tokenizer_json.h"

namespace tandem::tokenizer {
namespace {

const Tokenizer& FakeTokenizer(VocabularyKind kind) {
  static const auto kO200k = Tokenizer::Create(FakeVocabulary(VocabularyKind::kO200k)).value();
  static const auto kQwen2 = Tokenizer::Create(FakeVocabulary(VocabularyKind::kQwen2)).value();
  return kind == VocabularyKind::kO200k ? *kO200k : *kQwen2;
}

void RoundTrip(VocabularyKind kind, std::string_view bytes) {
  const Tokenizer& tokenizer = FakeTokenizer(kind);
  const std::string text = utf8::Sanitize(bytes);
  const std::vector<int32_t> ids = tokenizer.Encode(bytes, SpecialTokens::kIgnore);
  for (const int32_t id : ids) TANDEM_CHECK(tokenizer.Type(id) == TokenType::kNormal);
  const std::string back = tokenizer.Decode(ids, ControlTokens::kHide).value();
  TANDEM_CHECK(back == (kind == VocabularyKind::kQwen2 ? NormalizeNfc(text) : text));

  const std::vector<int32_t> parsed = tokenizer.Encode(bytes, SpecialTokens::kParse);
  TANDEM_CHECK(utf8::IsValid(tokenizer.Decode(parsed, ControlTokens::kShow).value()));
}

void Stream(std::string_view bytes, size_t cut) {
  StreamDecoder decoder(FakeTokenizer(VocabularyKind::kO200k));
  std::string text = decoder.PushBytes(bytes.substr(0, cut));
  TANDEM_CHECK(utf8::IsValid(text));
  text += decoder.PushBytes(bytes.substr(cut));
  TANDEM_CHECK(utf8::IsValid(text));
  text += decoder.Flush();
  TANDEM_CHECK(text == utf8::Sanitize(bytes));
}

// The text before the cut is a stop string for the text behind it.
void Stop(std::string_view bytes, size_t cut) {
  const std::string stop(bytes.substr(0, cut));
  const std::string_view text = bytes.substr(cut);
  StopDetector detector({stop});
  std::string shown = detector.Push(text.substr(0, text.size() / 2));
  shown += detector.Push(text.substr(text.size() / 2));
  shown += detector.Flush();
  const size_t found = stop.empty() ? std::string_view::npos : text.find(stop);
  TANDEM_CHECK(shown == text.substr(0, found));
  TANDEM_CHECK(detector.stopped() == (found != std::string_view::npos));
}

void Documents(VocabularyKind kind, std::string_view bytes) {
  const ChatTemplate chat = ChatTemplate::Choose(bytes, kind);
  const std::string text(bytes);
  const ChatMessage messages[] = {
      {"user", text}, {.role = "assistant", .content = text, .tool_calls = {{text, text, text}}}};
  if (const auto prompt = chat.Render(messages, "", true)) {
    TANDEM_CHECK(!FakeTokenizer(kind).EncodeSegments(*prompt).empty());
  }
  (void)chat.Render(messages, bytes, false);
  (void)PythonJson(bytes);
  if (const auto vocabulary = VocabularyFromTokenizerJson(bytes)) {
    (void)Tokenizer::Create(*vocabulary);
  }
}

}  // namespace
}  // namespace tandem::tokenizer

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using tandem::tokenizer::VocabularyKind;
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto kind = data[0] % 2 == 0 ? VocabularyKind::kO200k : VocabularyKind::kQwen2;
  const size_t cut = data[0] / 2 % (bytes.size() + 1);
  tandem::tokenizer::RoundTrip(kind, bytes);
  tandem::tokenizer::Stream(bytes, cut);
  tandem::tokenizer::Stop(bytes, cut);
  tandem::tokenizer::Documents(kind, bytes);
  return 0;
}
