#include "engine/ops/thread_pool.h"

#include <atomic>
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
