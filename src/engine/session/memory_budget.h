// Whether one more KV cache fits.
#pragma once

#include <cstdint>
#include <optional>

#include "base/error.h"
#include "os/memory.h"

namespace tandem::session {

struct MemoryFigures {
  uint64_t weights_bytes = 0;
  uint64_t kv_cache_bytes = 0;  // reserved: running sessions and kept caches
  uint64_t scratch_bytes = 0;
  uint64_t limit_bytes = 0;
};

// Whether wanted_bytes more fit below the limit and into what the machine has left. Slots are
// reserved whole and become resident as they fill, so what running sessions have yet to fill
// (unfilled_bytes) is already promised.
//   machine  empty where it could not be read: then the limit alone decides
// Errors: kResourceExhausted, naming the bytes wanted and available.
Status CheckFits(const MemoryFigures& figures, uint64_t wanted_bytes, uint64_t unfilled_bytes,
                 const std::optional<os::MemoryStatus>& machine);

}  // namespace tandem::session
