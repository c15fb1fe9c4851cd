// Time and chance for tests of network code: a pause is a note in a list, the clock moves by it,
// and chance is always the same.
#pragma once

#include <chrono>
#include <functional>
#include <stop_token>
#include <vector>

#include "base/clock.h"
#include "net/retry.h"

namespace tandem::net {

class FakeSurroundings final : public Sleeper {
 public:
  void SleepFor(std::chrono::milliseconds duration, const std::stop_token&) override {
    pauses.push_back(duration);
    clock.Advance(duration);
    if (on_pause) on_pause();
  }

  Surroundings Get() {
    return {
        .clock = &clock, .sleeper = this, .uniform = [this] { return uniform; }, .files = files};
  }

  FakeClock clock;
  os::FileSystem* files = &os::FileSystem::Real();
  double uniform = 0.5;
  std::vector<std::chrono::milliseconds> pauses;
  std::function<void()> on_pause;
};

}  // namespace tandem::net
