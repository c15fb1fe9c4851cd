// The known-answer test: the same fixed steps by an executor that is trusted and by one that wants
// to take its place, and whether what the second gives is what the first gives.
#pragma once

#include <cstdint>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "engine/executor/executor.h"

namespace tandem::executor {

// Everything that a scheduler asks of an executor: long and short prefill, prefill in pieces,
// several sequences in one step, single tokens, truncation, copied prefixes.
struct KnownAnswers {
  int32_t vocab_size = 0;
  std::vector<float> logits;  // [n_rows, vocab_size]
  double prefill_tokens_per_second = 0;
  double decode_tokens_per_second = 0;  // of one sequence

  int64_t n_rows() const { return vocab_size == 0 ? 0 : std::ssize(logits) / vocab_size; }
};

// What an executor must be able to hold for the test.
inline constexpr int32_t kKnownAnswerContextTokens = 128;
inline constexpr StepLimits kKnownAnswerLimits{.max_tokens = 80, .max_logit_rows = 4};
inline constexpr int32_t kKnownAnswerSlots = 3;

// Runs the steps; the token ids are a fixed function of the vocabulary's size. Times with `clock`.
// Errors: those of the executor.
Result<KnownAnswers> AskKnownAnswers(Executor& executor, const Clock& clock);

struct AnswerComparison {
  bool same_shape = false;
  bool finite = false;
  // Over all rows, the largest rms(candidate - reference) / rms(reference - its mean), of rows
  // whose common offset is taken out, because softmax does not see it.
  double worst_relative_error = 0;
  double bound = 0;
  int64_t worst_row = 0;

  bool passed() const { return same_shape && finite && worst_relative_error <= bound; }
};

// How far two honest executors of one int4 model may be apart, relative to the spread of a row of
// logits. Both round the input of each linear layer to int8 with a scale a group of 128: normal
// values reach about 2.7 standard deviations there, so the rounding error is 2.7 / 127 / sqrt(12)
// of one, 0.61 %. A branch has two such layers in a row, and the two executors round independently:
// x 2. In the worst case the errors of the 2 n_layers branches add up in one direction while the
// branches themselves do not: x sqrt(2 n_layers). Twice that, for what attention and the norms
// amplify.
double KnownAnswerBound(int32_t n_layers);

AnswerComparison CompareAnswers(const KnownAnswers& reference, const KnownAnswers& candidate,
                                double bound);

}  // namespace tandem::executor
