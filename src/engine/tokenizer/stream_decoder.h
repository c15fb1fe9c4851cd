// Token ids to text, one at a time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "engine/tokenizer/tokenizer.h"

namespace tandem::tokenizer {

// Every string that comes out is valid UTF-8, and together they are the text of all tokens with
// each ill-formed sequence replaced by U+FFFD (utf8::Sanitize of the tokens' bytes), however the
// bytes were cut into tokens. Held back is only the start of a code point that is valid so far, at
// most 3 bytes.
//
// One stream, one thread. `tokenizer` must outlive it.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, ControlTokens control = ControlTokens::kHide)
      : tokenizer_(&tokenizer), control_(control) {}

  // The text that `id` completes; often empty. A hidden control token gives nothing. Ids out of
  // range and padding rows give nothing.
  std::string Push(int32_t id);

  // The same for bytes that are no token.
  std::string PushBytes(std::string_view bytes);

  // The end: what is held back becomes one U+FFFD. The decoder is then as new.
  std::string Flush();

 private:
  const Tokenizer* tokenizer_;
  ControlTokens control_;
  std::string held_;  // a valid but incomplete sequence, 0 to 3 bytes
};

}  // namespace tandem::tokenizer
