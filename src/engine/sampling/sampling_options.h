// How the next token is chosen: what a request may ask for.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "base/error.h"

namespace tandem::sampling {

// The defaults sample from the model's own distribution.
struct SamplingOptions {
  float temperature = 1.0F;  // [0, 100]; 0: greedy, the most probable token
  int32_t top_k = 0;         // keep the k most probable; 0: all
  float top_p = 1.0F;        // [0, 1]: keep the fewest whose probabilities sum to top_p
  float min_p = 0.0F;        // [0, 1]: keep those at least min_p times as probable as the best

  // Divides (or, where negative, multiplies) the logit of every token of prompt and answer so far,
  // as Hugging Face's repetition_penalty does (arXiv:1909.05858). [0.01, 100]; 1: off.
  float repetition_penalty = 1.0F;
  // Subtracted from the logit of a token of the answer so far: once, and once per occurrence, as in
  // the OpenAI API. [-2, 2]; 0: off. The prompt does not count.
  float presence_penalty = 0.0F;
  float frequency_penalty = 0.0F;
  // How many of the latest tokens of prompt and answer the three penalties see. 0: all of them.
  int32_t penalty_window = 0;

  // Added to these tokens' logits, each in [-100, 100]. An id named twice counts twice.
  std::vector<std::pair<int32_t, float>> logit_bias = {};

  // Same seed, options and logits: same tokens. Where a request has none the caller picks one.
  uint64_t seed = 0;
};

// Errors: kInvalidArgument naming the field (Error::param) where a value is out of its range, is
// not a number, or biases an id outside [0, n_tokens).
Status Validate(const SamplingOptions& options, int32_t n_tokens);

}  // namespace tandem::sampling
