// The compute threads of a batch step.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

#include "base/error.h"

namespace tandem::ops {

// A persistent set of threads that forks and joins inside a step. Idle workers spin briefly, for
// the next loop of the same step is microseconds away, and then sleep on a futex. Work is handed
// out in chunks by an atomic counter, so that a worker whose core is busy elsewhere delays the step
// by one chunk at most; with more threads than usable cores nobody spins.
//
// Which worker runs which chunk is not fixed, so a body must write only what belongs to its chunk.
//
// Thread: one caller at a time; the caller works too.
class ThreadPool {
 public:
  // n_threads counts the caller; 0 means one per usable core. usable_cores is what
  // os::UsableCpuCount() says; 0 leaves it to the standard library, which does not know of quotas.
  // Errors: kInvalidArgument for a negative or absurd count, kResourceExhausted if the system
  // refuses a thread.
  static Result<std::unique_ptr<ThreadPool>> Create(int n_threads, int usable_cores = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int n_threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(worker, begin, end) for disjoint ranges that cover [0, n_items), each at most
  // `chunk` long and starting at a multiple of it; worker is in [0, n_threads) and no two calls
  // with the same worker overlap. Returns when all are done. The body must not throw, and must not
  // call ParallelFor. Never allocates.
  template <typename Body>
  void ParallelFor(int64_t n_items, int64_t chunk, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    Run({.n_items = n_items,
         .chunk = chunk,
         .body = const_cast<void*>(static_cast<const void*>(&body)),
         .call = [](void* plain, int worker, int64_t begin, int64_t end) {
           (*static_cast<Plain*>(plain))(worker, begin, end);
         }});
  }

 private:
  struct Job {
    int64_t n_items = 0;
    int64_t chunk = 1;
    void* body = nullptr;
    void (*call)(void* body, int worker, int64_t begin, int64_t end) = nullptr;
  };

  explicit ThreadPool(int spin_turns) : spin_turns_(spin_turns) {}
  void Run(const Job& job);
  void WorkerLoop(int worker);
  bool RunOneChunk(int worker);
  void WakeWorkers();

  const int spin_turns_;
  std::vector<std::jthread> workers_;

  // A job is valid from the store to unclaimed_ until finished_ reaches n_chunks_; whoever lowers
  // unclaimed_ from a positive value holds a chunk of it, so the job cannot change under them.
  Job job_;
  int n_chunks_ = 0;
  alignas(64) std::atomic<int> unclaimed_{0};
  alignas(64) std::atomic<int> finished_{0};
  alignas(64) std::atomic<int> wake_{0};  // futex that idle workers sleep on; changes per job
  std::atomic<int> n_sleeping_{0};
  std::atomic<bool> stopping_{false};
};

}  // namespace tandem::ops
