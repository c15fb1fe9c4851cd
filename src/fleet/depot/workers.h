// Threads for work that waits for the disk, so that threads of sockets need not.
#pragma once

#include <functional>
#include <thread>
#include <utility>
#include <vector>

#include "base/bounded_queue.h"

namespace tandem::fleet {

// Thread: any.
class Workers {
 public:
  using Job = std::move_only_function<void()>;

  Workers(int n_threads, size_t capacity) : jobs_(capacity) {
    for (int i = 0; i < n_threads; ++i) {
      threads_.emplace_back([this](const std::stop_token& stop) {
        while (auto job = jobs_.Pop(stop)) (*job)();
      });
    }
  }
  // Jobs that have not begun are dropped.
  ~Workers() {
    for (std::jthread& thread : threads_) thread.request_stop();
    jobs_.Close();
    threads_.clear();
    while (jobs_.TryPop()) {
    }
  }

  // False: too much waits already, and `job` is untouched.
  bool Post(Job&& job) { return jobs_.TryPush(std::move(job)); }

 private:
  BoundedQueue<Job> jobs_;
  std::vector<std::jthread> threads_;
};

}  // namespace tandem::fleet
