#include "engine/tokenizer/added_tokens.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/utf8.h"
#include "engine/tokenizer/unicode_class.h"

namespace tandem::tokenizer {
namespace {

// The code point that ends at `end`. `text` is valid UTF-8 and `end` is not 0.
utf8::Decoded CodePointBefore(std::string_view text, size_t end) {
  size_t begin = end - 1;
  while (begin > 0 && (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80) --begin;
  return utf8::DecodeOne(text.substr(begin, end - begin));
}

bool WordCharacterTouches(std::string_view text, size_t begin, size_t end) {
  if (begin > 0 && IsWordCharacter(CodePointBefore(text, begin).code_point)) return true;
  return end < text.size() && IsWordCharacter(utf8::DecodeOne(text.substr(end)).code_point);
}

}  // namespace

AddedTokenMatcher::AddedTokenMatcher(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::ranges::sort(tokens_, {}, &AddedToken::text);
  for (const AddedToken& token : tokens_) {
    TANDEM_CHECK(!token.text.empty() && token.text.size() <= kMaxTokenBytes);
    ++first_byte_[static_cast<uint8_t>(token.text[0]) + size_t{1}];
  }
  for (size_t b = 1; b < first_byte_.size(); ++b) first_byte_[b] += first_byte_[b - 1];
}

// Narrows the sorted range of tokens that share the first `depth` bytes with the text, byte by
// byte.
const AddedToken* AddedTokenMatcher::LongestPrefix(std::string_view text) const {
  const auto byte_at = [](size_t depth) {
    return [depth](const AddedToken& token) {
      return depth < token.text.size() ? static_cast<uint8_t>(token.text[depth]) + 1 : 0;
    };
  };
  const size_t first = static_cast<uint8_t>(text[0]);
  auto range = std::ranges::subrange(tokens_.begin() + first_byte_[first],
                                     tokens_.begin() + first_byte_[first + 1]);
  const AddedToken* longest = nullptr;
  for (size_t depth = 1; !range.empty(); ++depth) {
    // The shortest of a range sorts first.
    if (range.front().text.size() == depth) longest = &range.front();
    if (depth == text.size()) break;
    range =
        std::ranges::equal_range(range, static_cast<uint8_t>(text[depth]) + 1, {}, byte_at(depth));
  }
  return longest;
}

std::optional<AddedTokenMatcher::Match> AddedTokenMatcher::Find(std::string_view text,
                                                                size_t from) const {
  if (tokens_.empty()) return std::nullopt;
  for (size_t at = from; at < text.size();) {
    const AddedToken* token = LongestPrefix(text.substr(at));
    if (token == nullptr) {
      ++at;
      continue;
    }
    const size_t end = at + token->text.size();
    if (!token->flags.single_word || !WordCharacterTouches(text, at, end)) {
      return Match{at, end, token->flags};
    }
    at = end;
  }
  return std::nullopt;
}

std::optional<int32_t> AddedTokenMatcher::FindId(std::string_view token_text) const {
  const auto it = std::ranges::lower_bound(tokens_, token_text, {}, &AddedToken::text);
  if (it == tokens_.end() || it->text != token_text) return std::nullopt;
  return it->flags.id;
}

}  // namespace tandem::tokenizer
