// Drafts from the sequence itself: what followed the last time that it read like this.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tandem::session {

// Looks up the last few tokens of a sequence in all that came before, the longest match first, the
// most recent one of several, and drafts what followed. Answers that quote, copy or list what their
// prompt says are drafted well, others seldom.
// Thread: one at a time. Source: prompt lookup decoding (Saxena 2023), arXiv:2304.04487.
class NgramDrafter {
 public:
  // Tokens that must agree, the longest run first.
  static constexpr int kLongest = 4;
  static constexpr int kShortest = 2;

  // Up to n_tokens that may follow `sequence`, which has what earlier calls gave, with more behind
  // it. Empty where nothing like its end came before.
  // Cost: indexes what is new, three steps a token; then a constant.
  void Draft(std::span<const int32_t> sequence, size_t n_tokens, std::vector<int32_t>* drafts);

 private:
  // A run of `length` tokens that ends before position `next`; next == 0: free.
  struct Entry {
    int32_t next = 0;
    int32_t length = 0;
  };

  void Index(std::span<const int32_t> sequence);
  void Grow(std::span<const int32_t> sequence);
  // Where this run is, or would be put.
  Entry& Find(std::span<const int32_t> sequence, std::span<const int32_t> run);
  void Insert(std::span<const int32_t> sequence, size_t next);

  size_t n_indexed_ = 0;        // tokens whose runs, with something behind them, are in the table
  size_t n_entries_ = 0;        // in use
  std::vector<Entry> entries_;  // a hash table with open addressing; a power of two
};

}  // namespace tandem::session
