#include "gateway/privacy/name_list.h"

#include <utf8proc.h>

#include "base/utf8.h"
#include "gateway/privacy/folded_text.h"

namespace tandem::gateway::privacy {
namespace {

constexpr bool IsSpace(char32_t c) { return c == ' ' || (c >= '\t' && c <= '\r') || c == 0xA0; }

// The folded form of one character, appended as UTF-8: decomposed, without case, and without the
// accents that combine with Latin, Greek and Cyrillic letters.
void AppendFolded(char32_t c, std::string* out) {
  if (c < 0x80) {
    out->push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : static_cast<char>(c));
    return;
  }
  utf8proc_int32_t folded[16];
  int last_boundary_class = 0;
  const utf8proc_ssize_t n = utf8proc_decompose_char(
      static_cast<utf8proc_int32_t>(c), folded, std::size(folded),
      static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT | UTF8PROC_CASEFOLD),
      &last_boundary_class);
  if (n < 0 || n > static_cast<utf8proc_ssize_t>(std::size(folded))) {
    utf8::Append(c, out);
    return;
  }
  for (utf8proc_ssize_t i = 0; i < n; ++i) {
    if (folded[i] < 0x300 || folded[i] > 0x36F) {
      utf8::Append(static_cast<char32_t>(folded[i]), out);
    }
  }
}

std::string Fold(std::string_view name) {
  std::string folded;
  bool space = false;
  for (size_t i = 0; i < name.size();) {
    const utf8::Decoded decoded = utf8::DecodeOne(name.substr(i));
    i += decoded.length;
    if (IsSpace(decoded.code_point)) {
      space = !folded.empty();
      continue;
    }
    if (space) folded += ' ';
    space = false;
    AppendFolded(decoded.code_point, &folded);
  }
  return folded;
}

}  // namespace

NameList::NameList(std::span<const std::string> names) {
  ends_.push_back(false);
  for (const std::string& name : names) {
    const std::string folded = Fold(name);
    if (folded.size() < 2 || folded.size() == utf8::DecodeOne(folded).length) continue;
    uint32_t node = 0;
    for (const char byte : folded) {
      const uint64_t edge = uint64_t{node} << 8 | static_cast<unsigned char>(byte);
      const auto [child, added] = children_.try_emplace(edge, static_cast<uint32_t>(ends_.size()));
      if (added) ends_.push_back(false);
      node = child->second;
    }
    ends_[node] = true;
    const auto first = static_cast<unsigned char>(folded.front());
    starts_[first] = true;
    starts_[static_cast<unsigned char>(name.front())] = true;
    if (first >= 'a' && first <= 'z') starts_[first - 32] = true;
    // An accented letter folds to a plain one, and so does a full-width or ligature; Han, Thai and
    // the like stay what they are, and a Hangul syllable falls apart into letters (U+11xx).
    for (size_t lead = 0xC2; lead <= 0xDF; ++lead) starts_[lead] = true;
    for (const size_t lead : {0xE1, 0xE2, 0xEF, 0xF0}) starts_[lead] = true;
    for (size_t lead = 0xEA; lead <= 0xED && first == 0xE1; ++lead) starts_[lead] = true;
  }
}

size_t NameList::Match(std::string_view text, size_t begin) const {
  uint32_t node = 0;
  size_t best = begin;
  std::string folded;
  for (size_t at = begin; at < text.size();) {
    folded.clear();
    const utf8::Decoded decoded = utf8::DecodeOne(text.substr(at));
    size_t next = at + decoded.length;
    if (IsSpace(decoded.code_point)) {
      folded = " ";
      while (next < text.size() && IsSpace(static_cast<unsigned char>(text[next]))) ++next;
    } else {
      AppendFolded(decoded.code_point, &folded);
    }
    for (const char byte : folded) {
      const auto child = children_.find(uint64_t{node} << 8 | static_cast<unsigned char>(byte));
      if (child == children_.end()) return best;
      node = child->second;
    }
    at = next;
    if (!ends_[node]) continue;
    // Accents behind a plain letter belong to it.
    while (at < text.size()) {
      const utf8::Decoded mark = utf8::DecodeOne(text.substr(at));
      if (mark.code_point < 0x300 || mark.code_point > 0x36F) break;
      at += mark.length;
    }
    if (IsWordBoundary(text, at)) best = at;
  }
  return best;
}

void NameList::Find(std::string_view text, std::vector<SecretSpan>* found) const {
  if (empty()) return;
  for (size_t i = 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (starts_[byte] && IsWordBoundary(text, i)) {
      const size_t end = Match(text, i);
      if (end > i) {
        found->push_back({i, end, SecretKind::kName});
        i = end;
        continue;
      }
    }
    ++i;
    while (i < text.size() && (static_cast<unsigned char>(text[i]) & 0xC0) == 0x80) ++i;
  }
}

}  // namespace tandem::gateway::privacy
