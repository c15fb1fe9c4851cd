// The executor that computes on this machine's cores.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/executor/executor.h"
#include "engine/model/model.h"  // with the thread pool that its steps run on

namespace tandem::executor {

// Bytes of the keys and values of so many tokens.
uint64_t KvBytes(const model::Hyperparameters& hyperparameters, KvPrecision precision,
                 int64_t n_tokens);

class CpuExecutor final : public Executor {
 public:
  struct Options {
    int n_threads = 0;  // 0: every core that the process may use; more than those are not used
    // Threads to share with other executors, whose loops then take turns; null: its own.
    std::shared_ptr<ops::ThreadPool> threads = nullptr;
    int32_t context_tokens = 0;  // of every slot
    StepLimits limits;
  };

  // Errors: kInvalidArgument for an option out of range, kResourceExhausted for scratch memory or
  // threads that cannot be had.
  static Result<std::unique_ptr<CpuExecutor>> Create(std::shared_ptr<const model::Model> model,
                                                     const Options& options);

  // Threads that a pool for so many has: no more than there are cores to use, for with one more,
  // the loops of a step wait for whoever the system has put off a core.
  static Result<std::shared_ptr<ops::ThreadPool>> StartThreads(int n_threads);

  int n_threads() const { return pool_->n_threads(); }
  int32_t vocab_size() const override;
  int32_t context_tokens() const override { return context_tokens_; }
  StepLimits limits() const override;
  uint64_t weights_bytes() const override { return model_->weights_bytes(); }
  uint64_t scratch_bytes() const override { return forward_->scratch_bytes(); }
  uint64_t SlotBytes(KvPrecision precision) const override;
  Result<std::unique_ptr<Slot>> NewSlot(KvPrecision precision) override;
  void CopyPrefix(Slot& from, int32_t n_tokens, Slot& to) override;
  Status Step(std::span<const SlotStep> batch, std::span<float> logits) override;
  // With a model that has a layer of multi-token prediction.
  bool drafts() const override;
  Status Draft(std::span<const DraftStep> batch, std::span<float> logits) override;

 private:
  CpuExecutor() = default;

  std::shared_ptr<const model::Model> model_;
  int32_t context_tokens_ = 0;
  std::shared_ptr<ops::ThreadPool> pool_;
  std::unique_ptr<model::Forward> forward_;  // uses pool_
  std::vector<model::BatchEntry> entries_;   // of the current step
  std::vector<model::DraftEntry> drafts_;    // likewise
};

}  // namespace tandem::executor
