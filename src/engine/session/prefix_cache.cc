#include "engine/session/prefix_cache.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace tandem::session {
namespace {

// A template may close a turn with other tokens than the model did, so the next turn of a chat can
// differ in the last few tokens.
constexpr size_t kContinuationSlackTokens = 8;

size_t CommonPrefix(std::span<const int32_t> a, std::span<const int32_t> b) {
  return static_cast<size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

}  // namespace

std::list<PrefixCache::Entry>::const_iterator PrefixCache::BestMatch(
    std::span<const int32_t> prompt, size_t* n_common) const {
  *n_common = 0;
  auto best = entries_.end();
  const auto usable = prompt.first(prompt.empty() ? 0 : prompt.size() - 1);
  for (auto it = entries_.begin(); it != entries_.end(); ++it) {
    const size_t n = CommonPrefix(usable, it->tokens);
    if (n == 0 || n < *n_common) continue;  // of equals the most recently used
    *n_common = n;
    best = it;
  }
  return best;
}

PrefixCache::Match PrefixCache::Find(std::span<const int32_t> prompt) const {
  size_t n_common = 0;
  const auto best = BestMatch(prompt, &n_common);
  if (best == entries_.end()) return {};
  return {.n_tokens = static_cast<int32_t>(n_common),
          .is_continuation = best->tokens.size() - n_common <= kContinuationSlackTokens};
}

std::unique_ptr<executor::Slot> PrefixCache::Take(std::span<const int32_t> prompt) {
  size_t n_common = 0;
  const auto best = BestMatch(prompt, &n_common);
  TANDEM_CHECK(best != entries_.end());
  const auto entry =
      entries_.erase(best, best);  // the same place, as an iterator that may change it
  std::unique_ptr<executor::Slot> slot = std::move(entry->slot);
  entries_.erase(entry);
  slot->Truncate(static_cast<int32_t>(n_common));
  return slot;
}

executor::Slot& PrefixCache::Borrow(std::span<const int32_t> prompt) {
  size_t n_common = 0;
  const auto best = BestMatch(prompt, &n_common);
  TANDEM_CHECK(best != entries_.end());
  entries_.splice(entries_.end(), entries_, best);
  return *entries_.back().slot;
}

void PrefixCache::Put(std::vector<int32_t> tokens, std::unique_ptr<executor::Slot> slot) {
  const auto length = static_cast<size_t>(slot->length());
  TANDEM_CHECK(length <= tokens.size());
  if (max_slots_ <= 0 || length == 0) return;
  tokens.resize(length);
  std::erase_if(entries_, [&](const Entry& entry) {
    return CommonPrefix(entry.tokens, tokens) == entry.tokens.size();
  });
  entries_.push_back({std::move(tokens), std::move(slot)});
  while (entries_.size() > static_cast<size_t>(max_slots_)) entries_.pop_front();
}

bool PrefixCache::DropOldest() {
  if (entries_.empty()) return false;
  entries_.pop_front();
  return true;
}

uint64_t PrefixCache::bytes() const {
  uint64_t sum = 0;
  for (const Entry& entry : entries_) sum += entry.slot->bytes();
  return sum;
}

}  // namespace tandem::session
