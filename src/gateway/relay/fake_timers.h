// Timers that fire when a test moves time. Thread: any, but only one may call Advance.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <utility>

#include "gateway/relay/timers.h"

namespace tandem::gateway::relay {

class FakeTimers final : public Timers {
 public:
  // `clock` outlives the timers and is moved by Advance alone.
  explicit FakeTimers(FakeClock* clock) : clock_(clock) {}
  // Drops what is armed: a callback may own whoever holds its handle.
  ~FakeTimers() override {
    while (queue_->TakeDue(SteadyTime::max())) {
    }
  }

  TimerHandle After(std::chrono::milliseconds delay,
                    std::move_only_function<void()> callback) override {
    return queue_->Add(clock_->Now() + delay, std::move(callback));
  }

  // Moves the clock to each callback's time in turn and runs it, then to the end of the interval.
  // Callbacks that are armed on the way and fall due in it run too.
  void Advance(std::chrono::nanoseconds by) {
    const SteadyTime end = clock_->Now() + by;
    for (SteadyTime due = queue_->next_due(); due <= end; due = queue_->next_due()) {
      if (due > clock_->Now()) clock_->Advance(due - clock_->Now());
      if (auto callback = queue_->TakeDue(clock_->Now())) callback();
    }
    if (end > clock_->Now()) clock_->Advance(end - clock_->Now());
  }

  // How many are armed.
  size_t size() const { return queue_->size(); }
  // When the first one is due; SteadyTime::max() where there is none.
  SteadyTime next_due() const { return queue_->next_due(); }

 private:
  FakeClock* const clock_;
  const std::shared_ptr<TimerQueue> queue_ = std::make_shared<TimerQueue>();
};

}  // namespace tandem::gateway::relay
