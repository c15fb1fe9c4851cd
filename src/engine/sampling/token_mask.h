// Which token ids a model may answer with.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tandem::sampling {

// A model's output is often wider than its tokenizer: rows are padded to a round number, and some
// ids are reserved. Those never come out of the sampler. Immutable.
class TokenMask {
 public:
  // Ids below n_tokens that are not in `unused` (in any order; ids outside the range are ignored).
  TokenMask(int32_t n_tokens, std::span<const int32_t> unused);

  // Ids at or above this are not allowed.
  int32_t n_tokens() const { return n_tokens_; }
  // The others that are not allowed, ascending.
  std::span<const int32_t> unused() const { return unused_; }
  bool Allows(int32_t id) const;

 private:
  int32_t n_tokens_;
  std::vector<int32_t> unused_;
};

}  // namespace tandem::sampling
