// The compute threads of a batch step.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <thread>
#include <type_traits>
#include <vector>

#include "base/error.h"

namespace tandem::ops {

// A persistent set of threads that forks and joins inside a step. Idle workers spin briefly, for
// the next loop of the same step is microseconds away, and then sleep on a futex. Every worker has
// a share of the chunks, one behind the other, so that it reads one stream of weights; whoever is
// done with its own takes chunks of the others'. So a worker whose core is busy elsewhere, or that
// does not wake up at all, delays a loop by the chunk that it holds and no more. With more threads
// than usable cores nobody spins.
//
// Which worker runs which chunk is not fixed, so a body must write only what belongs to its chunk.
//
// Thread: any; the caller works too. Several callers take turns, loop by loop, in the order in
// which they came: models that share a pool do not fight for cores.
class ThreadPool {
 public:
  // n_threads counts the caller; 0 means one per usable core. usable_cores is what
  // os::UsableCpuCount() says; 0 leaves it to the standard library, which does not know of quotas.
  // `cpus` are the numbers of the cores that the process may use: where there are as many as
  // threads, each worker stays on one of its own and the first is left to the callers. Elsewhere,
  // and where the system refuses, workers go where the system puts them.
  // Errors: kInvalidArgument for a negative or absurd count, kResourceExhausted if the system
  // refuses a thread.
  static Result<std::unique_ptr<ThreadPool>> Create(int n_threads, int usable_cores = 0,
                                                    std::span<const int> cpus = {});
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
  // A worker's chunks of the job: those before `end` that are unclaimed.
  struct alignas(64) Share {
    std::atomic<int> unclaimed{0};
    int end = 0;
  };

  ThreadPool(int n_threads, int spin_turns) : spin_turns_(spin_turns), shares_(n_threads) {}
  void Run(const Job& job);
  void RunAlone(const Job& job);
  void RunShares(int worker);
  bool RunOneChunk(int worker, Share* share);
  void WorkerLoop(int worker);
  void WakeWorkers();
  void WaitForTurn();
  void EndTurn();
  // Until the value is another one: spins, then sleeps.
  template <typename Value>
  void Await(const std::atomic<Value>& value, Value old);

  const int spin_turns_;
  std::vector<std::jthread> workers_;

  // A job is valid from the stores to `unclaimed` until finished_ reaches n_chunks_; whoever lowers
  // an `unclaimed` from a positive value holds a chunk of it, so neither the job nor that share can
  // change under them.
  Job job_;
  int n_chunks_ = 0;
  std::vector<Share> shares_;  // by worker
  alignas(64) std::atomic<int> finished_{0};
  alignas(64) std::atomic<unsigned> wake_{0};  // futex that idle workers sleep on; changes per job
  std::atomic<int> n_sleeping_{0};
  std::atomic<bool> stopping_{false};
  // Callers draw a number and wait for it.
  alignas(64) std::atomic<unsigned> next_turn_{0};
  std::atomic<unsigned> turn_{0};
};

}  // namespace tandem::ops
