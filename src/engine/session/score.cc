#include "engine/session/score.h"

#include <algorithm>
#include <cmath>

#include "engine/sampling/logprobs.h"

namespace tandem::session {
namespace {

Status Validate(const executor::Executor& executor, std::span<const int32_t> token_ids, int64_t n) {
  if (token_ids.empty()) return Err(ErrorCode::kInvalidArgument, "no token ids were given");
  const int64_t n_tokens = std::ssize(token_ids) + n;
  if (n_tokens > executor.context_tokens()) {
    return Err(ErrorCode::kInvalidArgument,
               "{} tokens do not fit into the context of {}: load the model with a longer one",
               n_tokens, executor.context_tokens());
  }
  for (int32_t id : token_ids) {
    if (id < 0 || id >= executor.vocab_size()) {
      return Err(ErrorCode::kInvalidArgument, "token {} is not in the vocabulary of {} tokens", id,
                 executor.vocab_size());
    }
  }
  return {};
}

}  // namespace

Status ScoreTokens(executor::Executor& executor, executor::Slot& slot,
                   std::span<const int32_t> token_ids, RowSink& row) {
  TANDEM_RETURN_IF_ERROR(Validate(executor, token_ids, 0));
  const auto vocab_size = static_cast<size_t>(executor.vocab_size());
  const auto chunk =
      static_cast<size_t>(std::min(executor.limits().max_tokens, executor.limits().max_logit_rows));
  std::vector<float> logits(std::min(chunk, token_ids.size()) * vocab_size);
  for (size_t begin = 0; begin < token_ids.size(); begin += chunk) {
    const auto tokens = token_ids.subspan(begin, std::min(chunk, token_ids.size() - begin));
    const executor::SlotStep step{
        .slot = &slot, .token_ids = tokens, .n_logit_rows = static_cast<int32_t>(tokens.size())};
    TANDEM_RETURN_IF_ERROR(
        executor.Step({&step, 1}, std::span(logits).first(tokens.size() * vocab_size)));
    for (size_t i = 0; i < tokens.size(); ++i) {
      TANDEM_RETURN_IF_ERROR(row(static_cast<int32_t>(begin + i),
                                 std::span(logits).subspan(i * vocab_size, vocab_size)));
    }
  }
  return {};
}

Result<std::vector<int32_t>> ContinueGreedily(executor::Executor& executor, executor::Slot& slot,
                                              std::span<const int32_t> token_ids, int32_t n) {
  if (n < 0) return Err(ErrorCode::kInvalidArgument, "{} tokens were asked for; give 0 or more", n);
  TANDEM_RETURN_IF_ERROR(Validate(executor, token_ids, n));
  const auto chunk = static_cast<size_t>(executor.limits().max_tokens);
  std::vector<float> logits(static_cast<size_t>(executor.vocab_size()));
  std::vector<int32_t> answer;
  std::vector<int32_t> pending(token_ids.begin(), token_ids.end());
  while (answer.size() < static_cast<size_t>(n)) {
    for (size_t begin = 0; begin < pending.size(); begin += chunk) {
      const auto tokens =
          std::span(pending).subspan(begin, std::min(chunk, pending.size() - begin));
      const bool last = begin + tokens.size() == pending.size();
      const executor::SlotStep step{
          .slot = &slot, .token_ids = tokens, .n_logit_rows = last ? 1 : 0};
      TANDEM_RETURN_IF_ERROR(
          executor.Step({&step, 1}, last ? std::span(logits) : std::span<float>{}));
    }
    for (size_t id = 0; id < logits.size(); ++id) {
      if (!std::isfinite(logits[id])) {
        return sampling::NotFiniteError(static_cast<int32_t>(id), logits[id]);
      }
    }
    answer.push_back(static_cast<int32_t>(std::ranges::max_element(logits) - logits.begin()));
    pending.assign(1, answer.back());
  }
  return answer;
}

}  // namespace tandem::session
