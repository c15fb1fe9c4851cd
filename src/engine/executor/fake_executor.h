// An executor without a model, for tests of what stands above: its next token is a function of the
// sequence, it checks what it is given, and it can be told to fail.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/check.h"
#include "engine/executor/executor.h"

namespace tandem::executor {

class FakeExecutor final : public Executor {
 public:
  // The next token after a sequence; it gets by far the largest logit, all others have 0.
  using NextToken = std::function<int32_t(std::span<const int32_t> sequence)>;
  // Called at the start of every step with its batch; an error fails the step.
  using OnStep = std::function<Status(std::span<const SlotStep> batch)>;

  FakeExecutor(int32_t vocab_size, int32_t context_tokens, StepLimits limits, NextToken next_token)
      : vocab_size_(vocab_size),
        context_tokens_(context_tokens),
        limits_(limits),
        next_token_(std::move(next_token)) {}

  // Called with every row of logits after it was filled.
  using OnRow = std::function<void(std::span<const int32_t> sequence, std::span<float> row)>;

  // Set before the first step, or from the thread that steps.
  OnStep on_step;
  OnRow on_row;
  // What Draft() takes for the token after a sequence; without it there are no drafts.
  NextToken draft;
  std::function<Status(std::span<const DraftStep> batch)> on_draft;
  uint64_t bytes_per_slot = 1000;
  uint64_t weights = 100;
  uint64_t scratch = 10;

  static constexpr float kPeak = 20.0F;

  int32_t vocab_size() const override { return vocab_size_; }
  int32_t context_tokens() const override { return context_tokens_; }
  StepLimits limits() const override { return limits_; }
  uint64_t weights_bytes() const override { return weights; }
  uint64_t scratch_bytes() const override { return scratch; }
  uint64_t SlotBytes(KvPrecision precision) const override {
    return precision == KvPrecision::kF32 ? 2 * bytes_per_slot : bytes_per_slot;
  }

  Result<std::unique_ptr<Slot>> NewSlot(KvPrecision precision) override {
    return std::make_unique<FakeSlot>(this, precision);
  }

  void CopyPrefix(Slot& from, int32_t n_tokens, Slot& to) override {
    const std::vector<int32_t>& source = TokensOf(from);
    TANDEM_CHECK(n_tokens >= 0 && static_cast<size_t>(n_tokens) <= source.size());
    TokensOf(to).assign(source.begin(), source.begin() + n_tokens);
  }

  Status Step(std::span<const SlotStep> batch, std::span<float> logits) override {
    if (on_step) TANDEM_RETURN_IF_ERROR(on_step(batch));
    int32_t n_tokens = 0;
    int32_t n_rows = 0;
    for (const SlotStep& step : batch) {
      TANDEM_CHECK(!step.token_ids.empty());
      TANDEM_CHECK(static_cast<size_t>(step.n_logit_rows) <= step.token_ids.size());
      TANDEM_CHECK(step.slot->length() + std::ssize(step.token_ids) <= context_tokens_);
      for (int32_t id : step.token_ids) TANDEM_CHECK(id >= 0 && id < vocab_size_);
      n_tokens += static_cast<int32_t>(step.token_ids.size());
      n_rows += step.n_logit_rows;
    }
    TANDEM_CHECK(n_tokens <= limits_.max_tokens && n_rows <= limits_.max_logit_rows);
    TANDEM_CHECK(logits.size() >= static_cast<size_t>(n_rows) * static_cast<size_t>(vocab_size_));
    n_computed_tokens_ += n_tokens;
    for (const SlotStep& step : batch) {
      std::vector<int32_t>& sequence = TokensOf(*step.slot);
      for (size_t i = 0; i < step.token_ids.size(); ++i) {
        sequence.push_back(step.token_ids[i]);
        if (step.token_ids.size() - i > static_cast<size_t>(step.n_logit_rows)) continue;
        std::span<float> row = logits.first(static_cast<size_t>(vocab_size_));
        logits = logits.subspan(row.size());
        for (float& logit : row) logit = 0;
        row[static_cast<size_t>(next_token_(sequence))] = kPeak;
        if (on_row) on_row(sequence, row);
      }
    }
    return {};
  }

  bool drafts() const override { return draft != nullptr; }
  Status Draft(std::span<const DraftStep> batch, std::span<float> logits) override {
    TANDEM_CHECK(drafts() && !batch.empty());
    if (on_draft) {
      if (Status status = on_draft(batch); !status) return status;
    }
    TANDEM_CHECK(logits.size() >= batch.size() * static_cast<size_t>(vocab_size_));
    for (const DraftStep& step : batch) {
      TANDEM_CHECK(step.slot->length() < context_tokens_);
      std::vector<int32_t> sequence = TokensOf(*step.slot);
      sequence.push_back(step.token_id);
      std::span<float> row = logits.first(static_cast<size_t>(vocab_size_));
      logits = logits.subspan(row.size());
      for (float& logit : row) logit = 0;
      row[static_cast<size_t>(draft(sequence))] = kPeak;
      if (on_row) on_row(sequence, row);
    }
    return {};
  }

  int64_t n_computed_tokens() const { return n_computed_tokens_; }
  int n_slots() const { return n_slots_; }  // alive
  // What a slot of this executor holds.
  static std::vector<int32_t>& TokensOf(Slot& slot) { return static_cast<FakeSlot&>(slot).tokens; }

 private:
  class FakeSlot final : public Slot {
   public:
    FakeSlot(FakeExecutor* owner, KvPrecision precision)
        : owner_(owner), bytes_(owner->SlotBytes(precision)) {
      ++owner_->n_slots_;
    }
    ~FakeSlot() override { --owner_->n_slots_; }
    FakeSlot(const FakeSlot&) = delete;
    FakeSlot& operator=(const FakeSlot&) = delete;

    int32_t length() const override { return static_cast<int32_t>(tokens.size()); }
    int32_t context_tokens() const override { return owner_->context_tokens_; }
    uint64_t bytes() const override { return bytes_; }
    void Truncate(int32_t n_tokens) override {
      TANDEM_CHECK(n_tokens >= 0 && static_cast<size_t>(n_tokens) <= tokens.size());
      tokens.resize(static_cast<size_t>(n_tokens));
    }

    std::vector<int32_t> tokens;

   private:
    FakeExecutor* owner_;
    uint64_t bytes_;
  };

  const int32_t vocab_size_;
  const int32_t context_tokens_;
  const StepLimits limits_;
  const NextToken next_token_;
  int64_t n_computed_tokens_ = 0;
  int n_slots_ = 0;
};

}  // namespace tandem::executor
