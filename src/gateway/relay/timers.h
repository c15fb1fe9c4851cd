// "Call me in 400 ms", as an interface, so that what waits can be tested without waiting.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "base/clock.h"

namespace tandem::gateway::relay {

// One armed callback. Destroying it cancels: a callback that has not begun will never run. One that
// has begun runs on, and the destructor does not wait for it, so that a handle may be destroyed
// inside its own callback or under a lock that the callback takes. A callback therefore owns, or
// holds weakly, whatever it touches.
class Timer {
 public:
  virtual ~Timer() = default;
};
using TimerHandle = std::unique_ptr<Timer>;

// Thread: any.
class Timers {
 public:
  virtual ~Timers() = default;
  // Runs `callback` once, not before `delay` has passed (zero or less: as soon as possible, but
  // never inside this call). A callback must not block: others wait behind it. A handle may outlive
  // the Timers.
  [[nodiscard]] virtual TimerHandle After(std::chrono::milliseconds delay,
                                          std::move_only_function<void()> callback) = 0;
};

// Callbacks by due time, then in the order in which they were armed. Thread: any.
class TimerQueue : public std::enable_shared_from_this<TimerQueue> {
 public:
  using Key = std::pair<SteadyTime, uint64_t>;

  TimerHandle Add(SteadyTime due, std::move_only_function<void()> callback);
  // Takes the first callback where it is due; null otherwise.
  std::move_only_function<void()> TakeDue(SteadyTime now);
  // When the first one is due; SteadyTime::max() where there is none.
  SteadyTime next_due() const;
  size_t size() const;

 private:
  class Entry;
  void Cancel(const Key& key);

  mutable std::mutex mutex_;
  std::map<Key, std::move_only_function<void()>> callbacks_;  // guarded by mutex_
  uint64_t n_added_ = 0;                                      // guarded by mutex_
};

// By the steady clock, on one thread of its own. The destructor waits for a callback that runs and
// drops the others; it must not be run by a callback.
class ThreadTimers final : public Timers {
 public:
  ThreadTimers();
  ~ThreadTimers() override;
  TimerHandle After(std::chrono::milliseconds delay,
                    std::move_only_function<void()> callback) override;

 private:
  void Loop(const std::stop_token& stop);

  const std::shared_ptr<TimerQueue> queue_ = std::make_shared<TimerQueue>();
  std::mutex mutex_;
  std::condition_variable_any wake_;
  // guarded by mutex_: until when the thread sleeps; min() while it does not. It is woken for what
  // is due earlier only, which under load is next to nothing: most timers are cancelled, and those
  // that follow are due later.
  SteadyTime sleeps_until_ = SteadyTime::min();
  std::jthread thread_;  // last: stopped and joined before the rest goes
};

}  // namespace tandem::gateway::relay
