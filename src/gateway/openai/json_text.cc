#include "gateway/openai/json_text.h"

#include <array>
#include <cmath>
#include <iterator>

#include <fmt/format.h>

#include "base/utf8.h"

namespace tandem::gateway::openai {
namespace {

// The length of a line break outside ASCII at the front of `text`, and its escape; 0 for none.
size_t WideLineBreak(std::string_view text, std::string_view* escape) {
  if (text.starts_with("\xC2\x85")) {
    *escape = "\\u0085";
    return 2;
  }
  if (text.starts_with("\xE2\x80\xA8")) {
    *escape = "\\u2028";
    return 3;
  }
  if (text.starts_with("\xE2\x80\xA9")) {
    *escape = "\\u2029";
    return 3;
  }
  return 0;
}

std::string_view ShortEscape(char c) {
  switch (c) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    default:
      return {};
  }
}

// What may need an escape: control characters, quotes, backslashes, and the first bytes of the line
// breaks outside ASCII.
constexpr auto kSpecial = [] {
  std::array<bool, 256> special{};
  for (size_t c = 0; c < 0x20; ++c) special[c] = true;
  for (const unsigned char c : {'"', '\\', '\xC2', '\xE2'}) special[c] = true;
  return special;
}();

void AppendValid(std::string_view text, std::string* out) {
  size_t copied = 0;
  for (size_t i = 0; i < text.size();) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (!kSpecial[c]) {
      ++i;
      continue;
    }
    size_t length = 0;
    std::string_view escape;
    if (c == 0xC2 || c == 0xE2) {
      length = WideLineBreak(text.substr(i), &escape);
    } else {
      length = 1;
      escape = ShortEscape(text[i]);
    }
    if (length == 0) {
      ++i;
      continue;
    }
    out->append(text, copied, i - copied);
    if (escape.empty()) {
      fmt::format_to(std::back_inserter(*out), "\\u{:04x}", c);
    } else {
      *out += escape;
    }
    i += length;
    copied = i;
  }
  out->append(text, copied);
}

}  // namespace

void AppendJsonString(std::string_view text, std::string* out) {
  *out += '"';
  if (utf8::IsValid(text)) {
    AppendValid(text, out);
  } else {
    AppendValid(utf8::Sanitize(text), out);
  }
  *out += '"';
}

void AppendJsonNumber(float value, std::string* out) {
  if (!std::isfinite(value)) value = -9999.0F;
  fmt::format_to(std::back_inserter(*out), "{}", value);
}

}  // namespace tandem::gateway::openai
