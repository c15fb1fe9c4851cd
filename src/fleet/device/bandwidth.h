// How fast this machine reads its memory, measured: what decides the rate of decoding.
#pragma once

#include <cstddef>

#include "base/clock.h"
#include "base/error.h"

namespace tandem::fleet {

struct BandwidthOptions {
  int n_threads = 1;
  // Of all threads together; well above every cache.
  size_t bytes = size_t{512} << 20;
  int passes = 3;  // the fastest counts: neighbours only ever slow one down
};

// Bytes a second, each thread reading its own share once a pass.
// Errors: kResourceExhausted where the memory cannot be had; kInvalidArgument; kUnavailable where
// the clock did not move.
// Cost: passes * bytes of reading, after one of writing; waits for it.
Result<double> MeasureReadBandwidth(const BandwidthOptions& options, const Clock& clock);

}  // namespace tandem::fleet
