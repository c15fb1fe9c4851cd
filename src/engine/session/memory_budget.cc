#include "engine/session/memory_budget.h"

#include <string>
#include <utility>

namespace tandem::session {
namespace {

uint64_t MinusOrZero(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

// Error::param tells memory from a full queue, which is kResourceExhausted too.
std::unexpected<Error> OutOfMemory(std::string message) {
  return std::unexpected(Error{ErrorCode::kResourceExhausted, std::move(message), "memory"});
}

}  // namespace

Status CheckFits(const MemoryFigures& figures, uint64_t wanted_bytes, uint64_t unfilled_bytes,
                 const std::optional<os::MemoryStatus>& machine) {
  const uint64_t below_limit = MinusOrZero(
      figures.limit_bytes, figures.weights_bytes + figures.scratch_bytes + figures.kv_cache_bytes);
  if (wanted_bytes > below_limit) {
    return OutOfMemory(fmt::format(
        "a session's KV cache needs {} bytes and {} are available below the memory limit of {} "
        "bytes: raise the limit or load the model with a smaller context",
        wanted_bytes, below_limit, figures.limit_bytes));
  }
  if (!machine) return {};
  const uint64_t left = MinusOrZero(machine->available_bytes, unfilled_bytes);
  if (wanted_bytes > left) {
    return OutOfMemory(fmt::format(
        "a session's KV cache needs {} bytes and {} are available on this machine: free memory "
        "or load the model with a smaller context",
        wanted_bytes, left));
  }
  return {};
}

}  // namespace tandem::session
