// Charter of fleet/deploy: which package runs on which executor, and which did before. It may
// include base, os and the rooms of fleet/. It runs nothing itself: app/ gives it what starts a
// self-test, and asks it what to do next.
//
// The ladder from an accelerator to the cores: try, and where the context cannot be created reset
// the device, wait, and try again; after the last attempt the cores answer with a smaller batch, or
// nobody, where a software fallback is forbidden.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"

namespace tandem::fleet {

struct LadderOptions {
  int max_attempts = 3;
  // Before attempt n + 1: first_delay * 2^(n-1), of which a random half is taken off.
  std::chrono::milliseconds first_delay{250};
  std::chrono::milliseconds max_delay{4000};
};

struct LadderSteps {
  // Makes the accelerator ready to serve; what passed here is used.
  std::function<Status()> try_accelerator;
  std::function<Status()> reset;
  // False: no more time, give up.
  std::function<bool(std::chrono::milliseconds)> wait;
  std::function<double()> random;  // in [0, 1)
};

struct LadderOutcome {
  bool accelerated = false;
  int attempts = 0;
  int resets = 0;
  Error last_error = {};                  // of the accelerator, where it is not used
  std::vector<std::string> reasons = {};  // one for each attempt that failed
};

// Only kUnavailable (a context that cannot be created now, a device that was lost) is tried again:
// a wrong answer, a driver that does not know the package or memory that is not there stay as they
// are. A reset that fails ends the climb too.
LadderOutcome ClimbLadder(const LadderOptions& options, const LadderSteps& steps);

// How many answers are generated at the same time on the cores in an accelerator's place: half, at
// least one. Sharing bandwidth, each of them would otherwise get slower with every other.
int ReducedBatchSize(int batch_size);

}  // namespace tandem::fleet
