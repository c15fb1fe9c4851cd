#include "engine/tokenizer/unicode_class.h"

#include <array>

#include <utf8proc.h>

namespace tandem::tokenizer {
namespace {

uint8_t LookUp(char32_t c) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT:
      return kUpperSet | kLetter;
    case UTF8PROC_CATEGORY_LL:
      return kLowerSet | kLetter;
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return kUpperSet | kLowerSet | kLetter;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
      return kUpperSet | kLowerSet;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return kNumber;
    default:
      break;
  }
  if (c == '\r' || c == '\n') return kWhiteSpace | kLineBreak;
  return IsWhiteSpace(c) ? kWhiteSpace : 0;
}

// Most text is ASCII: no walk through utf8proc's tables for it.
const std::array<uint8_t, 128>& AsciiClasses() {
  static const std::array<uint8_t, 128> kClasses = [] {
    std::array<uint8_t, 128> classes{};
    for (char32_t c = 0; c < 128; ++c) classes[c] = LookUp(c);
    return classes;
  }();
  return kClasses;
}

}  // namespace

uint8_t ClassOf(char32_t code_point) {
  return code_point < 128 ? AsciiClasses()[code_point] : LookUp(code_point);
}

bool IsWhiteSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool IsWordCharacter(char32_t c) {
  constexpr char32_t kZeroWidthNonJoiner = 0x200C, kZeroWidthJoiner = 0x200D;
  if (c == kZeroWidthNonJoiner || c == kZeroWidthJoiner) return true;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return (ClassOf(c) & (kLetter | kUpperSet | kLowerSet)) != 0;
  }
}

}  // namespace tandem::tokenizer
