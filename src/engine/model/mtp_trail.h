// What multi-token prediction needs of a sequence beside its keys and values.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace tandem::model {

// The last tokens of a sequence with their hidden states, and how far the prediction layer has come
// with it. That layer runs behind the model: over prompts with every step, over answers when a
// draft is wanted or when this memory is nearly full, many tokens for the price of one.
//
// Positions that it missed (a prefix that another sequence computed; too long without a draft) stay
// as they are: drafts then see a little less, and nothing else does.
// Thread: that of the cache that it goes with.
class MtpTrail {
 public:
  // Tokens that are remembered.
  static constexpr int kTokens = 32;

  explicit MtpTrail(int d_model) : d_model_(d_model), hidden_(size_t{kTokens} * d_model) {}
  static uint64_t Bytes(int d_model) { return uint64_t{kTokens} * d_model * sizeof(float); }

  // Positions [0, n_done()) are behind the layer, or given up.
  int n_done() const { return n_done_; }
  void set_n_done(int n_done) { n_done_ = n_done; }

  // Null or nothing where a position is not remembered.
  const float* hidden(int position) const;  // [d_model]
  std::optional<int32_t> token(int position) const;

  // The tokens from `position` on, which was the sequence's length, and their hidden states.
  //   hidden [token_ids.size(), d_model]
  void Append(int position, std::span<const int32_t> token_ids, const float* hidden);
  // The sequence ends after n_tokens.
  void Truncate(int n_tokens);
  // The sequence's first n_tokens are somebody else's work, who has done this layer too.
  void Reset(int n_tokens);

 private:
  bool Remembers(int position) const { return position >= begin_ && position < end_; }

  int d_model_;
  int n_done_ = 0;
  int begin_ = 0;  // remembered are positions [begin_, end_)
  int end_ = 0;
  std::array<int32_t, kTokens> tokens_ = {};  // by position % kTokens
  std::vector<float> hidden_;                 // [kTokens, d_model], likewise
};

}  // namespace tandem::model
