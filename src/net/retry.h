// When to try a request again: exponential backoff with full jitter, and the server's Retry-After.
// Time and randomness are arguments, so that nothing sleeps in tests.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <stop_token>
#include <string_view>

#include "base/clock.h"
#include "os/file_system.h"

namespace tandem::net {

// Waits between attempts. Thread: any.
class Sleeper {
 public:
  virtual ~Sleeper() = default;
  // Returns after `duration`, or at once when `stop` is requested.
  virtual void SleepFor(std::chrono::milliseconds duration, const std::stop_token& stop) = 0;
};

// Sleeps on the machine's clock.
class RealSleeper final : public Sleeper {
 public:
  void SleepFor(std::chrono::milliseconds duration, const std::stop_token& stop) override;
};

// Time, chance and the disk, as network code takes them. They outlive whoever holds this.
struct Surroundings {
  const Clock* clock = nullptr;
  Sleeper* sleeper = nullptr;
  std::function<double()> uniform;  // in [0, 1)
  os::FileSystem* files = &os::FileSystem::Real();
};

// The machine's clock, a real sleeper and a generator seeded from the operating system. The clock
// and the sleeper are stateless and live as long as the process. Thread: use one per thread.
Surroundings RealSurroundings();

struct RetryPolicy {
  // Consecutive attempts that brought nothing new; an attempt that made progress starts over.
  int max_attempts = 6;
  std::chrono::milliseconds first_delay{500};
  std::chrono::milliseconds max_delay{30'000};
  // A server that asks for a longer pause than this is taken at its word: the call fails and says
  // how long to wait.
  std::chrono::milliseconds max_retry_after{300'000};
};

// The pause before attempt `failures` + 1, for failures >= 1: uniform in [0, first_delay *
// 2^(failures-1)], capped at max_delay, and never shorter than `retry_after`.
// Source: "full jitter", AWS Architecture Blog, Exponential Backoff And Jitter (2015).
std::chrono::milliseconds RetryDelay(const RetryPolicy& policy, int failures,
                                     std::optional<std::chrono::milliseconds> retry_after,
                                     double uniform);

// A Retry-After header (RFC 9110, 10.2.3): seconds, or an HTTP date relative to `now`. A date in
// the past is zero; nothing for what is neither.
std::optional<std::chrono::milliseconds> ParseRetryAfter(std::string_view value, SystemTime now);

// 408, 425, 429 and the 5xx that pass: 500, 502, 503, 504.
bool IsRetryableStatus(int status);

}  // namespace tandem::net
