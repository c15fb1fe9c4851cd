#include "gateway/relay/timers.h"

namespace tandem::gateway::relay {

class TimerQueue::Entry final : public Timer {
 public:
  Entry(std::weak_ptr<TimerQueue> queue, Key key) : queue_(std::move(queue)), key_(key) {}
  ~Entry() override {
    if (auto queue = queue_.lock()) queue->Cancel(key_);
  }

 private:
  const std::weak_ptr<TimerQueue> queue_;
  const Key key_;
};

TimerHandle TimerQueue::Add(SteadyTime due, std::move_only_function<void()> callback) {
  Key key;
  {
    std::lock_guard lock(mutex_);
    key = {due, n_added_++};
    callbacks_.emplace(key, std::move(callback));
  }
  return std::make_unique<Entry>(weak_from_this(), key);
}

std::move_only_function<void()> TimerQueue::TakeDue(SteadyTime now) {
  std::lock_guard lock(mutex_);
  if (callbacks_.empty() || callbacks_.begin()->first.first > now) return nullptr;
  auto callback = std::move(callbacks_.begin()->second);
  callbacks_.erase(callbacks_.begin());
  return callback;
}

SteadyTime TimerQueue::next_due() const {
  std::lock_guard lock(mutex_);
  return callbacks_.empty() ? SteadyTime::max() : callbacks_.begin()->first.first;
}

size_t TimerQueue::size() const {
  std::lock_guard lock(mutex_);
  return callbacks_.size();
}

void TimerQueue::Cancel(const Key& key) {
  std::move_only_function<void()> dropped;  // after the lock: it may own anything
  std::lock_guard lock(mutex_);
  const auto at = callbacks_.find(key);
  if (at == callbacks_.end()) return;
  dropped = std::move(at->second);
  callbacks_.erase(at);
}

ThreadTimers::ThreadTimers() : thread_([this](const std::stop_token& stop) { Loop(stop); }) {}

ThreadTimers::~ThreadTimers() {
  thread_.request_stop();
  wake_.notify_all();
  thread_.join();
  // A callback may own whoever holds its handle.
  while (queue_->TakeDue(SteadyTime::max())) {
  }
}

TimerHandle ThreadTimers::After(std::chrono::milliseconds delay,
                                std::move_only_function<void()> callback) {
  const SteadyTime due = std::chrono::steady_clock::now() + delay;
  TimerHandle handle = queue_->Add(due, std::move(callback));
  {
    std::lock_guard lock(mutex_);
    if (due >= sleeps_until_) return handle;
    sleeps_until_ = due;
  }
  wake_.notify_one();
  return handle;
}

void ThreadTimers::Loop(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    if (auto callback = queue_->TakeDue(std::chrono::steady_clock::now())) {
      callback();
      continue;
    }
    std::unique_lock lock(mutex_);
    // Whoever adds one after this look finds sleeps_until_ and wakes the thread where it has to.
    const SteadyTime due = queue_->next_due();
    sleeps_until_ = due;
    const auto earlier = [&] { return sleeps_until_ < due; };
    if (due == SteadyTime::max()) {
      wake_.wait(lock, stop, earlier);
    } else {
      wake_.wait_until(lock, stop, due, earlier);
    }
    sleeps_until_ = SteadyTime::min();
  }
}

}  // namespace tandem::gateway::relay
