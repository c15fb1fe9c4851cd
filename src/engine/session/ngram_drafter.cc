#include "engine/session/ngram_drafter.h"

#include <algorithm>
#include <utility>

namespace tandem::session {
namespace {

constexpr size_t kFirstEntries = 1024;

uint64_t Hash(std::span<const int32_t> run) {
  uint64_t hash = run.size();
  for (const int32_t id : run) {
    hash = (hash ^ static_cast<uint32_t>(id)) * 0x9E3779B97F4A7C15U;
    hash ^= hash >> 29;
  }
  return hash;
}

}  // namespace

NgramDrafter::Entry& NgramDrafter::Find(std::span<const int32_t> sequence,
                                        std::span<const int32_t> run) {
  size_t at = Hash(run) & (entries_.size() - 1);
  while (true) {
    Entry& entry = entries_[at];
    if (entry.next == 0) return entry;
    const auto n = static_cast<size_t>(entry.length);
    if (n == run.size() &&
        std::ranges::equal(sequence.subspan(static_cast<size_t>(entry.next) - n, n), run)) {
      return entry;
    }
    at = (at + 1) & (entries_.size() - 1);
  }
}

void NgramDrafter::Insert(std::span<const int32_t> sequence, size_t next) {
  for (size_t n = kShortest; n <= kLongest && n <= next; ++n) {
    Entry& entry = Find(sequence, sequence.subspan(next - n, n));
    if (entry.next == 0) ++n_entries_;
    entry = {.next = static_cast<int32_t>(next), .length = static_cast<int32_t>(n)};
  }
}

void NgramDrafter::Grow(std::span<const int32_t> sequence) {
  const std::vector<Entry> old =
      std::exchange(entries_, std::vector<Entry>(std::max(kFirstEntries, 2 * entries_.size())));
  for (const Entry& entry : old) {
    if (entry.next == 0) continue;
    const auto n = static_cast<size_t>(entry.length);
    Find(sequence, sequence.subspan(static_cast<size_t>(entry.next) - n, n)) = entry;
  }
}

void NgramDrafter::Index(std::span<const int32_t> sequence) {
  // The run at the very end has nothing behind it yet.
  for (; n_indexed_ + 1 < sequence.size(); ++n_indexed_) {
    constexpr size_t kPerToken = kLongest - kShortest + 1;
    if (2 * (n_entries_ + kPerToken) > entries_.size()) Grow(sequence);
    Insert(sequence, n_indexed_ + 1);
  }
}

void NgramDrafter::Draft(std::span<const int32_t> sequence, size_t n_tokens,
                         std::vector<int32_t>* drafts) {
  drafts->clear();
  Index(sequence);
  if (entries_.empty()) return;
  for (size_t n = std::min<size_t>(kLongest, sequence.size()); n >= kShortest; --n) {
    const Entry& found = Find(sequence, sequence.last(n));
    if (found.next == 0) continue;
    // Behind the end comes what was drafted: something that repeats goes on doing so.
    for (size_t i = 0; i < n_tokens; ++i) {
      const size_t at = static_cast<size_t>(found.next) + i;
      drafts->push_back(at < sequence.size() ? sequence[at] : (*drafts)[at - sequence.size()]);
    }
    return;
  }
}

}  // namespace tandem::session
