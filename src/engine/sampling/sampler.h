// From logits to the next token id. Charter of sampling/: everything between a row of logits and a
// token: penalties, truncation, the random draw, log probabilities. It includes base/ (and, once
// there are grammars, tokenizer/). Absent on purpose: stop conditions and text, which belong to
// session/.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "engine/sampling/sampling_options.h"
#include "engine/sampling/token_mask.h"

namespace tandem::sampling {

// Buffers that one thread's samplers share, so that a session costs no vocabulary-sized memory.
struct SamplerScratch {
  std::vector<float> logits;   // [n_tokens]
  std::vector<float> weights;  // [survivors]
  std::vector<int32_t> ids;    // [survivors]
};

// One sequence's sampler. The order of the steps, each where its option is on:
//   1. ids that the mask does not allow are out
//   2. logit_bias is added
//   3. repetition_penalty: a seen token's logit l becomes l / p, or l * p where l < 0
//   4. frequency_penalty and presence_penalty are subtracted
//   5. temperature 0: the largest logit wins. Otherwise logits are divided by the temperature
//   6. top_k
//   7. top_p, over the probabilities of what top_k left
//   8. min_p, relative to the best one
//   9. the draw: with u = UniformDraw(seed, number of accepted tokens), u times the sum of the
//      survivors' weights falls on one of them, laid out by ascending id
// Steps 5 to 8 are in the order of Hugging Face's and keep at least one token. Every tie is won by
// the lower id. The same logits, options and accepted tokens give the same token, on any thread,
// whatever other samplers do.
class Sampler {
 public:
  // `prompt` is what the sequence held before the answer (the repetition penalty looks at it).
  // Errors: those of Validate(); kInvalidArgument where no id is allowed.
  static Result<Sampler> Create(SamplingOptions options, std::shared_ptr<const TokenMask> mask,
                                std::span<const int32_t> prompt);

  // Chooses a token; repeatable, since only Accept() changes the state.
  //   logits [vocab_size], vocab_size >= mask.n_tokens(); not changed
  // Errors: kInternal where the logit of an allowed id is not finite.
  // Cost:   one pass over the vocabulary to copy and check; one exponential for each id that top_k
  //         leaves; sorts survivors only (all ids where top_p keeps most of a flat distribution).
  Result<int32_t> Sample(std::span<const float> logits, SamplerScratch* scratch) const;

  // The same, with only these ids (ascending, allowed by the mask, at least one) to choose from.
  Result<int32_t> SampleAmong(std::span<const float> logits, std::span<const int32_t> ids,
                              SamplerScratch* scratch) const;

  // How many of the largest logits of allowed ids decide what Sample() gives: with them right, and
  // all others anything finite that is smaller, the token is the same. 0: all of them.
  int n_deciding() const;

  // The sequence goes on with this token: penalties count it and the next draw is another one.
  void Accept(int32_t id);

  const SamplingOptions& options() const { return options_; }
  const TokenMask& mask() const { return *mask_; }

 private:
  // How often a token stands in the penalty window.
  struct Occurrences {
    int32_t anywhere = 0;
    int32_t in_answer = 0;
  };
  struct Seen {
    int32_t id;
    bool in_answer;
  };

  Sampler(SamplingOptions options, std::shared_ptr<const TokenMask> mask);

  void Count(int32_t id, bool in_answer);
  int32_t Choose(SamplerScratch* scratch) const;
  Status LoadLogits(std::span<const float> logits, std::vector<float>* out) const;
  void ApplyPenalties(std::span<float> logits) const;
  int32_t Draw(SamplerScratch* scratch) const;
  // Steps 6 to 8: the survivors' ids, ascending, and their weights.
  void SelectSurvivors(float max, SamplerScratch* scratch) const;

  SamplingOptions options_;
  std::shared_ptr<const TokenMask> mask_;
  bool counts_tokens_;  // a penalty is on
  uint64_t n_accepted_ = 0;
  std::unordered_map<int32_t, Occurrences> occurrences_;
  std::deque<Seen> window_;  // at most penalty_window entries; empty where the window is everything
};

}  // namespace tandem::sampling
