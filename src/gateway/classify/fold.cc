#include "gateway/classify/fold.h"

#include <array>

#include "base/utf8.h"

namespace tandem::gateway {
namespace {

// Base letters of the accented Latin ones, by Unicode's canonical decomposition; letters that have
// none (ae, o with stroke, sharp s, d with stroke) by what people type instead. '-' is no letter
// and '?' stays as it is.
// U+00C0 to U+017F.
constexpr std::string_view kLatin =
    "aaaaaaaceeeeiiiidnooooo-ouuuuytsaaaaaaaceeeeiiiidnooooo-ouuuuytyaaaaaaccccccccdd"
    "ddeeeeeeeeeegggggggghhhhiiiiiiiiii??jjkkkllllllllllnnnnnnnnnoooooooorrrrrrssssss"
    "ssttttttuuuuuuuuuuuuwwyyyzzzzzzs";
// U+01A0 to U+01B0.
constexpr std::string_view kHorn = "oo?????????????uu";
// U+1E00 to U+1EFF.
constexpr std::string_view kAdditional =
    "aabbbbbbccddddddddddeeeeeeeeeeffgghhhhhhhhhhiiiikkkkkkllllllllmmmmmmnnnnnnnnoooo"
    "oooopppprrrrrrrrssssssssssttttttttuuuuuuuuuuvvvvwwwwwwwwwwxxxxyyzzzzzzhtwy????s?"
    "aaaaaaaaaaaaaaaaaaaaaaaaeeeeeeeeeeeeeeeeiiiioooooooooooooooooooooooouuuuuuuuuuuu"
    "uuyyyyyyyy??????";
static_assert(kLatin.size() == 0x180 - 0xC0);
static_assert(kHorn.size() == 0x1B1 - 0x1A0);
static_assert(kAdditional.size() == 0x1F00 - 0x1E00);

constexpr std::array<FoldedChar, 128> kAscii = [] {
  std::array<FoldedChar, 128> table;
  for (char32_t c = 0; c < 128; ++c) {
    FoldedChar folded{c, CharKind::kSymbol};
    if (c == '\n') {
      folded.kind = CharKind::kNewline;
    } else if (c <= ' ' || c == 127) {
      folded = {' ', CharKind::kSpace};
    } else if (c >= '0' && c <= '9') {
      folded = {'0', CharKind::kDigit};
    } else if (c >= 'A' && c <= 'Z') {
      folded = {c + ('a' - 'A'), CharKind::kLetter};
    } else if (c >= 'a' && c <= 'z') {
      folded.kind = CharKind::kLetter;
    }
    table[c] = folded;
  }
  return table;
}();

FoldedChar FoldLatin(char32_t c, char base) {
  if (base == '-') return {c, CharKind::kSymbol};
  if (base == '?') return {c, CharKind::kLetter};
  return {static_cast<char32_t>(base), CharKind::kLetter};
}

constexpr bool Between(char32_t c, char32_t first, char32_t last) {
  return c >= first && c <= last;
}

// Punctuation of Chinese and typographic quotes as ASCII has them.
FoldedChar FoldPunctuation(char32_t c) {
  switch (c) {
    case 0x3001:  // ideographic comma
      return kAscii[','];
    case 0x3002:  // ideographic full stop
      return kAscii['.'];
    case 0x2018:
    case 0x201A:
    case 0x2019:
      return kAscii['\''];
    case 0x201C:
    case 0x201E:
    case 0x201D:
    case 0x300C:
    case 0x300D:
    case 0xAB:
    case 0xBB:
      return kAscii['"'];
    case 0x2013:
    case 0x2014:
    case 0x2212:  // minus
      return kAscii['-'];
    default:
      return {c, CharKind::kSymbol};
  }
}

FoldedChar FoldWide(char32_t c) {
  if (Between(c, 0xC0, 0x17F)) return FoldLatin(c, kLatin[c - 0xC0]);
  if (Between(c, 0x1A0, 0x1B0)) return FoldLatin(c, kHorn[c - 0x1A0]);
  if (Between(c, 0x1E00, 0x1EFF)) return FoldLatin(c, kAdditional[c - 0x1E00]);
  if (Between(c, 0xFF01, 0xFF5E)) return kAscii[c - 0xFF01 + '!'];
  if (c == 0xA0 || Between(c, 0x2000, 0x200F) || c == 0x3000 || c == 0xFEFF) return kAscii[' '];
  if (Between(c, 0x660, 0x669) || Between(c, 0x966, 0x96F) || Between(c, 0xE50, 0xE59)) {
    return kAscii['0'];
  }
  if (Between(c, 0xE00, 0xEFF) || Between(c, 0x1000, 0x109F) || Between(c, 0x1780, 0x17FF)) {
    return {c, CharKind::kUnspaced};
  }
  if (Between(c, 0x3040, 0x30FF) || Between(c, 0x3400, 0x9FFF) || Between(c, 0xF900, 0xFAFF) ||
      Between(c, 0x20000, 0x3FFFF)) {
    return {c, CharKind::kIdeograph};
  }
  if (c < 0xC0 || Between(c, 0x2010, 0x2BFF) || Between(c, 0x3001, 0x303F) ||
      Between(c, 0xFE10, 0xFE4F) || Between(c, 0x1F000, 0x1FAFF)) {
    return FoldPunctuation(c);
  }
  return {c, CharKind::kLetter};
}

}  // namespace

size_t Fold(std::string_view text, std::span<FoldedChar> out) {
  size_t n = 0;
  while (!text.empty() && n < out.size()) {
    const auto first = static_cast<unsigned char>(text.front());
    if (first < 128) {
      out[n++] = kAscii[first];
      text.remove_prefix(1);
      continue;
    }
    const utf8::Decoded decoded = utf8::DecodeOne(text);
    text.remove_prefix(decoded.length);
    if (decoded.kind != utf8::Kind::kValid) {
      out[n++] = kAscii[' '];
    } else if (!Between(decoded.code_point, 0x300, 0x36F)) {  // an accent that stands alone
      out[n++] = FoldWide(decoded.code_point);
    }
  }
  return n;
}

}  // namespace tandem::gateway
