#include "engine/session/step_timer.h"

#include <algorithm>

namespace tandem::session {
namespace {

// Any spread over the vocabulary does: what is computed does not depend on the values.
int32_t TokenAt(int32_t sequence, int32_t position, int32_t vocab_size) {
  const uint64_t mixed =
      (static_cast<uint64_t>(sequence) * 1'000'003 + static_cast<uint64_t>(position) + 1) *
      0x9E3779B97F4A7C15;
  return static_cast<int32_t>((mixed >> 32) % static_cast<uint64_t>(vocab_size));
}

}  // namespace

StepTimer::StepTimer(executor::Executor* executor, executor::Slot* slot,
                     executor::KvPrecision precision, const Clock* clock)
    : executor_(executor),
      first_slot_(slot),
      precision_(precision),
      clock_(clock),
      logits_(static_cast<size_t>(executor->limits().max_logit_rows) *
              static_cast<size_t>(executor->vocab_size())) {}

Status StepTimer::Validate(int32_t n_tokens, int32_t depth) const {
  if (n_tokens < 1 || depth < 0 || int64_t{n_tokens} + depth > executor_->context_tokens()) {
    return Err(ErrorCode::kInvalidArgument,
               "{} tokens behind {} others cannot be measured: they must be 1 or more, 0 or more, "
               "and together at most the context's {}",
               n_tokens, depth, executor_->context_tokens());
  }
  return {};
}

executor::Slot& StepTimer::slot(int32_t sequence) {
  return sequence == 0 ? *first_slot_ : *other_slots_[static_cast<size_t>(sequence) - 1];
}

Status StepTimer::Append(int32_t sequence, int32_t n_tokens, bool logits_wanted) {
  const int32_t chunk = executor_->limits().max_tokens;
  std::vector<int32_t> tokens;
  for (int32_t done = 0; done < n_tokens; done += static_cast<int32_t>(tokens.size())) {
    const int32_t begin = slot(sequence).length();
    tokens.resize(static_cast<size_t>(std::min(chunk, n_tokens - done)));
    for (size_t i = 0; i < tokens.size(); ++i) {
      tokens[i] = TokenAt(sequence, begin + static_cast<int32_t>(i), executor_->vocab_size());
    }
    const bool last = done + std::ssize(tokens) == n_tokens;
    const executor::SlotStep step{.slot = &slot(sequence),
                                  .token_ids = tokens,
                                  .n_logit_rows = last && logits_wanted ? 1 : 0};
    TANDEM_RETURN_IF_ERROR(executor_->Step({&step, 1}, logits_));
  }
  return {};
}

Status StepTimer::Fill(int32_t sequence, int32_t depth) {
  executor::Slot& held = slot(sequence);
  if (held.length() > depth) held.Truncate(depth);
  return Append(sequence, depth - held.length(), /*logits_wanted=*/false);
}

Result<double> StepTimer::Prefill(int32_t n_tokens, int32_t depth) {
  TANDEM_RETURN_IF_ERROR(Validate(n_tokens, depth));
  TANDEM_RETURN_IF_ERROR(Fill(0, depth));
  const SteadyTime begin = clock_->Now();
  TANDEM_RETURN_IF_ERROR(Append(0, n_tokens, /*logits_wanted=*/true));
  return MillisecondsBetween(begin, clock_->Now());
}

Result<std::vector<double>> StepTimer::Decode(int32_t n_sequences, int32_t depth, int32_t n_steps) {
  TANDEM_RETURN_IF_ERROR(Validate(n_steps, depth));
  const int32_t most = std::min(executor_->limits().max_logit_rows, executor_->limits().max_tokens);
  if (n_sequences < 1 || n_sequences > most) {
    return Err(ErrorCode::kInvalidArgument, "{} sequences cannot be measured together; 1 to {} can",
               n_sequences, most);
  }
  while (std::ssize(other_slots_) + 1 < n_sequences) {
    TANDEM_ASSIGN_OR_RETURN(auto another, executor_->NewSlot(precision_));
    other_slots_.push_back(std::move(another));
  }
  for (int32_t i = 0; i < n_sequences; ++i) TANDEM_RETURN_IF_ERROR(Fill(i, depth));
  std::vector<double> milliseconds;
  std::vector<int32_t> tokens(static_cast<size_t>(n_sequences));
  std::vector<executor::SlotStep> batch(static_cast<size_t>(n_sequences));
  for (int32_t step = 0; step < n_steps; ++step) {
    for (int32_t i = 0; i < n_sequences; ++i) {
      const auto at = static_cast<size_t>(i);
      tokens[at] = TokenAt(i, depth + step, executor_->vocab_size());
      // What a greedy answer wants.
      batch[at] = {
          .slot = &slot(i), .token_ids = {&tokens[at], 1}, .n_logit_rows = 1, .wanted = {.top = 1}};
    }
    const SteadyTime begin = clock_->Now();
    TANDEM_RETURN_IF_ERROR(executor_->Step(batch, logits_));
    milliseconds.push_back(MillisecondsBetween(begin, clock_->Now()));
  }
  return milliseconds;
}

}  // namespace tandem::session
