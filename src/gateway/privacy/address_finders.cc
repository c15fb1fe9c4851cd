// E-mail addresses, IBANs, IPv6 addresses, and placeholders.
#include <array>
#include <optional>
#include <string>

#include "base/utf8.h"
#include "gateway/privacy/ascii.h"
#include "gateway/privacy/checksums.h"
#include "gateway/privacy/finders.h"
#include "gateway/privacy/folded_text.h"

namespace tandem::gateway::privacy {
namespace {

using ascii::IsAlnum;
using ascii::IsAlpha;
using ascii::IsDigit;
using ascii::IsHex;

constexpr size_t kMaxPlaceholderDigits = 9;

// ---- E-mail ----

constexpr bool IsLocalAscii(char c) {
  return IsAlnum(c) || c == '.' || c == '_' || c == '%' || c == '+' || c == '-' || c == '\'';
}

bool IsLetterOf(char32_t c, bool spaceless) {
  return c >= 0x80 && IsWordCodePoint(c) && IsSpacelessScript(c) == spaceless;
}

// Where the part before '@' begins, at `at` where there is none. Not before `floor`.
size_t LocalBegin(std::string_view text, size_t floor, size_t at) {
  size_t begin = at;
  bool spaceless = false;
  while (begin > floor) {
    const char c = text[begin - 1];
    if (static_cast<unsigned char>(c) < 0x80) {
      if (!IsLocalAscii(c) || spaceless) break;
      --begin;
      continue;
    }
    const auto [code_point, previous] = CodePointBefore(text, begin);
    // "我的邮箱是alice@..." ends a sentence there; "用户@例子.广告" is an address.
    if (begin == at) spaceless = IsSpacelessScript(code_point);
    if (previous < floor || !IsLetterOf(code_point, spaceless)) break;
    begin = previous;
  }
  while (begin < at && (text[begin] == '.' || text[begin] == '\'' || text[begin] == '-')) ++begin;
  return begin;
}

// Length of the letter or digit at the front of a domain's label, 0 for anything else.
size_t LabelCharacter(std::string_view rest, bool spaceless) {
  if (rest.empty()) return 0;
  if (static_cast<unsigned char>(rest[0]) < 0x80) return IsAlnum(rest[0]) ? 1 : 0;
  const utf8::Decoded decoded = utf8::DecodeOne(rest);
  if (decoded.kind != utf8::Kind::kValid || !IsWordCodePoint(decoded.code_point)) return 0;
  return spaceless || !IsSpacelessScript(decoded.code_point) ? decoded.length : 0;
}

// Where the domain that begins at `begin` ends; nothing where it is none.
std::optional<size_t> DomainEnd(std::string_view text, size_t begin) {
  const bool spaceless = begin < text.size() && static_cast<unsigned char>(text[begin]) >= 0x80 &&
                         IsSpacelessScript(utf8::DecodeOne(text.substr(begin)).code_point);
  std::optional<size_t> end;
  size_t at = begin;
  for (bool first = true;; first = false) {
    const size_t label = at;
    bool letters_only = true;
    size_t n_letters = 0;
    size_t label_end = label;
    while (at < text.size()) {
      if (text[at] == '-' && at > label) {
        letters_only = false;
        ++at;
        continue;
      }
      const size_t length = LabelCharacter(text.substr(at), spaceless);
      if (length == 0) break;
      if (IsDigit(text[at])) letters_only = false;
      ++n_letters;
      at += length;
      label_end = at;
    }
    if (label_end == label) break;
    // "icon@2x.png" is a file's name.
    const std::string_view name = text.substr(label, label_end - label);
    if (first && (name == "2x" || name == "3x")) return std::nullopt;
    const bool top_level =
        (letters_only && (n_letters >= 2 || static_cast<unsigned char>(name[0]) >= 0x80)) ||
        name.starts_with("xn--");
    if (!first && top_level) end = label_end;
    if (at != label_end || at >= text.size() || text[at] != '.') break;
    ++at;
  }
  return end;
}

// ---- IPv6 ----

struct Groups {
  int n = 0;           // of 16 bits
  bool digit = false;  // a decimal digit is among them
};

// Reads "hex:hex:..." (perhaps with an IPv4 address last) from *at on, up to a "::" or the end.
Groups ReadGroups(std::string_view text, size_t* at) {
  Groups groups;
  while (groups.n < 8) {
    size_t end = *at;
    bool digit = false;
    while (end < text.size() && end - *at < 5 && IsHex(text[end])) digit |= IsDigit(text[end++]);
    if (end == *at || end - *at > 4) break;
    if (end < text.size() && text[end] == '.' && groups.n <= 6) {
      // An embedded IPv4 address: FindNumbers checks its numbers.
      size_t v4 = *at;
      int dots = 0;
      while (v4 < text.size() && v4 - *at < 15 && (IsDigit(text[v4]) || text[v4] == '.')) {
        dots += text[v4++] == '.' ? 1 : 0;
      }
      if (dots == 3) {
        groups.n += 2;
        groups.digit = true;
        *at = v4;
        return groups;
      }
    }
    groups.digit |= digit;
    ++groups.n;
    *at = end;
    if (end + 1 >= text.size() || text[end] != ':' || !IsHex(text[end + 1])) break;
    ++*at;
  }
  return groups;
}

// Where the address that begins at `begin` ends; nothing where there is none to hide.
std::optional<size_t> Ipv6End(std::string_view text, size_t begin) {
  size_t at = begin;
  const Groups head = ReadGroups(text, &at);
  Groups tail;
  const bool compressed = text.substr(at).starts_with("::");
  if (compressed) {
    at += 2;
    tail = ReadGroups(text, &at);
  }
  const int n = head.n + tail.n;
  if (compressed ? n < 2 || n > 7 || !(head.digit || tail.digit) : n != 8) return std::nullopt;
  if (at < text.size() && (IsAlnum(text[at]) || text[at] == ':' || text[at] == '_')) {
    return std::nullopt;
  }
  if (at + 1 < text.size() && text[at] == '%' && IsAlnum(text[at + 1])) {  // the interface
    ++at;
    while (at < text.size() && IsAlnum(text[at])) ++at;
  }
  return at;
}

// ---- IBAN ----

// Where the account number that begins at `begin` ends; nothing where there is none.
std::optional<size_t> IbanEnd(std::string_view text, size_t begin) {
  if (begin + 4 > text.size() || !IsAlpha(text[begin]) || !IsAlpha(text[begin + 1]) ||
      !IsDigit(text[begin + 2]) || !IsDigit(text[begin + 3])) {
    return std::nullopt;
  }
  std::string country(text.substr(begin, 2));
  for (char& c : country) c = IsAlpha(c) ? static_cast<char>(c & ~0x20) : c;
  const size_t length = IbanLength(country);
  std::string iban;
  size_t at = begin;
  while (iban.size() < length && at < text.size()) {
    if (IsAlnum(text[at])) {
      iban += text[at];
    } else if ((text[at] != ' ' && text[at] != '-') || !IsAlnum(text[at - 1])) {
      break;
    }
    ++at;
  }
  if (length == 0 || iban.size() != length || !IsIban(iban)) return std::nullopt;
  return IsWordBoundary(text, at) ? std::optional(at) : std::nullopt;
}

}  // namespace

void FindPlaceholders(std::string_view text, std::vector<SecretSpan>* found) {
  for (size_t open = text.find('['); open != text.npos; open = text.find('[', open + 1)) {
    for (size_t kind = 0; kind < kSecretLabels.size(); ++kind) {
      const std::string_view label = kSecretLabels[kind];
      if (text.substr(open + 1, label.size()) != label) continue;
      size_t at = open + 1 + label.size();
      if (at < text.size() && text[at] == '\\') ++at;  // as Markdown escapes it
      if (at >= text.size() || text[at] != '_') continue;
      const size_t digits = ++at;
      while (at < text.size() && at - digits < kMaxPlaceholderDigits && IsDigit(text[at])) ++at;
      if (at == digits || at >= text.size() || text[at] != ']') continue;
      found->push_back({open, at + 1, static_cast<SecretKind>(kind)});
    }
  }
}

void FindEmails(std::string_view text, std::vector<SecretSpan>* found) {
  size_t floor = 0;
  for (size_t at = text.find('@'); at != text.npos; at = text.find('@', at + 1)) {
    const size_t begin = LocalBegin(text, floor, at);
    const std::optional<size_t> end = begin == at ? std::nullopt : DomainEnd(text, at + 1);
    floor = at + 1;
    if (!end) continue;
    found->push_back({begin, *end, SecretKind::kEmail});
    floor = *end;
  }
}

void FindIbans(std::string_view text, std::vector<SecretSpan>* found) {
  for (size_t i = 0; i + 15 <= text.size();) {
    if (!IsAlpha(text[i])) {
      ++i;
      continue;
    }
    // Two letters and two digits are rare enough to ask the rest only then.
    if (IsDigit(text[i + 2]) && IsWordBoundary(text, i)) {
      if (const std::optional<size_t> end = IbanEnd(text, i)) {
        found->push_back({i, *end, SecretKind::kIban});
        i = *end;
        continue;
      }
    }
    while (i < text.size() && IsAlnum(text[i])) ++i;
  }
}

void FindIpv6(std::string_view text, std::vector<SecretSpan>* found) {
  size_t done = 0;
  for (size_t colon = text.find(':'); colon != text.npos; colon = text.find(':', colon + 1)) {
    if (colon < done) continue;
    size_t begin = colon;
    while (begin > done && colon - begin < 5 && IsHex(text[begin - 1])) --begin;
    // The first colon of an address stands behind at most four digits; others were seen with it.
    if (colon - begin > 4) continue;
    const char before = begin > 0 ? text[begin - 1] : ' ';
    if (IsAlnum(before) || before == '_') continue;
    if (before == ':' && begin > 1 && text[begin - 2] == ':') continue;  // a scope, not "ip:..."
    if (const std::optional<size_t> end = Ipv6End(text, begin)) {
      found->push_back({begin, *end, SecretKind::kIpAddress});
      done = *end;
    }
  }
}

}  // namespace tandem::gateway::privacy
