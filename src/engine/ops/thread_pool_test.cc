#include "engine/ops/thread_pool.h"

#include <atomic>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace tandem::ops {
namespace {

TEST(ThreadPoolTest, EveryItemIsDoneOnceInChunksThatStartAtMultiples) {
  for (const int n_threads : {1, 2, 3, 7}) {
    auto pool = ThreadPool::Create(n_threads, 64);
    ASSERT_TRUE(pool);
    EXPECT_EQ((*pool)->n_threads(), n_threads);
    for (const int64_t n_items : {1, 2, 9, 10, 1000}) {
      for (const int64_t chunk : {1, 3, 10, 5000}) {
        std::vector<std::atomic<int>> done(n_items);
        std::atomic<int> wrong = 0;
        (*pool)->ParallelFor(n_items, chunk, [&](int worker, int64_t begin, int64_t end) {
          if (worker < 0 || worker >= n_threads || begin % chunk != 0 || end > n_items ||
              end - begin > chunk || begin >= end) {
            ++wrong;
          }
          for (int64_t i = begin; i < end; ++i) ++done[i];
        });
        EXPECT_EQ(wrong, 0);
        for (int64_t i = 0; i < n_items; ++i) ASSERT_EQ(done[i], 1) << i << " of " << n_items;
      }
    }
  }
}

// Loops follow each other as in a step; each reads what the one before wrote.
TEST(ThreadPoolTest, ALoopSeesAllThatTheLastOneWrote) {
  for (const int usable_cores : {64, 1}) {  // with and without spinning
    auto pool = ThreadPool::Create(4, usable_cores);
    ASSERT_TRUE(pool);
    std::vector<int64_t> a(257, 0);
    std::vector<int64_t> b(257, 0);
    constexpr int kRounds = 2000;
    for (int round = 0; round < kRounds; ++round) {
      (*pool)->ParallelFor(257, 16, [&](int, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) b[i] = a[256 - i] + 1;
      });
      a.swap(b);
    }
    for (const int64_t value : a) ASSERT_EQ(value, kRounds);
  }
}

TEST(ThreadPoolTest, CallsOfOneWorkerDoNotOverlap) {
  auto pool = ThreadPool::Create(4, 1);
  ASSERT_TRUE(pool);
  std::vector<std::atomic<int>> inside(4);
  std::atomic<int> overlaps = 0;
  for (int round = 0; round < 50; ++round) {
    (*pool)->ParallelFor(100, 1, [&](int worker, int64_t, int64_t) {
      if (inside[worker].fetch_add(1) != 0) ++overlaps;
      inside[worker].fetch_sub(1);
    });
  }
  EXPECT_EQ(overlaps, 0);
}

// A core that a neighbour keeps busy: who computes there holds one chunk and no more. In halves
// that are fixed, the loop would never end.
TEST(ThreadPoolTest, WorkOfAWorkerThatStandsStillIsDoneByTheOthers) {
  for (const int usable_cores : {64, 1}) {
    auto pool = ThreadPool::Create(3, usable_cores);
    ASSERT_TRUE(pool);
    constexpr int kChunks = 90;
    std::atomic<int> stuck = -1;  // the worker that stands still
    std::atomic<int> done = 0;
    std::atomic<int> done_by_stuck = 0;
    (*pool)->ParallelFor(kChunks, 1, [&](int worker, int64_t, int64_t) {
      int nobody = -1;
      if (worker != 0 && stuck.compare_exchange_strong(nobody, worker)) {
        stuck.notify_all();
        for (int now = done.load(); now < kChunks - 1; now = done.load()) done.wait(now);
        ++done_by_stuck;
        return;
      }
      stuck.wait(-1);  // nobody gets ahead before a worker stands still
      if (worker == stuck) ++done_by_stuck;
      ++done;
      done.notify_all();
    });
    EXPECT_EQ(done, kChunks - 1);
    EXPECT_EQ(done_by_stuck, 1);
  }
}

// Models that share the cores: their loops take turns, and each sees its own work only.
TEST(ThreadPoolTest, LoopsOfSeveralCallersDoNotOverlap) {
  for (const int usable_cores : {64, 1}) {
    auto pool = ThreadPool::Create(3, usable_cores);
    ASSERT_TRUE(pool);
    std::vector<std::atomic<int>> inside(3);  // chunks under way, by caller
    std::atomic<int> overlaps = 0;
    std::vector<std::vector<int64_t>> sums(3, std::vector<int64_t>(40));
    {
      std::vector<std::jthread> callers;
      for (int caller = 0; caller < 3; ++caller) {
        callers.emplace_back([&, caller] {
          for (int round = 0; round < 200; ++round) {
            (*pool)->ParallelFor(40, 2, [&](int, int64_t begin, int64_t end) {
              ++inside[caller];
              for (int other = 0; other < 3; ++other) {
                if (other != caller && inside[other] != 0) ++overlaps;
              }
              for (int64_t i = begin; i < end; ++i) ++sums[caller][i];
              --inside[caller];
            });
          }
        });
      }
    }
    EXPECT_EQ(overlaps, 0);
    for (const auto& sum : sums) {
      for (const int64_t value : sum) ASSERT_EQ(value, 200);
    }
  }
}

TEST(ThreadPoolTest, WorkersThatCannotBePinnedWorkAllTheSame) {
  const std::vector<int> cpus = {0, 1023, -1};
  auto pool = ThreadPool::Create(3, 64, cpus);
  ASSERT_TRUE(pool);
  std::atomic<int> done = 0;
  (*pool)->ParallelFor(100, 1, [&](int, int64_t, int64_t) { ++done; });
  EXPECT_EQ(done, 100);
}

TEST(ThreadPoolTest, NothingToDoCallsNobody) {
  auto pool = ThreadPool::Create(2, 2);
  ASSERT_TRUE(pool);
  (*pool)->ParallelFor(0, 1, [](int, int64_t, int64_t) { FAIL(); });
}

TEST(ThreadPoolTest, ZeroThreadsMeansOnePerUsableCore) {
  EXPECT_EQ((*ThreadPool::Create(0, 3))->n_threads(), 3);
  EXPECT_GE((*ThreadPool::Create(0))->n_threads(), 1);
}

TEST(ThreadPoolTest, NegativeAndAbsurdCountsAreRefused) {
  for (const int n_threads : {-1, 1025, 1 << 30}) {
    const auto pool = ThreadPool::Create(n_threads, 4);
    ASSERT_FALSE(pool);
    EXPECT_EQ(pool.error().code, ErrorCode::kInvalidArgument);
  }
}

TEST(ThreadPoolTest, PoolThatNeverWorkedEndsCleanly) {
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(ThreadPool::Create(4, i % 2 == 0 ? 1 : 64));
}

}  // namespace
}  // namespace tandem::ops
