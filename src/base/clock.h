// Time as an argument: code that decides takes a Clock, tests give it a FakeClock.
#pragma once

#include <atomic>
#include <chrono>

namespace tandem {

using SteadyTime = std::chrono::steady_clock::time_point;
using SystemTime = std::chrono::system_clock::time_point;

// Thread: any.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual SteadyTime Now() const = 0;        // for durations and deadlines
  virtual SystemTime SystemNow() const = 0;  // for records and people
};

// The machine's clocks.
class RealClock final : public Clock {
 public:
  SteadyTime Now() const override { return std::chrono::steady_clock::now(); }
  SystemTime SystemNow() const override { return std::chrono::system_clock::now(); }
};

// A clock that moves only when told to. Starts at a fixed instant.
class FakeClock final : public Clock {
 public:
  SteadyTime Now() const override;
  SystemTime SystemNow() const override;
  void Advance(std::chrono::nanoseconds by) { elapsed_ns_ += by.count(); }

 private:
  std::atomic<int64_t> elapsed_ns_{0};
};

double MillisecondsBetween(SteadyTime from, SteadyTime to);

// Whole seconds since 1970, as wire formats carry them.
int64_t UnixSeconds(SystemTime time);

}  // namespace tandem
