#include "engine/executor/cpu_executor.h"

#include <optional>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "engine/model/kv_cache.h"
#include "os/cpu.h"

namespace tandem::executor {
namespace {

model::KvType ToKvType(KvPrecision precision) {
  switch (precision) {
    case KvPrecision::kInt8:
      return model::KvType::kInt8;
    case KvPrecision::kF16:
      return model::KvType::kF16;
    case KvPrecision::kF32:
      break;
  }
  return model::KvType::kF32;
}

class CpuSlot final : public Slot {
 public:
  // The trail is that of a model with multi-token prediction; else there is none.
  CpuSlot(std::unique_ptr<model::KvCache> cache, std::optional<model::MtpTrail> trail)
      : cache_(std::move(cache)), trail_(std::move(trail)) {}

  int32_t length() const override { return cache_->length(); }
  int32_t context_tokens() const override { return cache_->context_tokens(); }
  uint64_t bytes() const override { return cache_->full_bytes(); }
  void Truncate(int32_t n_tokens) override {
    TANDEM_CHECK(cache_->Truncate(n_tokens).has_value());
    if (trail_) trail_->Truncate(n_tokens);
  }
  model::KvCache& cache() { return *cache_; }
  model::MtpTrail* trail() { return trail_ ? &*trail_ : nullptr; }

 private:
  std::unique_ptr<model::KvCache> cache_;
  std::optional<model::MtpTrail> trail_;
};

// Slots come from NewSlot() of the same kind of executor.
model::KvCache& CacheOf(Slot& slot) { return static_cast<CpuSlot&>(slot).cache(); }
model::MtpTrail* TrailOf(Slot& slot) { return static_cast<CpuSlot&>(slot).trail(); }

}  // namespace

uint64_t KvBytes(const model::Hyperparameters& hyperparameters, KvPrecision precision,
                 int64_t n_tokens) {
  return model::KvCacheBytes(hyperparameters, ToKvType(precision), n_tokens);
}

Result<std::unique_ptr<CpuExecutor>> CpuExecutor::Create(std::shared_ptr<const model::Model> model,
                                                         const Options& options) {
  const int32_t longest = model->hyperparameters().context_length;
  if (options.context_tokens < 1 || options.context_tokens > longest) {
    return Err(ErrorCode::kInvalidArgument,
               "a context of {} tokens does not work for this model; choose 1 to {}",
               options.context_tokens, longest);
  }
  std::unique_ptr<CpuExecutor> executor(new CpuExecutor);
  executor->pool_ = options.threads;
  if (executor->pool_ == nullptr) {
    TANDEM_ASSIGN_OR_RETURN(executor->pool_, StartThreads(options.n_threads));
  }
  TANDEM_ASSIGN_OR_RETURN(
      executor->forward_,
      model::Forward::Create(model, executor->pool_.get(),
                             {.max_tokens = options.limits.max_tokens,
                              .max_logit_rows = options.limits.max_logit_rows}));
  executor->model_ = std::move(model);
  executor->context_tokens_ = options.context_tokens;
  return executor;
}

Result<std::shared_ptr<ops::ThreadPool>> CpuExecutor::StartThreads(int n_threads) {
  const int n_cores = os::UsableCpuCount();
  if (n_threads > n_cores) {
    log::Warning("{} compute threads were asked for and {} cores can be used: {} compute",
                 n_threads, n_cores, n_cores);
    n_threads = n_cores;
  }
  TANDEM_ASSIGN_OR_RETURN(auto pool,
                          ops::ThreadPool::Create(n_threads, n_cores, os::AffinityCpus()));
  return std::shared_ptr<ops::ThreadPool>(std::move(pool));
}

int32_t CpuExecutor::vocab_size() const { return model_->hyperparameters().vocab_size; }

StepLimits CpuExecutor::limits() const {
  return {.max_tokens = forward_->limits().max_tokens,
          .max_logit_rows = forward_->limits().max_logit_rows};
}

uint64_t CpuExecutor::SlotBytes(KvPrecision precision) const {
  return KvBytes(model_->hyperparameters(), precision, context_tokens_);
}

Result<std::unique_ptr<Slot>> CpuExecutor::NewSlot(KvPrecision precision) {
  TANDEM_ASSIGN_OR_RETURN(
      std::unique_ptr<model::KvCache> cache,
      model::KvCache::Create(model_->hyperparameters(),
                             {.context_tokens = context_tokens_, .type = ToKvType(precision)}));
  const model::Hyperparameters& h = model_->hyperparameters();
  std::optional<model::MtpTrail> trail;
  if (h.n_mtp_layers > 0) trail.emplace(h.d_model);
  return std::make_unique<CpuSlot>(std::move(cache), std::move(trail));
}

void CpuExecutor::CopyPrefix(Slot& from_slot, int32_t n_tokens, Slot& to_slot) {
  model::KvCache& from = CacheOf(from_slot);
  model::KvCache& to = CacheOf(to_slot);
  TANDEM_CHECK(to.Truncate(0).has_value());
  if (model::MtpTrail* trail = TrailOf(from_slot)) {
    forward_->CatchUp(&from, trail);
    TrailOf(to_slot)->Reset(n_tokens);
  }
  TANDEM_CHECK(to.Adopt(from.Share(n_tokens), n_tokens).has_value());
}

Status CpuExecutor::Step(std::span<const SlotStep> batch, std::span<float> logits) {
  entries_.clear();
  for (const SlotStep& step : batch) {
    entries_.push_back({.cache = &CacheOf(*step.slot),
                        .token_ids = step.token_ids,
                        .n_logit_rows = step.n_logit_rows,
                        .wanted = step.wanted,
                        .trail = TrailOf(*step.slot)});
  }
  return forward_->Step(entries_, logits);
}

bool CpuExecutor::drafts() const { return model_->hyperparameters().n_mtp_layers > 0; }

Status CpuExecutor::Draft(std::span<const DraftStep> batch, std::span<float> logits) {
  drafts_.clear();
  for (const DraftStep& step : batch) {
    drafts_.push_back(
        {.cache = &CacheOf(*step.slot), .trail = TrailOf(*step.slot), .token_id = step.token_id});
  }
  return forward_->Draft(drafts_, logits);
}

}  // namespace tandem::executor
