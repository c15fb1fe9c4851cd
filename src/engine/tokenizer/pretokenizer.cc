#include "engine/tokenizer/pretokenizer.h"

#include "base/utf8.h"
#include "engine/tokenizer/unicode_class.h"

namespace tandem::tokenizer {
namespace {

// One code point and what it is. At the end of the text: length 0 and no class.
struct Unit {
  char32_t code_point = 0;
  uint8_t classes = 0;
  size_t length = 0;

  bool Has(unsigned mask) const { return (classes & mask) != 0; }
  bool AtEnd() const { return length == 0; }
};

Unit UnitAt(std::string_view text, size_t at) {
  if (at >= text.size()) return {};
  const auto byte = static_cast<uint8_t>(text[at]);
  if (byte < 0x80) return {byte, ClassOf(byte), 1};
  const utf8::Decoded decoded = utf8::DecodeOne(text.substr(at));
  return {decoded.code_point, ClassOf(decoded.code_point), decoded.length};
}

// The end of the run of units from `at` on that have a class of `mask`.
size_t RunEnd(std::string_view text, size_t at, unsigned mask) {
  while (true) {
    const Unit unit = UnitAt(text, at);
    if (!unit.Has(mask)) return at;  // the end of the text has no class
    at += unit.length;
  }
}

// [^\r\n\p{L}\p{N}]
bool MayPrefixWord(const Unit& unit) {
  return !unit.AtEnd() && !unit.Has(kLineBreak | kLetter | kNumber);
}

// (?i:'s|'t|'re|'ve|'m|'ll|'d) at `at`; its length, or 0. Case folding makes U+017F an s.
size_t ContractionLength(std::string_view text, size_t at) {
  if (at >= text.size() || text[at] != '\'') return 0;
  const std::string_view rest = text.substr(at + 1);
  const auto lower = [&](size_t i) {
    const char c = i < rest.size() ? rest[i] : '\0';
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  };
  switch (lower(0)) {
    case 's':
    case 't':
    case 'm':
    case 'd':
      return 2;
    case 'r':
    case 'v':
      return lower(1) == 'e' ? 3 : 0;
    case 'l':
      return lower(1) == 'l' ? 3 : 0;
    default:
      return rest.starts_with("\u017F") ? 3 : 0;
  }
}

// What both patterns end with, for a text that starts with white space:
// \s*[\r\n]+|\s+(?!\S)|\s+
size_t WhiteSpaceLength(std::string_view text) {
  size_t end = 0;          // of the run of white space
  size_t last_begin = 0;   // where its last code point begins
  size_t after_break = 0;  // behind its last line break; 0: it has none
  while (true) {
    const Unit unit = UnitAt(text, end);
    if (!unit.Has(kWhiteSpace)) break;
    last_begin = end;
    end += unit.length;
    if (unit.Has(kLineBreak)) after_break = end;
  }
  if (after_break != 0) return after_break;
  // Before something visible the run leaves its last code point to the next piece, unless that
  // would leave nothing of the run.
  return end == text.size() || last_begin == 0 ? end : last_begin;
}

// ` ?[^\s\p{L}\p{N}]+` and then any of `tail`; 0 where it does not match.
size_t SymbolsLength(std::string_view text, std::string_view tail) {
  const size_t begin = text[0] == ' ' ? 1 : 0;
  size_t end = begin;
  while (true) {
    const Unit unit = UnitAt(text, end);
    if (unit.AtEnd() || unit.Has(kWhiteSpace | kLetter | kNumber)) break;
    end += unit.length;
  }
  if (end == begin) return 0;
  while (end < text.size() && tail.find(text[end]) != std::string_view::npos) ++end;
  return end;
}

// The two word alternatives of o200k, without the contraction that may follow. U is the first
// class, L the second; marks, modifier letters and letters without case are in both.
//   P?U*L+   U* takes its whole run. If an L follows, L+ takes that run and the word is complete.
//            If not, U* gives back up to the last unit that is also an L: L+ takes that one alone,
//            because what stands behind it in the run is not an L.
//   P?U+L*   only reached when no unit of the run is an L: then it is the run.
// The optional prefix is taken first; a mark can be the prefix or the word, so it is tried again
// without. Returns the end of the word, 0 where there is none.
size_t O200kWordEnd(std::string_view text) {
  const Unit first = UnitAt(text, 0);
  const bool may_prefix = MayPrefixWord(first);
  const size_t begin = may_prefix ? first.length : 0;

  size_t upper_end = begin;
  size_t last_both_end = 0;  // behind the last unit of the run that is in both classes; 0: none
  while (true) {
    const Unit unit = UnitAt(text, upper_end);
    if (!unit.Has(kUpperSet)) break;
    upper_end += unit.length;
    if (unit.Has(kLowerSet)) last_both_end = upper_end;
  }
  const size_t lower_end = RunEnd(text, upper_end, kLowerSet);
  if (lower_end > upper_end) return lower_end;
  if (last_both_end != 0) return last_both_end;
  // Nothing for L+ behind the prefix; the prefix itself may be that L: a mark.
  if (may_prefix && first.Has(kLowerSet)) return first.length;
  return upper_end > begin ? upper_end : 0;
}

size_t O200kPieceLength(std::string_view text) {
  if (const size_t word_end = O200kWordEnd(text); word_end != 0) {
    return word_end + ContractionLength(text, word_end);
  }
  size_t number_end = 0;
  for (int digits = 0; digits < 3; ++digits) {
    const Unit unit = UnitAt(text, number_end);
    if (!unit.Has(kNumber)) break;
    number_end += unit.length;
  }
  if (number_end != 0) return number_end;
  if (const size_t length = SymbolsLength(text, "\r\n/"); length != 0) return length;
  return WhiteSpaceLength(text);
}

size_t Qwen2PieceLength(std::string_view text) {
  if (const size_t length = ContractionLength(text, 0); length != 0) return length;
  const Unit first = UnitAt(text, 0);
  const size_t begin = MayPrefixWord(first) ? first.length : 0;
  if (const size_t end = RunEnd(text, begin, kLetter); end > begin) return end;
  if (first.Has(kNumber)) return first.length;
  if (const size_t length = SymbolsLength(text, "\r\n"); length != 0) return length;
  return WhiteSpaceLength(text);
}

}  // namespace

size_t FirstPieceLength(VocabularyKind kind, std::string_view text) {
  return kind == VocabularyKind::kO200k ? O200kPieceLength(text) : Qwen2PieceLength(text);
}

std::vector<std::string_view> Pretokenize(VocabularyKind kind, std::string_view text) {
  std::vector<std::string_view> pieces;
  while (!text.empty()) {
    const size_t length = FirstPieceLength(kind, text);
    pieces.push_back(text.substr(0, length));
    text.remove_prefix(length);
  }
  return pieces;
}

}  // namespace tandem::tokenizer
