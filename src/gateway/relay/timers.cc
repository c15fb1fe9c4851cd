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

TimerHandle TimerQueue::Add(SteadyTime due, std::move_only_function<void()> callback,
                            bool* is_first) {
  Key key;
  {
    std::lock_guard lock(mutex_);
    key = {due, n_added_++};
    const auto at = callbacks_.emplace(key, std::move(callback)).first;
    if (is_first != nullptr) *is_first = at == callbacks_.begin();
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
}

TimerHandle ThreadTimers::After(std::chrono::milliseconds delay,
                                std::move_only_function<void()> callback) {
  bool is_first = false;
  TimerHandle handle =
      queue_->Add(std::chrono::steady_clock::now() + delay, std::move(callback), &is_first);
  if (is_first) {
    {
      std::lock_guard lock(mutex_);
      earlier_ = true;
    }
    wake_.notify_one();
  }
  return handle;
}

void ThreadTimers::Loop(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    if (auto callback = queue_->TakeDue(std::chrono::steady_clock::now())) {
      callback();
      continue;
    }
    std::unique_lock lock(mutex_);
    const SteadyTime due = queue_->next_due();
    if (due == SteadyTime::max()) {
      wake_.wait(lock, stop, [&] { return earlier_; });
    } else {
      wake_.wait_until(lock, stop, due, [&] { return earlier_; });
    }
    earlier_ = false;
  }
}

}  // namespace tandem::gateway::relay
