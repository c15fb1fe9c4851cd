// Payment cards, telephone numbers and IPv4 addresses: everything that is made of digit groups.
#include <algorithm>
#include <array>
#include <span>
#include <string>

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

// Words right before a number that say what it is.
constexpr std::string_view kPhoneWordList[] = {
    "phone",     "telephone", "tel",      "mobile", "cell",  "fax",     "whatsapp",   "call",
    "telefon",   "telefono",  "teléfono", "móvil",  "movil", "celular", "handy",      "mobil",
    "rufnummer", "telp",      "telepon",  "ponsel", "hp",    "sđt",     "điện thoại", "di động",
    "โทร",       "เบอร์",      "มือถือ",     "电话",   "電話",  "手机",    "手機"};
constexpr ascii::WordSet kPhoneWords(kPhoneWordList);
constexpr std::string_view kVersionWordList[] = {"version",   "versions", "ver",     "release",
                                                 "build",     "firmware", "versión", "versi",
                                                 "phiên bản", "เวอร์ชัน",   "版本",    "driver"};
constexpr ascii::WordSet kVersionWords(kVersionWordList);
constexpr std::string_view kReferenceWordList[] = {
    "order",           "invoice", "ticket", "case",    "ref",        "reference",     "tracking",
    "serial",          "sku",     "pedido", "factura", "bestellung", "bestellnummer", "rechnung",
    "rechnungsnummer", "pesanan", "faktur", "resi",    "đơn hàng",   "hóa đơn",       "mã đơn",
    "คำสั่งซื้อ",          "ออเดอร์",  "订单",   "訂單",    "发票"};
constexpr ascii::WordSet kReferenceWords(kReferenceWordList);
constexpr std::string_view kCurrencies[] = {"$",  "€",   "£",   "¥",   "₫",  "฿",   "元",
                                            "円", "บาท", "usd", "eur", "rp", "idr", "vnd",
                                            "đ",  "thb", "cny", "rmb", "%"};
constexpr size_t kContextBytes = 28;

struct Group {
  size_t begin = 0;
  size_t end = 0;
  size_t size() const { return end - begin; }
};

// Digit groups with at most three separators between two of them: "(030) 90 18-20".
class Region {
 public:
  Region(std::string_view text, std::vector<Group> groups)
      : text_(text), groups_(std::move(groups)) {}

  size_t size() const { return groups_.size(); }
  const Group& operator[](size_t i) const { return groups_[i]; }
  std::string_view Text(size_t i) const {
    return text_.substr(groups_[i].begin, groups_[i].size());
  }
  // Between group i and the next one; empty behind the last.
  std::string_view Separator(size_t i) const {
    if (i + 1 >= groups_.size()) return {};
    return text_.substr(groups_[i].end, groups_[i + 1].begin - groups_[i].end);
  }
  char Before(size_t i) const { return groups_[i].begin > 0 ? text_[groups_[i].begin - 1] : ' '; }
  char After(size_t i) const { return groups_[i].end < text_.size() ? text_[groups_[i].end] : ' '; }
  std::string Digits(size_t from, size_t n) const {
    std::string digits;
    for (size_t i = from; i < from + n; ++i) digits += Text(i);
    return digits;
  }
  int Number(size_t i) const {
    int value = 0;
    for (const char c : Text(i).substr(0, 9)) value = value * 10 + (c - '0');
    return value;
  }
  // Whether the groups from `from` on have exactly these lengths.
  bool Shape(size_t from, std::initializer_list<size_t> sizes) const {
    if (from + sizes.size() > size()) return false;
    for (const size_t n : sizes) {
      if (groups_[from++].size() != n) return false;
    }
    return true;
  }

 private:
  std::string_view text_;
  std::vector<Group> groups_;
};

constexpr bool IsSeparator(char c) {
  return c == ' ' || c == '-' || c == '.' || c == '/' || c == '(' || c == ')';
}

// The region whose first group begins at `begin`.
Region ReadRegion(std::string_view text, size_t begin) {
  std::vector<Group> groups;
  size_t at = begin;
  while (true) {
    size_t end = at;
    while (end < text.size() && IsDigit(text[end])) ++end;
    groups.push_back({at, end});
    size_t next = end;
    while (next < text.size() && next - end < 3 && IsSeparator(text[next])) ++next;
    if (next == end || next >= text.size() || !IsDigit(text[next])) break;
    at = next;
  }
  return {text, std::move(groups)};
}

// Whether 36 bytes from `at` are a UUID.
bool IsUuid(std::string_view text, size_t at) {
  if (at + 36 > text.size()) return false;
  for (size_t i = 0; i < 36; ++i) {
    const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    if (dash ? text[at + i] != '-' : !IsHex(text[at + i])) return false;
  }
  return at + 36 == text.size() || !IsAlnum(text[at + 36]);
}

// Three groups that are a day: 2023-11-05, 5.11.2023, 05/11/23.
bool IsDate(const Region& region, size_t from) {
  if (from + 3 > region.size()) return false;
  const std::string_view separator = region.Separator(from);
  if (separator.size() != 1 || separator != region.Separator(from + 1)) return false;
  if (separator != "-" && separator != "." && separator != "/") return false;
  if (region.Separator(from + 2) == separator) return false;  // goes on: 06.12.34.56.78
  const auto day_and_month = [&](size_t a, size_t b) {
    if (region[a].size() > 2 || region[b].size() > 2) return false;
    const int x = region.Number(a);
    const int y = region.Number(b);
    return x >= 1 && y >= 1 && x <= 31 && y <= 31 && (x <= 12 || y <= 12);
  };
  const auto year = [&](size_t i) {
    return region[i].size() == 4 && region.Number(i) >= 1000 && region.Number(i) < 3000;
  };
  return (year(from) && day_and_month(from + 1, from + 2)) ||
         (day_and_month(from, from + 1) && (year(from + 2) || region[from + 2].size() == 2));
}

// One of `words` within the `n_bytes` before `at`.
bool WordBefore(std::string_view text, size_t at, const ascii::WordSet& words, size_t n_bytes) {
  const size_t from = at > n_bytes ? at - n_bytes : 0;
  return words.IsIn(text.substr(from, at - from));
}

// "order no. 0912345678", "订单 13800138000": a word for some other kind of number, and hardly
// anything between the two.
bool IsReference(std::string_view text, size_t begin) {
  constexpr size_t kGapBytes = 8;
  constexpr size_t kLongestWordBytes = 32;
  const size_t n_bytes = kLongestWordBytes + kGapBytes;
  const size_t from = begin > n_bytes ? begin - n_bytes : 0;
  return kReferenceWords.IsIn(text.substr(from, begin - from), kGapBytes);
}

// An amount of money or a share: "612 345 678 €", "Rp 081 234 567".
bool NextToCurrency(std::string_view text, size_t begin, size_t end) {
  std::string_view before = text.substr(0, begin);
  std::string_view after = text.substr(end);
  if (before.ends_with(' ')) before.remove_suffix(1);
  if (after.starts_with(' ')) after.remove_prefix(1);
  return std::ranges::any_of(kCurrencies, [&](std::string_view currency) {
    const size_t n = currency.size();
    if (after.size() >= n && ascii::EqualsIgnoringCase(after.substr(0, n), currency) &&
        IsWordBoundary(after, n)) {
      return true;
    }
    return before.size() >= n &&
           ascii::EqualsIgnoringCase(before.substr(before.size() - n), currency) &&
           IsWordBoundary(before, before.size() - n);
  });
}

// ---- Cards ----

// How many groups from `from` on are a card's number; 0: none.
size_t CardGroups(const Region& region, size_t from) {
  if (region[from].size() >= 13) return IsCardNumber(region.Text(from)) ? 1 : 0;
  if (region[from].size() != 4) return 0;
  const std::string_view separator = region.Separator(from);
  std::string digits(region.Text(from));
  size_t best = 0;
  for (size_t i = from + 1; i < region.size(); ++i) {
    if (region.Separator(i - 1) != separator || separator.size() != 1 || separator == "/") break;
    if (region[i].size() > 6 || digits.size() + region[i].size() > 19) break;
    digits += region.Text(i);
    if (IsCardNumber(digits)) best = i + 1 - from;
  }
  return best;
}

// ---- IPv4 ----

bool IsIpv4(std::string_view text, const Region& region, size_t from) {
  if (from + 4 > region.size() || region.Before(from) == '.' || region.After(from + 3) == '-') {
    return false;
  }
  for (size_t i = from; i < from + 4; ++i) {
    if (region[i].size() > 3 || region.Number(i) > 255) return false;
    if (region[i].size() > 1 && region.Text(i).front() == '0') return false;
    if (i < from + 3 && region.Separator(i) != ".") return false;
  }
  if (region.Separator(from + 3) == ".") return false;
  // What is the same on every machine tells nothing.
  const int first = region.Number(from);
  if (first == 127 || first == 0 || first == 255) return false;
  return !WordBefore(text, region[from].begin, kVersionWords, 14);
}

// ---- Phones ----

// Groups from `from` on whose digits sum up to at least `min` and at most `max`; as many as
// possible. 0: no such count. Separators of a telephone number only.
size_t TakeGroups(const Region& region, size_t from, size_t min, size_t max) {
  size_t n_digits = 0;
  size_t best = 0;
  for (size_t i = from; i < region.size(); ++i) {
    if (i > from && IsDate(region, i)) break;
    n_digits += region[i].size();
    if (n_digits > max) break;
    if (n_digits >= min) best = i + 1 - from;
    // A long group is the number's rest; what follows is another number.
    if (region[i].size() >= 7 && n_digits >= min) break;
  }
  return best;
}

// Bare digits that a mobile operator gives out, and hardly anyone else.
bool IsMobile(std::string_view digits) {
  if (digits.size() == 11 && digits[0] == '1' && digits[1] >= '3') return true;  // China
  if (digits.size() < 10 || digits[0] != '0') return false;
  if (digits.size() == 10) return digits[1] >= '3' && digits[1] != '4';  // Vietnam, Thailand
  if (digits.starts_with("07")) return digits.size() == 11;              // United Kingdom
  if (digits.starts_with("01")) return digits.size() <= 12 && digits[2] >= '5';  // Germany
  return digits.starts_with("08") && digits.size() <= 13;                        // Indonesia
}

// Groups with a national trunk prefix: "030 901820", "081-234-5678", "06 12 34 56 78".
size_t TrunkGroups(const Region& region, size_t from) {
  const std::string_view first = region.Text(from);
  if (first.size() < 2 || first[0] != '0' || first[1] == '0' || IsDate(region, from)) return 0;
  const size_t n = TakeGroups(region, from, 9, 13);
  if (n < 2 || n > 6) return 0;
  for (size_t i = from; i < from + n; ++i) {
    if (region[i].size() < 2) return 0;
  }
  return n;
}

// "415-555-2671", "(415) 555-2671", "1 415 555 2671".
size_t NorthAmericanGroups(const Region& region, size_t from) {
  const size_t area =
      region.Shape(from, {1, 3, 3, 4}) && region.Text(from) == "1" ? from + 1 : from;
  if (!region.Shape(area, {3, 3, 4})) return 0;
  if (region.Text(area)[0] < '2' || region.Text(area + 1)[0] < '2') return 0;
  const std::string_view next = region.Separator(area + 2);
  if (next == "-" || next == ".") return 0;  // a longer code
  return area + 3 - from;
}

// "612 345 678", "912 34 56 78", "91 234 56 78".
size_t SpanishGroups(const Region& region, size_t from) {
  if (region.Text(from)[0] < '6') return 0;
  const bool spaced = region.Separator(from) == " " || region.Separator(from) == "-";
  size_t n = 0;
  if (region.Shape(from, {3, 3, 3})) n = 3;
  if (region.Shape(from, {3, 2, 2, 2}) || region.Shape(from, {2, 3, 2, 2})) n = 4;
  if (n == 0 || !spaced) return 0;
  for (size_t i = from; i + 1 < from + n; ++i) {
    if (region.Separator(i) != region.Separator(from)) return 0;
  }
  return region.Separator(from + n - 1) == region.Separator(from) ? 0 : n;
}

// The parenthesis or plus sign that belongs to the number.
size_t PhoneBegin(std::string_view text, size_t begin) {
  for (const char c : {'(', '+', '('}) {
    if (begin > 0 && text[begin - 1] == c) --begin;
  }
  return begin;
}

// How many groups from `from` on are a telephone number; 0: none. Groups before `fresh` belong to
// something else. `*by_context`: only because of the words before it.
size_t PhoneGroups(std::string_view text, const Region& region, size_t from, size_t fresh,
                   bool* by_context) {
  const size_t begin = region[from].begin;
  const char before = region.Before(from);
  if (before == '+') {
    const bool sum = begin >= 2 && (IsAlnum(text[begin - 2]) || text[begin - 2] == '+');
    return !sum && region.Text(from)[0] != '0' ? TakeGroups(region, from, 8, 15) : 0;
  }
  if (before == '#' || before == '_' || (from == 0 && (before == '-' || before == '.'))) return 0;
  // Inside a chain of groups a number begins only behind a space or a parenthesis, and a space
  // behind a long group more likely divides one long number.
  if (from > 0 && region.Separator(from - 1).find_first_of(" (") == std::string_view::npos) {
    return 0;
  }
  if (from > fresh && region.Separator(from - 1) == " " && region[from - 1].size() > 2) return 0;
  size_t n = 0;
  if (from == 0 && region.Text(from).starts_with("00") && region[from].size() > 2 &&
      region.Text(from)[2] != '0') {
    n = TakeGroups(region, from, 11, 17);
    if (n < 2) n = 0;
  }
  if (n == 0) n = NorthAmericanGroups(region, from);
  if (n == 0) n = TrunkGroups(region, from);
  if (n == 0) n = SpanishGroups(region, from);
  if (n == 0 && region.Shape(from, {3, 4, 4}) && IsMobile(region.Digits(from, 3))) n = 3;
  if (n == 0 && IsMobile(region.Text(from))) n = 1;
  if (n > 0) {
    const size_t end = region[from + n - 1].end;
    if (!NextToCurrency(text, PhoneBegin(text, begin), end) && !IsReference(text, begin)) return n;
  }
  if (IsDate(region, from)) return 0;
  n = TakeGroups(region, from, 6, 15);
  *by_context = n > 0 && WordBefore(text, begin, kPhoneWords, kContextBytes);
  return *by_context ? n : 0;
}

void FindInRegion(std::string_view text, const Region& region, std::vector<SecretSpan>* found) {
  size_t fresh = 0;  // the first group that nothing has claimed
  for (size_t i = 0; i < region.size();) {
    const size_t begin = region[i].begin;
    const auto whole = [&](size_t n) { return IsWordBoundary(text, region[i + n - 1].end); };
    if (!IsWordBoundary(text, begin) && region.Before(i) != '_') {
      ++i;
    } else if (IsUuid(text, begin)) {
      while (i < region.size() && region[i].begin < begin + 36) fresh = ++i;
    } else if (const size_t n_card = CardGroups(region, i); n_card > 0 && whole(n_card)) {
      found->push_back({begin, region[i + n_card - 1].end, SecretKind::kCard});
      fresh = i += n_card;
    } else if (IsIpv4(text, region, i) && whole(4)) {
      found->push_back({begin, region[i + 3].end, SecretKind::kIpAddress});
      fresh = i += 4;
    } else {
      bool by_context = false;
      const size_t n = PhoneGroups(text, region, i, fresh, &by_context);
      if (n > 0 && whole(n)) {
        found->push_back(
            {PhoneBegin(text, begin), region[i + n - 1].end, SecretKind::kPhone, by_context});
        fresh = i += n;
      } else if (IsDate(region, i)) {
        fresh = i += 3;
      } else {
        ++i;
      }
    }
  }
}

}  // namespace

void FindNumbers(std::string_view text, std::vector<SecretSpan>* found) {
  for (size_t i = 0; i < text.size();) {
    if (IsAlpha(text[i])) {
      if (IsHex(text[i]) && IsWordBoundary(text, i) && IsUuid(text, i)) {
        i += 36;
        continue;
      }
      // Digits of a word are no number.
      while (i < text.size() && IsAlnum(text[i])) ++i;
      continue;
    }
    if (!IsDigit(text[i])) {
      ++i;
      continue;
    }
    if (IsUuid(text, i)) {
      i += 36;
      continue;
    }
    const Region region = ReadRegion(text, i);
    FindInRegion(text, region, found);
    i = region[region.size() - 1].end;
    while (i < text.size() && IsAlnum(text[i])) ++i;  // "12ab34" is one word
  }
}

}  // namespace tandem::gateway::privacy
