// What counts as a secret, and where it stands in a text.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

namespace tandem::gateway::privacy {

enum class SecretKind { kEmail, kPhone, kCard, kIban, kIpAddress, kKey, kName };

// In the order of SecretKind; the middle of a placeholder such as "[EMAIL_1]".
inline constexpr std::array<std::string_view, 7> kSecretLabels = {"EMAIL", "PHONE", "CARD", "IBAN",
                                                                  "IP",    "KEY",   "NAME"};

constexpr std::string_view LabelOf(SecretKind kind) {
  return kSecretLabels[static_cast<size_t>(kind)];
}

// Bytes [begin, end) of a text.
struct SecretSpan {
  size_t begin = 0;
  size_t end = 0;
  SecretKind kind = SecretKind::kEmail;
  // Found by the words around it, so that the same text elsewhere may not be found again.
  bool by_context = false;

  friend bool operator==(const SecretSpan&, const SecretSpan&) = default;
};

}  // namespace tandem::gateway::privacy
