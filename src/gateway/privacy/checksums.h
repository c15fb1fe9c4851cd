// The check digits of payment cards and bank accounts.
#pragma once

#include <cstddef>
#include <string_view>

namespace tandem::gateway::privacy {

// Whether `digits` (nothing else) fulfil the Luhn formula. Source: ISO/IEC 7812-1, annex B.
bool LuhnIsValid(std::string_view digits);

// A Luhn-valid number with a length and first digits that card schemes issue: 10 % of all numbers
// pass Luhn alone. Source: ISO/IEC 7812 and the schemes' published ranges.
bool IsCardNumber(std::string_view digits);

// The length of an IBAN of that country (two capital letters), 0 for an unknown one.
// Source: SWIFT, IBAN registry.
size_t IbanLength(std::string_view country);

// Without spaces, letters in any case: the country's length, and mod 97 equal to 1.
// Source: ISO 13616-1, ISO/IEC 7064 MOD 97-10.
bool IsIban(std::string_view text);

}  // namespace tandem::gateway::privacy
