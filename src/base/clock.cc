#include "base/clock.h"

namespace tandem {

SteadyTime FakeClock::Now() const {
  return SteadyTime(std::chrono::hours(1) + std::chrono::nanoseconds(elapsed_ns_.load()));
}

SystemTime FakeClock::SystemNow() const {
  // 2026-01-01T00:00:00Z: any fixed instant would do.
  const auto start = std::chrono::seconds(1767225600);
  return SystemTime(std::chrono::duration_cast<SystemTime::duration>(
      start + std::chrono::nanoseconds(elapsed_ns_.load())));
}

double MillisecondsBetween(SteadyTime from, SteadyTime to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

int64_t UnixSeconds(SystemTime time) {
  return std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count();
}

}  // namespace tandem
