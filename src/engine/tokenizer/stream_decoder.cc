#include "engine/tokenizer/stream_decoder.h"

#include "base/utf8.h"

namespace tandem::tokenizer {

std::string StreamDecoder::Push(int32_t id) {
  if (control_ == ControlTokens::kHide && tokenizer_->IsControl(id)) return {};
  return PushBytes(tokenizer_->TokenBytes(id));
}

std::string StreamDecoder::PushBytes(std::string_view bytes) {
  held_ += bytes;
  std::string text;
  std::string_view rest = held_;
  while (!rest.empty()) {
    const utf8::Decoded decoded = utf8::DecodeOne(rest);
    if (decoded.kind == utf8::Kind::kIncomplete) break;
    utf8::Append(decoded.code_point, &text);
    rest.remove_prefix(decoded.length);
  }
  held_.erase(0, held_.size() - rest.size());
  return text;
}

std::string StreamDecoder::Flush() {
  std::string text;
  if (!held_.empty()) utf8::Append(utf8::kReplacement, &text);
  held_.clear();
  return text;
}

}  // namespace tandem::tokenizer
