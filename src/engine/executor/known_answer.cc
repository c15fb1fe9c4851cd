#include "engine/executor/known_answer.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <limits>
#include <memory>
#include <span>
#include <utility>

namespace tandem::executor {
namespace {

constexpr int32_t kLong = 70;    // more than one tile of 64 keys
constexpr int32_t kPieces = 33;  // the second sequence, taken in by pieces of 1, 16, 16
constexpr int32_t kDecodeSteps = 24;
constexpr int32_t kCopied = 20;

// The token at a place of a sequence: splitmix64's finaliser over both, so that every size of
// vocabulary is used from end to end.
int32_t TokenAt(int32_t sequence, int32_t position, int32_t vocab_size) {
  uint64_t z = (static_cast<uint64_t>(sequence) << 32) + static_cast<uint64_t>(position) +
               0x9e3779b97f4a7c15U;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return static_cast<int32_t>((z ^ (z >> 31)) % static_cast<uint64_t>(vocab_size));
}

std::vector<int32_t> Tokens(int32_t sequence, int32_t begin, int32_t end, int32_t vocab_size) {
  std::vector<int32_t> ids;
  for (int32_t i = begin; i < end; ++i) ids.push_back(TokenAt(sequence, i, vocab_size));
  return ids;
}

class Run {
 public:
  Run(Executor* executor, const Clock* clock) : executor_(executor), clock_(clock) {
    answers_.vocab_size = executor->vocab_size();
  }

  struct Entry {
    Slot* slot;
    std::vector<int32_t> token_ids;
    int32_t n_logit_rows;
  };
  // Appends the rows to the answers, and gives the seconds that it took.
  Result<double> Step(std::span<const Entry> entries) {
    std::vector<SlotStep> batch;
    size_t n_rows = 0;
    for (const Entry& entry : entries) {
      batch.push_back(
          {.slot = entry.slot, .token_ids = entry.token_ids, .n_logit_rows = entry.n_logit_rows});
      n_rows += static_cast<size_t>(entry.n_logit_rows);
    }
    const size_t before = answers_.logits.size();
    answers_.logits.resize(before + n_rows * static_cast<size_t>(answers_.vocab_size));
    const SteadyTime begin = clock_->Now();
    TANDEM_RETURN_IF_ERROR(executor_->Step(batch, std::span(answers_.logits).subspan(before)));
    return std::chrono::duration<double>(clock_->Now() - begin).count();
  }
  Result<double> Step(Slot& slot, int32_t sequence, int32_t n_tokens, int32_t n_logit_rows) {
    const Entry entry{&slot,
                      Tokens(sequence, slot.length(), slot.length() + n_tokens, vocab_size()),
                      n_logit_rows};
    return Step({&entry, 1});
  }

  int32_t vocab_size() const { return answers_.vocab_size; }
  KnownAnswers& answers() { return answers_; }

 private:
  Executor* const executor_;
  const Clock* const clock_;
  KnownAnswers answers_;
};

double Rate(double n, double seconds) { return seconds > 0 ? n / seconds : 0; }

}  // namespace

Result<KnownAnswers> AskKnownAnswers(Executor& executor, const Clock& clock) {
  constexpr KvPrecision kPrecision = KvPrecision::kF16;
  Run run(&executor, &clock);
  TANDEM_ASSIGN_OR_RETURN(const auto first, executor.NewSlot(kPrecision));
  TANDEM_ASSIGN_OR_RETURN(const auto second, executor.NewSlot(kPrecision));

  // The first touch of the weights is nobody's speed.
  TANDEM_RETURN_IF_ERROR(run.Step(*first, 0, 1, 1));
  first->Truncate(0);
  TANDEM_ASSIGN_OR_RETURN(const double prefill, run.Step(*first, 0, kLong, 4));
  run.answers().prefill_tokens_per_second = Rate(kLong, prefill);
  for (const int32_t piece : {1, 16, 16}) TANDEM_RETURN_IF_ERROR(run.Step(*second, 1, piece, 1));
  // The fastest of them: what else runs on this machine makes the others slower.
  double decode = std::numeric_limits<double>::infinity();
  for (int i = 0; i < kDecodeSteps; ++i) {
    TANDEM_ASSIGN_OR_RETURN(const double seconds, run.Step(*first, 0, 1, 1));
    decode = std::min(decode, seconds);
  }
  run.answers().decode_tokens_per_second = Rate(1, decode);

  // Two at once, one of which goes back first.
  second->Truncate(kPieces / 2);
  const std::array<Run::Entry, 2> both{
      Run::Entry{first.get(), Tokens(0, first->length(), first->length() + 1, run.vocab_size()), 1},
      Run::Entry{second.get(), Tokens(2, second->length(), second->length() + 9, run.vocab_size()),
                 2}};
  TANDEM_RETURN_IF_ERROR(run.Step(both));

  // A copy goes on by itself, and what it came from is not touched.
  TANDEM_ASSIGN_OR_RETURN(const auto copy, executor.NewSlot(kPrecision));
  executor.CopyPrefix(*second, kCopied, *copy);
  TANDEM_RETURN_IF_ERROR(run.Step(*copy, 3, 3, 3));
  TANDEM_RETURN_IF_ERROR(run.Step(*second, 2, 1, 1));
  return std::move(run.answers());
}

double KnownAnswerBound(int32_t n_layers) {
  const double rounding = 2.7 / 127 / std::sqrt(12);
  return 2 * 2 * rounding * std::sqrt(2.0 * n_layers);
}

AnswerComparison CompareAnswers(const KnownAnswers& reference, const KnownAnswers& candidate,
                                double bound) {
  AnswerComparison comparison{.bound = bound};
  comparison.same_shape = reference.vocab_size == candidate.vocab_size &&
                          reference.logits.size() == candidate.logits.size();
  if (!comparison.same_shape) return comparison;
  comparison.finite =
      std::ranges::all_of(candidate.logits, [](float logit) { return std::isfinite(logit); });
  if (!comparison.finite) return comparison;
  const auto n = static_cast<size_t>(reference.vocab_size);
  for (int64_t row = 0; row < reference.n_rows(); ++row) {
    const auto a = std::span(reference.logits).subspan(static_cast<size_t>(row) * n, n);
    const auto b = std::span(candidate.logits).subspan(static_cast<size_t>(row) * n, n);
    double mean_a = 0;
    double mean_b = 0;
    for (size_t i = 0; i < n; ++i) {
      mean_a += a[i];
      mean_b += b[i];
    }
    mean_a /= static_cast<double>(n);
    mean_b /= static_cast<double>(n);
    double spread = 0;
    double error = 0;
    for (size_t i = 0; i < n; ++i) {
      const double centred = a[i] - mean_a;
      const double difference = centred - (b[i] - mean_b);
      spread += centred * centred;
      error += difference * difference;
    }
    const double relative = error == 0 ? 0 : std::sqrt(error / std::max(spread, 1e-30));
    if (relative > comparison.worst_relative_error) {
      comparison.worst_relative_error = relative;
      comparison.worst_row = row;
    }
  }
  return comparison;
}

}  // namespace tandem::executor
