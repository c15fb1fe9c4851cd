#include "gateway/privacy/checksums.h"

#include <algorithm>
#include <cstdint>

namespace tandem::gateway::privacy {
namespace {

struct CardRange {
  int n_prefix_digits;
  int first;
  int last;
  size_t min_length;
  size_t max_length;
};

// Overlaps are harmless: a number is a card by any of them.
constexpr CardRange kCardRanges[] = {
    {1, 4, 4, 13, 19},        // Visa
    {2, 51, 55, 16, 16},      // Mastercard
    {4, 2221, 2720, 16, 16},  // Mastercard
    {2, 34, 34, 15, 15},      // American Express
    {2, 37, 37, 15, 15},      // American Express
    {4, 6011, 6011, 16, 19},  // Discover
    {3, 644, 649, 16, 19},    // Discover
    {2, 65, 65, 16, 19},      // Discover, RuPay
    {3, 300, 305, 14, 19},    // Diners Club
    {2, 36, 36, 14, 19},      // Diners Club
    {2, 38, 39, 14, 19},      // Diners Club
    {4, 3528, 3589, 16, 19},  // JCB
    {2, 62, 62, 16, 19},      // UnionPay
    {2, 81, 82, 16, 19},      // UnionPay, RuPay
    {4, 2200, 2204, 16, 19},  // Mir
    {2, 50, 50, 13, 19},      // Maestro, Verve
    {2, 56, 58, 13, 19},      // Maestro
    {2, 60, 60, 13, 19},      // Maestro, RuPay
    {2, 63, 63, 13, 19},      // Maestro
    {2, 67, 67, 13, 19},      // Maestro
    {4, 9792, 9792, 16, 16},  // Troy
};

struct IbanCountry {
  char code[3];
  uint8_t length;
};

constexpr IbanCountry kIbanCountries[] = {
    {"AD", 24}, {"AE", 23}, {"AL", 28}, {"AT", 20}, {"AZ", 28}, {"BA", 20}, {"BE", 16}, {"BG", 22},
    {"BH", 22}, {"BI", 27}, {"BR", 29}, {"BY", 28}, {"CH", 21}, {"CR", 22}, {"CY", 28}, {"CZ", 24},
    {"DE", 22}, {"DJ", 27}, {"DK", 18}, {"DO", 28}, {"EE", 20}, {"EG", 29}, {"ES", 24}, {"FI", 18},
    {"FK", 18}, {"FO", 18}, {"FR", 27}, {"GB", 22}, {"GE", 22}, {"GI", 23}, {"GL", 18}, {"GR", 27},
    {"GT", 28}, {"HN", 28}, {"HR", 21}, {"HU", 28}, {"IE", 22}, {"IL", 23}, {"IQ", 23}, {"IS", 26},
    {"IT", 27}, {"JO", 30}, {"KW", 30}, {"KZ", 20}, {"LB", 28}, {"LC", 32}, {"LI", 21}, {"LT", 20},
    {"LU", 20}, {"LV", 21}, {"LY", 25}, {"MC", 27}, {"MD", 24}, {"ME", 22}, {"MK", 19}, {"MN", 20},
    {"MR", 27}, {"MT", 31}, {"MU", 30}, {"NI", 28}, {"NL", 18}, {"NO", 15}, {"OM", 23}, {"PK", 24},
    {"PL", 28}, {"PS", 29}, {"PT", 25}, {"QA", 29}, {"RO", 24}, {"RS", 22}, {"RU", 33}, {"SA", 24},
    {"SC", 31}, {"SD", 18}, {"SE", 24}, {"SI", 19}, {"SK", 24}, {"SM", 27}, {"SO", 23}, {"ST", 25},
    {"SV", 28}, {"TL", 23}, {"TN", 24}, {"TR", 26}, {"UA", 29}, {"VA", 22}, {"VG", 24}, {"XK", 20},
    {"YE", 30},
};

constexpr char Upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; }

}  // namespace

bool LuhnIsValid(std::string_view digits) {
  if (digits.empty()) return false;
  int sum = 0;
  bool doubled = false;
  for (size_t i = digits.size(); i-- > 0; doubled = !doubled) {
    if (digits[i] < '0' || digits[i] > '9') return false;
    int value = digits[i] - '0';
    if (doubled) value = value > 4 ? 2 * value - 9 : 2 * value;
    sum += value;
  }
  return sum % 10 == 0;
}

bool IsCardNumber(std::string_view digits) {
  if (digits.size() < 13 || digits.size() > 19 || !LuhnIsValid(digits)) return false;
  return std::ranges::any_of(kCardRanges, [&](const CardRange& range) {
    if (digits.size() < range.min_length || digits.size() > range.max_length) return false;
    int prefix = 0;
    for (int i = 0; i < range.n_prefix_digits; ++i) prefix = prefix * 10 + (digits[i] - '0');
    return prefix >= range.first && prefix <= range.last;
  });
}

size_t IbanLength(std::string_view country) {
  for (const IbanCountry& known : kIbanCountries) {
    if (country == known.code) return known.length;
  }
  return 0;
}

bool IsIban(std::string_view text) {
  if (text.size() < 15) return false;
  const char country[2] = {Upper(text[0]), Upper(text[1])};
  if (IbanLength(std::string_view(country, 2)) != text.size()) return false;
  int remainder = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = Upper(text[(i + 4) % text.size()]);  // the first four stand last
    if (c >= '0' && c <= '9') {
      remainder = (remainder * 10 + (c - '0')) % 97;
    } else if (c >= 'A' && c <= 'Z') {
      remainder = (remainder * 100 + (c - 'A' + 10)) % 97;
    } else {
      return false;
    }
  }
  return remainder == 1;
}

}  // namespace tandem::gateway::privacy
