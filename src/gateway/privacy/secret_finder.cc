#include "gateway/privacy/secret_finder.h"

#include <algorithm>
#include <tuple>

#include "gateway/privacy/finders.h"
#include "gateway/privacy/folded_text.h"

namespace tandem::gateway::privacy {

std::vector<SecretSpan> SecretFinder::Find(std::string_view text) const {
  const FoldedText folded(text);
  std::vector<SecretSpan> found;
  FindPlaceholders(folded.text(), &found);
  FindKeys(folded.text(), &found);
  FindEmails(folded.text(), &found);
  FindIbans(folded.text(), &found);
  FindIpv6(folded.text(), &found);
  FindNumbers(folded.text(), &found);
  names_.Find(folded.text(), &found);
  if (found.empty()) return found;

  // Of two that begin together the longer one names the kind.
  std::ranges::sort(found, [](const SecretSpan& a, const SecretSpan& b) {
    return std::tuple(a.begin, b.end, a.kind) < std::tuple(b.begin, a.end, b.kind);
  });
  size_t n = 0;
  for (const SecretSpan& span : found) {
    if (n > 0 && span.begin < found[n - 1].end) {
      found[n - 1].end = std::max(found[n - 1].end, span.end);
    } else {
      found[n++] = span;
    }
  }
  found.resize(n);
  for (SecretSpan& span : found) {
    std::tie(span.begin, span.end) = folded.Original(span.begin, span.end);
  }
  return found;
}

}  // namespace tandem::gateway::privacy
