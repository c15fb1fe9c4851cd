// One function for each kind of shape that a secret has. All read FoldedText::text(), append what
// they find in the order of the text, never overlap themselves, and take linear time whatever the
// text is.
#pragma once

#include <string_view>
#include <vector>

#include "gateway/privacy/secret.h"

namespace tandem::gateway::privacy {

// Placeholders that stand in the text already: they must not be taken for ours on the way back.
void FindPlaceholders(std::string_view text, std::vector<SecretSpan>* found);

// local@domain with a dot in the domain and letters behind the last one; scripts of every kind, but
// in a script without spaces only where the address itself is written in it.
void FindEmails(std::string_view text, std::vector<SecretSpan>* found);

// With or without spaces; country, length and check digits must be right.
void FindIbans(std::string_view text, std::vector<SecretSpan>* found);

// RFC 4291 text forms, but not "::", "::1" and what looks like a scope in source code.
void FindIpv6(std::string_view text, std::vector<SecretSpan>* found);

// Cards, phones and IPv4, which share the reading of digit groups.
//   cards   13 to 19 digits in one group or in groups of 3 to 6: scheme's range and Luhn
//   phones  +CC or 00CC; US/Canada 3-3-4; a leading 0 with separators; Spain's 9 digits; bare
//   mobile
//           numbers of China, Vietnam, Thailand, Indonesia and the UK; any 6 to 15 digits right
//           behind a word such as "phone"
//   IPv4    not behind a word such as "version", not loopback, 0.0.0.0 or a netmask
// Dates, UUIDs, amounts with a currency, and digits inside a word are none of these.
void FindNumbers(std::string_view text, std::vector<SecretSpan>* found);

// Issuers' prefixes (sk-, tdm_live_, AKIA, ghp_, xoxb-, ...), JSON Web Tokens, PEM private keys,
// and random-looking runs of 16 characters and more right behind a word such as "token" or "密钥".
void FindKeys(std::string_view text, std::vector<SecretSpan>* found);

}  // namespace tandem::gateway::privacy
