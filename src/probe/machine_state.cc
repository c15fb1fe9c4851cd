#include "probe/machine_state.h"

#include <algorithm>

#include "probe/probe.h"

namespace tandem::probe {
namespace {

constexpr int kPasses = 5;
// Cores that move to another complex change the latency by a factor of five (32 and 160 ns), the
// bandwidth by 1.6 to 2; two probes of a quiet machine differ by a few percent.
constexpr double kLatencyFactor = 1.6;
constexpr double kBandwidthFactor = 1.2;
// One percent of two cores is what a quiet machine's own services take.
constexpr double kStolenShare = 0.02;
constexpr double kOthersShare = 0.05;

bool Differ(double a, double b, double factor) { return std::max(a, b) > factor * std::min(a, b); }

}  // namespace

Result<MachineState> ProbeMachine(int n_threads) {
  MachineState state;
  TANDEM_ASSIGN_OR_RETURN(const ReadBuffer buffer, ReadBuffer::Create());
  state.read_bytes_per_second = ReadBandwidth(buffer.words(), n_threads, kPasses);
  state.core_to_core_ns = CoreToCoreNanoseconds();
  TANDEM_ASSIGN_OR_RETURN(state.cpu, os::ReadCpuTimes());
  return state;
}

Disturbance Compare(const MachineState& before, const MachineState& after) {
  Disturbance result;
  const double busy = std::max(0.0, after.cpu.busy_s - before.cpu.busy_s);
  const double own = after.cpu.process_s - before.cpu.process_s;
  const double stolen = std::max(0.0, after.cpu.stolen_s - before.cpu.stolen_s);
  const double all = busy + stolen + std::max(0.0, after.cpu.idle_s - before.cpu.idle_s);
  if (all > 0) {
    result.stolen_share = stolen / all;
    result.others_share = std::clamp((busy - own) / all, 0.0, 1.0);
  }
  if (Differ(before.core_to_core_ns, after.core_to_core_ns, kLatencyFactor)) {
    result.changes.push_back(fmt::format("core-to-core latency went from {:.0f} to {:.0f} ns",
                                         before.core_to_core_ns, after.core_to_core_ns));
  }
  if (Differ(before.read_bytes_per_second, after.read_bytes_per_second, kBandwidthFactor)) {
    result.changes.push_back(fmt::format("read bandwidth went from {:.1f} to {:.1f} GB/s",
                                         before.read_bytes_per_second / 1e9,
                                         after.read_bytes_per_second / 1e9));
  }
  if (result.stolen_share > kStolenShare) {
    result.changes.push_back(
        fmt::format("other guests took {:.1f} % of the CPU time", 100 * result.stolen_share));
  }
  if (result.others_share > kOthersShare) {
    result.changes.push_back(
        fmt::format("other processes took {:.1f} % of the CPU time", 100 * result.others_share));
  }
  return result;
}

}  // namespace tandem::probe
