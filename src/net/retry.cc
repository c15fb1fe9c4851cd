#include "net/retry.h"

#include <algorithm>
#include <charconv>
#include <condition_variable>
#include <mutex>
#include <random>
#include <string>

#include <curl/curl.h>

namespace tandem::net {

using std::chrono::milliseconds;

void RealSleeper::SleepFor(milliseconds duration, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any wake;
  std::unique_lock lock(mutex);
  wake.wait_for(lock, stop, duration, [] { return false; });
}

Surroundings RealSurroundings() {
  static const RealClock clock;
  static RealSleeper sleeper;
  return {.clock = &clock,
          .sleeper = &sleeper,
          .uniform = [engine = std::mt19937_64(std::random_device{}())]() mutable {
            return static_cast<double>(engine() >> 11) * 0x1p-53;
          }};
}

milliseconds RetryDelay(const RetryPolicy& policy, int failures,
                        std::optional<milliseconds> retry_after, double uniform) {
  double ceiling_ms = static_cast<double>(policy.first_delay.count());
  const double cap_ms = static_cast<double>(policy.max_delay.count());
  for (int i = 1; i < failures && ceiling_ms < cap_ms; ++i) ceiling_ms *= 2;
  const milliseconds jittered(static_cast<int64_t>(std::min(ceiling_ms, cap_ms) * uniform));
  return std::max(jittered, retry_after.value_or(milliseconds(0)));
}

std::optional<milliseconds> ParseRetryAfter(std::string_view value, SystemTime now) {
  int64_t seconds = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), seconds);
  if (error == std::errc() && end == value.data() + value.size()) {
    if (seconds < 0) return std::nullopt;
    // A week is as good as any longer wait, and keeps the arithmetic far from overflow.
    return std::chrono::seconds(std::min<int64_t>(seconds, 7 * 24 * 3600));
  }
  const time_t date = curl_getdate(std::string(value).c_str(), nullptr);
  if (date < 0) return std::nullopt;
  const int64_t wait_s = std::clamp<int64_t>(date - UnixSeconds(now), 0, 7 * 24 * 3600);
  return std::chrono::seconds(wait_s);
}

bool IsRetryableStatus(int status) {
  switch (status) {
    case 408:
    case 425:
    case 429:
    case 500:
    case 502:
    case 503:
    case 504:
      return true;
    default:
      return false;
  }
}

}  // namespace tandem::net
