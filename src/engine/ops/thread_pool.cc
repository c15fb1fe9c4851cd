#include "engine/ops/thread_pool.h"

#include <algorithm>
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

}  // namespace

Result<std::unique_ptr<ThreadPool>> ThreadPool::Create(int n_threads, int usable_cores) {
  if (usable_cores <= 0) {
    usable_cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }
  if (n_threads == 0) n_threads = std::min(usable_cores, kMaxThreads);
  if (n_threads < 0 || n_threads > kMaxThreads) {
    return Err(ErrorCode::kInvalidArgument,
               "{} threads: use 1 to {}, or 0 for every core that this process may use ({})",
               n_threads, kMaxThreads, usable_cores);
  }
  if (n_threads > usable_cores) {
    log::Warning("{} compute threads on {} usable cores: more threads than cores are slower",
                 n_threads, usable_cores);
  }
  // With a thread too many, whoever spins keeps the one that has work off its core.
  std::unique_ptr<ThreadPool> pool(new ThreadPool(n_threads > usable_cores ? 0 : kSpinTurns));
  try {
    for (int worker = 1; worker < n_threads; ++worker) {
      pool->workers_.emplace_back([p = pool.get(), worker] { p->WorkerLoop(worker); });
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
  // unclaimed_ for the last time, and here unclaimed_ was stored before the count is read.
  wake_.fetch_add(1);
  if (n_sleeping_.load() > 0) wake_.notify_all();
}

bool ThreadPool::RunOneChunk(int worker) {
  int unclaimed = unclaimed_.load(std::memory_order_relaxed);
  do {
    if (unclaimed <= 0) return false;
  } while (!unclaimed_.compare_exchange_weak(unclaimed, unclaimed - 1, std::memory_order_acquire,
                                             std::memory_order_relaxed));
  const int64_t begin = (n_chunks_ - unclaimed) * job_.chunk;
  const int64_t end = std::min(begin + job_.chunk, job_.n_items);
  const int n_chunks = n_chunks_;
  job_.call(job_.body, worker, begin, end);
  // From here on the job may be gone.
  if (finished_.fetch_add(1, std::memory_order_acq_rel) + 1 == n_chunks) finished_.notify_one();
  return true;
}

void ThreadPool::WorkerLoop(int worker) {
  while (!stopping_.load()) {
    bool worked = false;
    for (int turn = 0; turn <= spin_turns_; ++turn) {
      if (RunOneChunk(worker)) {
        worked = true;
        break;
      }
      if (stopping_.load(std::memory_order_relaxed)) return;
      Relax();
    }
    if (worked) continue;
    n_sleeping_.fetch_add(1);
    const int seen = wake_.load();
    if (unclaimed_.load() <= 0 && !stopping_.load()) wake_.wait(seen);
    n_sleeping_.fetch_sub(1);
  }
}

void ThreadPool::Run(const Job& job) {
  TANDEM_CHECK(job.chunk > 0);
  if (job.n_items <= 0) return;
  // More chunks than an int counts would take hours; what a step asks for is thousands.
  const int64_t n_chunks = (job.n_items + job.chunk - 1) / job.chunk;
  TANDEM_CHECK(n_chunks <= 1 << 30);
  if (workers_.empty() || n_chunks == 1) {
    for (int64_t begin = 0; begin < job.n_items; begin += job.chunk) {
      job.call(job.body, 0, begin, std::min(begin + job.chunk, job.n_items));
    }
    return;
  }
  job_ = job;
  n_chunks_ = static_cast<int>(n_chunks);
  finished_.store(0, std::memory_order_relaxed);
  unclaimed_.store(n_chunks_);
  WakeWorkers();
  while (RunOneChunk(0)) {
  }
  int turn = 0;
  for (int done = finished_.load(std::memory_order_acquire); done != n_chunks_;
       done = finished_.load(std::memory_order_acquire)) {
    if (++turn <= spin_turns_) {
      Relax();
    } else {
      finished_.wait(done, std::memory_order_acquire);
    }
  }
}

}  // namespace tandem::ops
