#include "engine/ops/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <cstring>
#include <system_error>

#include "base/check.h"
#include "base/log.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tandem::ops {
namespace {

// About 30 us: longer than the gaps between the loops of a step, shorter than a time slice.
constexpr int kSpinTurns = 2000;
// No machine that runs this has more cores; a larger count is a typing error.
constexpr int kMaxThreads = 1024;

void Relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Keeps a thread on one core. A refusal costs nothing but the locality.
void Pin(std::jthread* thread, int cpu) {
#if defined(__linux__)
  if (cpu < 0 || cpu >= CPU_SETSIZE) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (const int error = pthread_setaffinity_np(thread->native_handle(), sizeof set, &set);
      error != 0) {
    log::Debug("a compute thread was not pinned to core {}: {}", cpu, std::strerror(error));
  }
#endif
}

}  // namespace

Result<std::unique_ptr<ThreadPool>> ThreadPool::Create(int n_threads, int usable_cores,
                                                       std::span<const int> cpus) {
  if (usable_cores <= 0) {
    usable_cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }
  if (n_threads == 0) n_threads = std::min(usable_cores, kMaxThreads);
  if (n_threads < 0 || n_threads > kMaxThreads) {
    return Err(ErrorCode::kInvalidArgument,
               "{} threads: use 1 to {}, or 0 for every core that this process may use ({})",
               n_threads, kMaxThreads, usable_cores);
  }
  // With a thread too many, whoever spins keeps the one that has work off its core.
  std::unique_ptr<ThreadPool> pool(
      new ThreadPool(n_threads, n_threads > usable_cores ? 0 : kSpinTurns));
  const bool pinned = std::ssize(cpus) == n_threads;
  try {
    for (int worker = 1; worker < n_threads; ++worker) {
      pool->workers_.emplace_back([p = pool.get(), worker] { p->WorkerLoop(worker); });
      if (pinned) Pin(&pool->workers_.back(), cpus[static_cast<size_t>(worker)]);
    }
  } catch (const std::system_error& error) {
    return Err(ErrorCode::kResourceExhausted, "cannot start {} compute threads: {}; use fewer",
               n_threads, error.what());
  }
  return pool;
}

ThreadPool::~ThreadPool() {
  stopping_.store(true);
  WakeWorkers();
  workers_.clear();  // joins, while everything that they look at still exists
}

void ThreadPool::WakeWorkers() {
  // Sequentially consistent on both sides: a worker counts itself as sleeping before it looks at
  // wake_ for the last time, and here wake_ was changed before the count is read.
  wake_.fetch_add(1);
  if (n_sleeping_.load() > 0) wake_.notify_all();
}

template <typename Value>
void ThreadPool::Await(const std::atomic<Value>& value, Value old) {
  for (int turn = 0; turn < spin_turns_; ++turn) {
    if (value.load(std::memory_order_acquire) != old) return;
    Relax();
  }
  value.wait(old, std::memory_order_acquire);
}

bool ThreadPool::RunOneChunk(int worker, Share* share) {
  int unclaimed = share->unclaimed.load(std::memory_order_relaxed);
  do {
    if (unclaimed <= 0) return false;
  } while (!share->unclaimed.compare_exchange_weak(
      unclaimed, unclaimed - 1, std::memory_order_acquire, std::memory_order_relaxed));
  const int64_t begin = (share->end - unclaimed) * job_.chunk;
  const int64_t end = std::min(begin + job_.chunk, job_.n_items);
  const int n_chunks = n_chunks_;
  job_.call(job_.body, worker, begin, end);
  // From here on the job may be gone.
  if (finished_.fetch_add(1, std::memory_order_acq_rel) + 1 == n_chunks) finished_.notify_one();
  return true;
}

void ThreadPool::RunShares(int worker) {
  const size_t n = shares_.size();
  for (size_t i = 0; i < n; ++i) {
    Share* share = &shares_[(static_cast<size_t>(worker) + i) % n];
    while (RunOneChunk(worker, share)) {
    }
  }
}

void ThreadPool::WorkerLoop(int worker) {
  unsigned seen = 0;
  while (true) {
    for (int turn = 0; turn < spin_turns_ && wake_.load() == seen; ++turn) Relax();
    if (wake_.load() == seen) {
      n_sleeping_.fetch_add(1);
      wake_.wait(seen);
      n_sleeping_.fetch_sub(1);
    }
    seen = wake_.load();
    if (stopping_.load()) return;
    RunShares(worker);
  }
}

void ThreadPool::WaitForTurn() {
  const unsigned mine = next_turn_.fetch_add(1);
  for (unsigned now = turn_.load(); now != mine; now = turn_.load()) Await(turn_, now);
}

void ThreadPool::EndTurn() {
  // Only this caller changes turn_. One that draws its number later than this looks at next_turn_
  // finds its turn come.
  const unsigned next = turn_.load(std::memory_order_relaxed) + 1;
  turn_.store(next);
  if (next_turn_.load() != next) turn_.notify_all();
}

void ThreadPool::RunAlone(const Job& job) {
  for (int64_t begin = 0; begin < job.n_items; begin += job.chunk) {
    job.call(job.body, 0, begin, std::min(begin + job.chunk, job.n_items));
  }
}

void ThreadPool::Run(const Job& job) {
  TANDEM_CHECK(job.chunk > 0);
  if (job.n_items <= 0) return;
  // More chunks than an int counts would take hours; what a step asks for is thousands.
  const int64_t n_chunks = (job.n_items + job.chunk - 1) / job.chunk;
  TANDEM_CHECK(n_chunks <= 1 << 30);
  if (workers_.empty() || n_chunks == 1) return RunAlone(job);
  WaitForTurn();
  job_ = job;
  n_chunks_ = static_cast<int>(n_chunks);
  finished_.store(0, std::memory_order_relaxed);
  const auto n_shares = static_cast<int64_t>(shares_.size());
  for (int64_t i = 0; i < n_shares; ++i) {
    Share& share = shares_[static_cast<size_t>(i)];
    const auto begin = static_cast<int>(n_chunks * i / n_shares);
    share.end = static_cast<int>(n_chunks * (i + 1) / n_shares);
    share.unclaimed.store(share.end - begin, std::memory_order_release);
  }
  WakeWorkers();
  RunShares(0);
  for (int done = finished_.load(std::memory_order_acquire); done != n_chunks_;
       done = finished_.load(std::memory_order_acquire)) {
    Await(finished_, done);
  }
  EndTurn();
}

}  // namespace tandem::ops
