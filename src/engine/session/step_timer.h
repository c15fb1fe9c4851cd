// What a model's batch steps cost, without sessions, sampling or text: for `tandem bench`.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "engine/executor/executor.h"

namespace tandem::session {

// Sequences of arbitrary tokens, kept from one measurement to the next, so that a long context is
// computed once.
// Thread: the executor's.
class StepTimer {
 public:
  // The executor, the slot (empty, of that executor and precision) and the clock outlive it.
  StepTimer(executor::Executor* executor, executor::Slot* slot, executor::KvPrecision precision,
            const Clock* clock);

  // Milliseconds that n_tokens of a prompt take behind `depth` others, to the logits after the last
  // one. What is missing of the others is computed before, and not timed.
  // Errors: kInvalidArgument for counts below one (depth: zero) or beyond the context; those of the
  // steps.
  Result<double> Prefill(int32_t n_tokens, int32_t depth);

  // Milliseconds of each of n_steps steps that take n_sequences on by one token each, the first of
  // them behind `depth` others.
  // Errors: as Prefill(), n_sequences within the executor's max_logit_rows; those of NewSlot().
  Result<std::vector<double>> Decode(int32_t n_sequences, int32_t depth, int32_t n_steps);

 private:
  Status Validate(int32_t n_tokens, int32_t depth) const;
  executor::Slot& slot(int32_t sequence);
  // Makes a sequence hold exactly its first `depth` tokens.
  Status Fill(int32_t sequence, int32_t depth);
  // Appends its next tokens; logits after the last one where they are wanted.
  Status Append(int32_t sequence, int32_t n_tokens, bool logits_wanted);

  executor::Executor* const executor_;
  executor::Slot* const first_slot_;
  const executor::KvPrecision precision_;
  const Clock* const clock_;
  std::vector<std::unique_ptr<executor::Slot>> other_slots_;
  std::vector<float> logits_;  // [max_logit_rows, vocab_size]
};

}  // namespace tandem::session
