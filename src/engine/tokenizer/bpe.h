// Byte-pair merges over flat tables.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/error.h"
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

  // Appends the ids of `piece`: the most important merge first, the leftmost of equals, until none
  // applies.
  // Cost: O(n log n) for n bytes; 24 bytes of workspace a byte.
  void Encode(std::string_view piece, MergeWorkspace* workspace, std::vector<int32_t>* ids) const;

 private:
  struct Merge {
    int32_t left = 0;
    int32_t right = 0;
    int32_t result = 0;
  };

  void EncodeChunk(std::string_view piece, MergeWorkspace* workspace,
                   std::vector<int32_t>* ids) const;
  // The index of the merge of two tokens, MergeWorkspace::kNone where there is none.
  uint32_t FindMerge(int32_t left, int32_t right) const;
  bool InsertMerge(uint32_t index);  // false: the pair is there already

  std::array<int32_t, 256> byte_tokens_{};
  std::vector<Merge> merges_;    // by importance
  std::vector<uint32_t> slots_;  // open addressing over merges_; a power of two, at most half full
};

}  // namespace tandem::tokenizer
