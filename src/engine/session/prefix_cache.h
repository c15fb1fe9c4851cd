// Keys and values that finished sessions leave behind, for prompts that begin the same way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <vector>

#include "engine/executor/executor.h"

namespace tandem::session {

// A few slots with the tokens that they hold, least recently used first out. A slot either moves to
// the session that goes on with it (the next turn of the same chat) or serves as the source of a
// copy.
// Thread: the scheduler's.
class PrefixCache {
 public:
  explicit PrefixCache(int max_slots) : max_slots_(max_slots) {}

  struct Match {
    int32_t n_tokens = 0;  // of the prompt, from its start, that a kept slot holds; 0: none
    // The prompt goes on where that slot ends, but for its last few tokens: nothing else will.
    bool is_continuation = false;
  };
  // The longest common beginning with any kept slot. At most prompt.size() - 1: the last token must
  // run to give logits.
  Match Find(std::span<const int32_t> prompt) const;

  // The slot that Find() saw, cut to the match and no longer kept. Only after a match.
  std::unique_ptr<executor::Slot> Take(std::span<const int32_t> prompt);
  // The same slot as it is, still kept, now the most recently used: to copy from.
  executor::Slot& Borrow(std::span<const int32_t> prompt);

  // Keeps a slot that holds the first slot->length() of `tokens`. Frees the least recently used one
  // where there are too many, and slots whose tokens are all a beginning of these.
  void Put(std::vector<int32_t> tokens, std::unique_ptr<executor::Slot> slot);

  // Frees the least recently used slot; false where there is none.
  bool DropOldest();

  uint64_t bytes() const;
  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    std::vector<int32_t> tokens;  // [slot->length()]
    std::unique_ptr<executor::Slot> slot;
  };
  std::list<Entry>::const_iterator BestMatch(std::span<const int32_t> prompt,
                                             size_t* n_common) const;

  const int max_slots_;
  std::list<Entry> entries_;  // least recently used first
};

}  // namespace tandem::session
