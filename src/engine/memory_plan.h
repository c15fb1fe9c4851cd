// What a model takes before it is loaded, and the context that fits into a limit.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "base/error.h"

namespace tandem::engine {

struct MemoryPlan {
  uint64_t weights_bytes = 0;
  uint64_t kv_cache_bytes = 0;  // of one session with a full context
  uint64_t scratch_bytes = 0;
  uint64_t reserve_bytes = 0;  // of the process itself: code, tokenizer, sockets
  uint64_t limit_bytes = 0;    // that the sum is held against
  int32_t context_tokens = 0;  // of one session
  // What it would be if the limit were higher.
  int32_t full_context_tokens = 0;

  uint64_t model_bytes() const { return weights_bytes + kv_cache_bytes + scratch_bytes; }
  uint64_t total_bytes() const { return model_bytes() + reserve_bytes; }
  bool fits() const { return total_bytes() <= limit_bytes; }
  bool shrunk() const { return context_tokens < full_context_tokens; }
};

// Contexts are shortened in steps of this, and not below it where the full one is longer: what is
// left would hold no conversation.
inline constexpr int32_t kContextStep = 256;

// The longest context up to plan.full_context_tokens with which the sum stays within the limit; the
// full one's or, where even the shortest does not fit, the shortest one's plan.
//   plan      everything but context_tokens and kv_cache_bytes
//   kv_bytes  of a session of so many tokens, not falling
MemoryPlan FitContext(MemoryPlan plan, const std::function<uint64_t(int32_t)>& kv_bytes);

// Errors: kResourceExhausted (param "memory") where the plan does not fit, with the bytes wanted
// and available, and the context that would fit where there is one.
//   model    what to call it
Status CheckPlan(const MemoryPlan& plan, std::string_view model,
                 const std::function<uint64_t(int32_t)>& kv_bytes);

}  // namespace tandem::engine
