#include "gateway/privacy/folded_text.h"

#include <algorithm>

#include <utf8proc.h>

#include "base/utf8.h"

namespace tandem::gateway::privacy {
namespace {

constexpr char kDrop = '\0';
constexpr char kKeep = '\x01';

// Whether FoldOne may change the sequence that begins with these two bytes.
constexpr bool MayFold(unsigned char lead, unsigned char second) {
  switch (lead) {
    case 0xC2:
      return second == 0xA0 || second == 0xAD;
    case 0xD9:
    case 0xDB:
      return true;
    case 0xE0:
      return second == 0xA5 || second == 0xA7 || second == 0xB9 || second == 0xBB;
    case 0xE2:
      return second == 0x80 || second == 0x81 || second == 0x88;
    case 0xE3:
      return second == 0x80;
    case 0xEF:
      return second >= 0xB9;
    default:
      return false;
  }
}

// The ASCII character that stands for `c`, kDrop or kKeep.
char FoldOne(char32_t c) {
  const auto digit = [&](char32_t zero) -> char {
    return c >= zero && c < zero + 10 ? static_cast<char>('0' + (c - zero)) : kKeep;
  };
  if (c >= 0xFF01 && c <= 0xFF5E) return static_cast<char>(c - 0xFF01 + '!');  // full width
  for (const char32_t zero : {0x0660U, 0x06F0U, 0x0966U, 0x09E6U, 0x0E50U, 0x0ED0U}) {
    if (const char folded = digit(zero); folded != kKeep) return folded;
  }
  if (c == 0x00AD || (c >= 0x200B && c <= 0x200F) || (c >= 0x2060 && c <= 0x2064) || c == 0xFEFF) {
    return kDrop;
  }
  if (c == 0x00A0 || (c >= 0x2000 && c <= 0x200A) || c == 0x202F || c == 0x205F || c == 0x3000) {
    return ' ';
  }
  if ((c >= 0x2010 && c <= 0x2015) || c == 0x2212 || c == 0xFE58 || c == 0xFE63) return '-';
  return kKeep;
}

}  // namespace

FoldedText::FoldedText(std::string_view original) : original_(original) {
  size_t copied = 0;  // of original_, into buffer_
  const auto copy_until = [&](size_t end) {
    buffer_.append(original_, copied, end - copied);
    for (size_t i = copied; i < end; ++i) offsets_.push_back(static_cast<uint32_t>(i));
  };
  for (size_t i = 0; i + 1 < original_.size();) {
    const auto lead = static_cast<unsigned char>(original_[i]);
    if (lead < 0x80 || !MayFold(lead, static_cast<unsigned char>(original_[i + 1]))) {
      ++i;
      continue;
    }
    const utf8::Decoded decoded = utf8::DecodeOne(original_.substr(i));
    const char folded = decoded.kind == utf8::Kind::kValid ? FoldOne(decoded.code_point) : kKeep;
    if (folded != kKeep) {
      if (!folded_) {
        folded_ = true;
        buffer_.reserve(original_.size());
        offsets_.reserve(original_.size());
      }
      copy_until(i);
      copied = i + decoded.length;
      if (folded != kDrop) {
        buffer_.push_back(folded);
        offsets_.push_back(static_cast<uint32_t>(i));
      }
    }
    i += decoded.length;
  }
  if (folded_) copy_until(original_.size());
}

std::pair<size_t, size_t> FoldedText::Original(size_t begin, size_t end) const {
  if (!folded_) return {begin, end};
  const size_t last = offsets_[end - 1];
  // A byte that stands for itself, or one that stands for a whole sequence.
  const bool copied = original_[last] == buffer_[end - 1];
  return {offsets_[begin], last + (copied ? 1 : utf8::DecodeOne(original_.substr(last)).length)};
}

bool IsWordCodePoint(char32_t c) {
  if (c < 0x80) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
  }
  const utf8proc_category_t category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_ME) ||
         category == UTF8PROC_CATEGORY_ND;
}

bool IsSpacelessScript(char32_t c) {
  static constexpr std::pair<char32_t, char32_t> kRanges[] = {
      {0x0E00, 0x0EFF},    // Thai, Lao
      {0x0F00, 0x0FFF},    // Tibetan
      {0x1000, 0x11FF},    // Myanmar, Georgian aside; Hangul Jamo
      {0x1780, 0x17FF},    // Khmer
      {0x2E80, 0x2FDF},    // CJK radicals
      {0x3005, 0x3007},    // ideographic iteration mark, closing mark, zero
      {0x3040, 0x31FF},    // Hiragana, Katakana, Bopomofo, Hangul letters
      {0x3400, 0x4DBF},    // Han
      {0x4E00, 0x9FFF},    // Han
      {0xAC00, 0xD7FF},    // Hangul
      {0xF900, 0xFAFF},    // Han
      {0x20000, 0x3FFFF},  // Han
  };
  if (c >= 0x10A0 && c <= 0x10FF) return false;  // Georgian, which lies between
  return std::ranges::any_of(
      kRanges, [c](const auto& range) { return c >= range.first && c <= range.second; });
}

std::pair<char32_t, size_t> CodePointBefore(std::string_view text, size_t at) {
  const auto last = static_cast<unsigned char>(text[at - 1]);
  if (last < 0x80) return {last, at - 1};
  size_t begin = at - 1;
  while (begin > 0 && at - begin < 4 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) {
    --begin;
  }
  const utf8::Decoded decoded = utf8::DecodeOne(text.substr(begin, at - begin));
  if (decoded.kind == utf8::Kind::kValid && begin + decoded.length == at) {
    return {decoded.code_point, begin};
  }
  return {utf8::kReplacement, at - 1};
}

bool IsWordBoundary(std::string_view text, size_t at) {
  if (at == 0 || at >= text.size()) return true;
  const char32_t before = CodePointBefore(text, at).first;
  if (!IsWordCodePoint(before) || IsSpacelessScript(before)) return true;
  const char32_t after = utf8::DecodeOne(text.substr(at)).code_point;
  return !IsWordCodePoint(after) || IsSpacelessScript(after);
}

}  // namespace tandem::gateway::privacy
