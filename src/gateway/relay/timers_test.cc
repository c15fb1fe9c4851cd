#include "gateway/relay/timers.h"

#include <atomic>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "gateway/relay/fake_timers.h"

namespace tandem::gateway::relay {
namespace {

using std::chrono::milliseconds;

TEST(FakeTimersTest, CallbacksRunInOrderAtTheirTimes) {
  FakeClock clock;
  FakeTimers timers(&clock);
  const SteadyTime start = clock.Now();
  std::string order;
  const auto note = [&](char c, int ms) {
    return [&, c, ms] {
      order += c;
      EXPECT_EQ(clock.Now(), start + milliseconds(ms));
    };
  };
  const TimerHandle b = timers.After(milliseconds(20), note('b', 20));
  const TimerHandle a = timers.After(milliseconds(10), note('a', 10));
  const TimerHandle c = timers.After(milliseconds(20), note('c', 20));
  timers.Advance(milliseconds(9));
  EXPECT_EQ(order, "");
  timers.Advance(milliseconds(11));
  EXPECT_EQ(order, "abc");
  EXPECT_EQ(clock.Now(), start + milliseconds(20));
  EXPECT_EQ(timers.size(), 0u);
}

TEST(FakeTimersTest, DestroyedHandleCancels) {
  FakeClock clock;
  FakeTimers timers(&clock);
  auto owned = std::make_shared<int>(1);
  const std::weak_ptr<int> watch = owned;
  bool ran = false;
  TimerHandle handle =
      timers.After(milliseconds(1), [&ran, owned = std::move(owned)] { ran = true; });
  handle.reset();
  EXPECT_TRUE(watch.expired()) << "the callback is destroyed with the handle";
  timers.Advance(milliseconds(5));
  EXPECT_FALSE(ran);
}

TEST(FakeTimersTest, CallbackMayArmAndCancelIncludingItself) {
  FakeClock clock;
  FakeTimers timers(&clock);
  TimerHandle self;
  TimerHandle other;
  TimerHandle next;
  bool other_ran = false;
  bool next_ran = false;
  self = timers.After(milliseconds(1), [&] {
    self.reset();
    other.reset();
    next = timers.After(milliseconds(1), [&] { next_ran = true; });
  });
  other = timers.After(milliseconds(2), [&] { other_ran = true; });
  timers.Advance(milliseconds(10));
  EXPECT_FALSE(other_ran);
  EXPECT_TRUE(next_ran);
}

TEST(ThreadTimersTest, RunsInOrderOfDueTimeNotOfArming) {
  ThreadTimers timers;
  std::promise<void> done;
  std::vector<int> order;
  const TimerHandle late = timers.After(milliseconds(30), [&] {
    order.push_back(2);
    done.set_value();
  });
  const TimerHandle early = timers.After(milliseconds(5), [&] { order.push_back(1); });
  const TimerHandle now = timers.After(milliseconds(0), [&] { order.push_back(0); });
  done.get_future().wait();
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2}));
}

TEST(ThreadTimersTest, CancelledCallbackNeverRuns) {
  std::atomic<int> n_ran = 0;
  {
    ThreadTimers timers;
    std::promise<void> done;
    std::vector<TimerHandle> cancelled;
    for (int i = 0; i < 50; ++i) {
      cancelled.push_back(timers.After(milliseconds(20), [&] { ++n_ran; }));
    }
    cancelled.clear();
    const TimerHandle last = timers.After(milliseconds(25), [&] { done.set_value(); });
    done.get_future().wait();
  }
  EXPECT_EQ(n_ran, 0);
}

TEST(ThreadTimersTest, HandleMayOutliveTheTimersAndDieInItsCallback) {
  TimerHandle outlives;
  {
    ThreadTimers timers;
    outlives = timers.After(std::chrono::hours(1), [] {});
    std::promise<void> armed;
    std::promise<void> done;
    TimerHandle self = timers.After(milliseconds(0), [&] {
      armed.get_future().wait();
      self.reset();
      done.set_value();
    });
    armed.set_value();
    done.get_future().wait();
  }
  outlives.reset();
}

TEST(ThreadTimersTest, ManyThreadsArmAndCancel) {
  ThreadTimers timers;
  std::atomic<int> n_ran = 0;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 500; ++i) {
          const TimerHandle handle = timers.After(milliseconds(i % 3), [&] { ++n_ran; });
        }
      });
    }
  }
  // One more, behind all of them: the thread is still well.
  std::promise<void> done;
  const TimerHandle last = timers.After(milliseconds(3), [&] { done.set_value(); });
  done.get_future().wait();
  EXPECT_LE(n_ran, 2000);
}

}  // namespace
}  // namespace tandem::gateway::relay
