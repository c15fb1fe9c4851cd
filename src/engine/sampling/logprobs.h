// Log probabilities of the model's own distribution, as an API reports them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/error.h"
#include "engine/sampling/token_mask.h"

namespace tandem::sampling {

struct TokenLogprob {
  int32_t id = 0;
  float logprob = 0;  // natural logarithm, at most 0
};

struct Logprobs {
  TokenLogprob chosen;
  std::vector<TokenLogprob> top;  // most probable first, ties by lower id
};

// Log-softmax over the allowed ids of logits that no bias, penalty or temperature has touched.
//   logits [vocab_size], vocab_size >= mask.n_tokens()
//   chosen an allowed id
// Errors: kInternal where an allowed logit is not finite.
// Cost:   two passes over the logits.
Result<Logprobs> ComputeLogprobs(std::span<const float> logits, const TokenMask& mask,
                                 int32_t chosen, int32_t n_top);

// The error for a logit that is NaN or infinite.
std::unexpected<Error> NotFiniteError(int32_t id, float value);

}  // namespace tandem::sampling
