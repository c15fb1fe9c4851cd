// Everything in a text that must not leave the device in the clear.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/privacy/name_list.h"
#include "gateway/privacy/secret.h"

namespace tandem::gateway::privacy {

// Rules only, no model: what it finds is the same on every run, and docs/privacy.md can say what
// that is. Where a choice has to be made it prefers to hide too much, since what it hides comes
// back in the answer; but a date, a price or a version number is no secret. Immutable; thread: any.
class SecretFinder {
 public:
  // `names` is the configured list of names to hide.
  explicit SecretFinder(std::span<const std::string> names) : names_(names) {}

  // In order, not overlapping: what two finders claim together is one secret, of the kind that
  // begins first. Offsets are of `text`. Cost: linear, whatever the text is.
  std::vector<SecretSpan> Find(std::string_view text) const;

 private:
  NameList names_;
};

}  // namespace tandem::gateway::privacy
