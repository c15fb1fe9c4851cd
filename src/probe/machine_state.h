// Whether the machine was the same before and after a measurement. A virtual machine's cores are
// moved between core complexes within minutes, its neighbours take CPU time and bandwidth, and
// other processes run: a figure is worth something where none of that happened meanwhile.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "os/cpu_times.h"

namespace tandem::probe {

struct MachineState {
  double read_bytes_per_second = 0;  // all cores together
  double core_to_core_ns = 0;        // 0: one core only
  os::CpuTimes cpu;                  // since the machine started, this probe included
};

// Probes with n_threads threads. Cost: some 0.2 s, and ReadBuffer::kDefaultBytes of memory
// meanwhile. Errors: those of ReadBuffer::Create and os::ReadCpuTimes.
Result<MachineState> ProbeMachine(int n_threads);

// What happened between two probes, as shares of all cores' time.
struct Disturbance {
  double stolen_share = 0;  // given to other guests of the host
  double others_share = 0;  // used by other processes here
  // Sentences, empty where the figures taken in between can be compared with others.
  std::vector<std::string> changes;
};
// Pure. A process of ours that is not this one counts as others.
Disturbance Compare(const MachineState& before, const MachineState& after);

}  // namespace tandem::probe
