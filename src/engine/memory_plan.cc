#include "engine/memory_plan.h"

#include <algorithm>
#include <string>

namespace tandem::engine {

MemoryPlan FitContext(MemoryPlan plan, const std::function<uint64_t(int32_t)>& kv_bytes) {
  const auto set = [&](int32_t context) {
    plan.context_tokens = context;
    plan.kv_cache_bytes = kv_bytes(context);
    return plan.fits();
  };
  if (set(plan.full_context_tokens)) return plan;
  // Steps [low, high) hold the longest that fits, where one does; the first is taken if none does.
  int32_t low = 1;
  int32_t high = (plan.full_context_tokens - 1) / kContextStep + 1;
  while (high - low > 1) {
    const int32_t middle = low + (high - low) / 2;
    (set(middle * kContextStep) ? low : high) = middle;
  }
  set(std::min(low * kContextStep, plan.full_context_tokens));
  return plan;
}

Status CheckPlan(const MemoryPlan& plan, std::string_view model,
                 const std::function<uint64_t(int32_t)>& kv_bytes) {
  if (plan.fits()) return {};
  const MemoryPlan shorter = FitContext(plan, kv_bytes);
  const std::string remedy =
      shorter.fits()
          ? fmt::format("a context of {} tokens would fit; choose that, or raise the limit",
                        shorter.context_tokens)
          : std::string("raise the limit, or use a smaller model");
  return std::unexpected(Error{
      .code = ErrorCode::kResourceExhausted,
      .message = fmt::format(
          "{} needs {} bytes (weights {}, scratch {}, one KV cache of {} tokens {}, the "
          "process itself {}) and {} bytes are available below the memory limit: {}",
          model, plan.total_bytes(), plan.weights_bytes, plan.scratch_bytes, plan.context_tokens,
          plan.kv_cache_bytes, plan.reserve_bytes, plan.limit_bytes, remedy),
      .param = "memory"});
}

}  // namespace tandem::engine
