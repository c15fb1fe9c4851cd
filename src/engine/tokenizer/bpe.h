// Byte-pair merges over flat tables.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/tokenizer/tables.h"
#include "engine/tokenizer/vocabulary.h"

namespace tandem::tokenizer {

// Scratch space of one caller, reused from piece to piece. Also counts, so that tests can hold the
// cost of a piece against its length without looking at a clock.
class MergeWorkspace {
 public:
  uint64_t n_queue_operations() const { return n_queue_operations_; }  // pushes and pops

 private:
  friend class BytePairMerger;
  static constexpr uint32_t kNone = UINT32_MAX;

  // One for each byte of the piece; those merged away are skipped by the links.
  struct Symbol {
    int32_t token = 0;
    uint32_t previous = kNone;  // index in symbols_
    uint32_t next = kNone;
    uint32_t merge = kNone;  // the merge of this symbol with the next one, the most important first
  };
  std::vector<Symbol> symbols_;  // [piece bytes]
  std::vector<uint64_t> queue_;  // heap of merge << 32 | symbol; entries may be out of date
  uint64_t n_queue_operations_ = 0;
};

// Immutable; any thread.
class BytePairMerger {
 public:
  // Resolves the merge lines of `vocabulary` to ids.
  // Errors: kCorrupt where a byte has no token, two tokens have the same text, or a merge line
  //         names something that is not a token.
  // Cost:   O(bytes of all tokens and merges).
  static Result<BytePairMerger> Create(const Vocabulary& vocabulary);

  // Over tables that stand somewhere else, and outlive the merger.
  explicit BytePairMerger(const Tables& tables)
      : byte_tokens_(tables.byte_tokens), merges_(tables.merges), slots_(tables.slots) {}

  // Appends the ids of `piece`: the most important merge first, the leftmost of equals, until none
  // applies.
  // Cost: O(n log n) for n bytes; 24 bytes of workspace a byte.
  void Encode(std::string_view piece, MergeWorkspace* workspace, std::vector<int32_t>* ids) const;

  // Fills in the merger's part of `tables`; the views live as long as what made this merger.
  void Describe(Tables* tables) const {
    tables->byte_tokens = byte_tokens_;
    tables->merges = merges_;
    tables->slots = slots_;
  }

 private:
  struct Owned;

  BytePairMerger() = default;
  void EncodeChunk(std::string_view piece, MergeWorkspace* workspace,
                   std::vector<int32_t>* ids) const;
  // The index of the merge of two tokens, MergeWorkspace::kNone where there is none.
  uint32_t FindMerge(int32_t left, int32_t right) const;

  std::shared_ptr<const Owned> owned_;    // null over tables from elsewhere
  std::span<const int32_t> byte_tokens_;  // as in Tables
  std::span<const Merge> merges_;
  std::span<const uint32_t> slots_;
};

}  // namespace tandem::tokenizer
