// What a model thinks of given tokens, for tools and exams: no session, no sampling.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/error.h"
#include "engine/executor/executor.h"

namespace tandem::session {

// row(position, logits [vocab_size]); an error ends the run and is returned.
using RowSink = std::move_only_function<Status(int32_t, std::span<const float>)>;

// Logits after each of the tokens, one row call a position, in order.
//   slot  empty, of this executor
// Errors: kInvalidArgument for no tokens, an id outside the vocabulary, or more than the context;
// those of the step and of `row`.
// Cost: reads the weights once for every max_logit_rows tokens.
Status ScoreTokens(executor::Executor& executor, executor::Slot& slot,
                   std::span<const int32_t> token_ids, RowSink& row);

// The n most probable next tokens one after another, over all rows of logits; ties by lower id.
// Errors: as ScoreTokens(), the context counting token_ids and n; kInternal for logits that are not
// finite.
Result<std::vector<int32_t>> ContinueGreedily(executor::Executor& executor, executor::Slot& slot,
                                              std::span<const int32_t> token_ids, int32_t n);

}  // namespace tandem::session
