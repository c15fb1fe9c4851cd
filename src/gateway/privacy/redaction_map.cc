#include "gateway/privacy/redaction_map.h"

#include <algorithm>

#include <fmt/format.h>

namespace tandem::gateway::privacy {
namespace {

// How much of a text's end BegunSecret looks at: a key's armour may be long, and whoever stops in
// the middle of a longer secret has shown enough of it to be found by other means.
constexpr size_t kMaxBegunBytes = 256;

}  // namespace

const std::string& RedactionMap::PlaceholderOf(SecretKind kind, std::string_view secret) {
  std::string key(1, static_cast<char>('0' + static_cast<int>(kind)));
  key += secret;
  const auto [entry, added] = by_secret_.try_emplace(std::move(key));
  if (added) {
    const size_t number = ++counts_[static_cast<size_t>(kind)];
    entry->second = fmt::format("[{}_{}]", LabelOf(kind), number);
    by_placeholder_.emplace(entry->second, secret);
    secrets_.emplace(secret);
    longest_ = std::max(longest_, secret.size());
  }
  return entry->second;
}

const std::string* RedactionMap::SecretOf(std::string_view placeholder) const {
  const auto found = by_placeholder_.find(placeholder);
  return found == by_placeholder_.end() ? nullptr : &found->second;
}

bool RedactionMap::IsPrefix(std::string_view text) const {
  const auto next = by_placeholder_.lower_bound(text);
  return next != by_placeholder_.end() && next->first.starts_with(text);
}

std::string_view RedactionMap::BegunSecret(std::string_view text, size_t min_bytes) const {
  for (size_t n = std::min({text.size(), longest_, kMaxBegunBytes}); n >= min_bytes; --n) {
    const std::string_view end = text.substr(text.size() - n);
    auto next = secrets_.lower_bound(end);
    if (next != secrets_.end() && *next == end) ++next;  // complete; a longer one may follow
    if (next != secrets_.end() && next->starts_with(end)) return end;
  }
  return {};
}

}  // namespace tandem::gateway::privacy
