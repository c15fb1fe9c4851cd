#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <ctime>
#include <limits>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "probe/probe.h"

namespace tandem::probe {
namespace {

constexpr size_t kSegment = 4096;  // words that a stream reads before all move on
constexpr size_t kChunkWords = (size_t{1} << 20) / sizeof(uint64_t);

// Reads `words`, whole runs of `streams` segments of them, that many streams side by side.
void Read(std::span<const uint64_t> words, size_t streams) {
  uint64_t lanes[8] = {};
  for (size_t base = 0; base + streams * kSegment <= words.size(); base += streams * kSegment) {
    for (size_t i = 0; i < kSegment; i += 64) {
      for (size_t stream = 0; stream < streams; ++stream) {
        const uint64_t* run = words.data() + base + stream * kSegment + i;
        for (size_t word = 0; word < 64; word += 8) {
          for (int l = 0; l < 8; ++l) lanes[l] ^= run[word + l];
        }
      }
    }
  }
  asm volatile("" : : "r"(lanes) : "memory");
}

int64_t WallNanoseconds() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// One pass of all threads: seconds from the first one's start to the last one's end, taken by the
// threads themselves, because one that waits for them may wake late.
double ParallelPass(std::span<const uint64_t> buffer, int n_threads) {
  const size_t n_chunks = buffer.size() / kChunkWords;
  std::atomic<int> arrived{0};
  std::atomic<int> expected{n_threads};
  std::atomic<size_t> next{0};
  std::atomic<int64_t> first{std::numeric_limits<int64_t>::max()};
  std::atomic<int64_t> last{0};
  const auto work = [&] {
    ++arrived;
    while (arrived < expected) std::this_thread::yield();
    const int64_t begin = WallNanoseconds();
    for (size_t chunk; (chunk = next++) < n_chunks;) {
      Read(buffer.subspan(chunk * kChunkWords, kChunkWords), 4);
    }
    const int64_t end = WallNanoseconds();
    for (int64_t seen = first; begin < seen && !first.compare_exchange_weak(seen, begin);) {
    }
    for (int64_t seen = last; end > seen && !last.compare_exchange_weak(seen, end);) {
    }
  };
  std::vector<std::jthread> threads;
  for (int i = 1; i < n_threads; ++i) {
    try {
      threads.emplace_back(work);
    } catch (const std::system_error&) {
      --expected;
    }
  }
  work();
  threads.clear();
  return static_cast<double>(last - first) * 1e-9;
}

}  // namespace

double CpuSeconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

Result<ReadBuffer> ReadBuffer::Create(size_t n_bytes) {
  constexpr size_t kHugePage = size_t{2} << 20;
  n_bytes = std::max(n_bytes, kHugePage) / kHugePage * kHugePage;
  TANDEM_ASSIGN_OR_RETURN(os::AnonymousMemory memory, os::AnonymousMemory::Create(n_bytes));
  ::madvise(memory.data(), n_bytes, MADV_HUGEPAGE);
  // Untouched pages would all be the kernel's one page of zeroes.
  for (size_t i = 0; i < n_bytes; i += 4096) memory.data()[i] = std::byte{1};
  return ReadBuffer(std::move(memory));
}

double CoreReadBandwidth(std::span<const uint64_t> buffer, int passes) {
  double best = 0;
  for (const size_t streams : {1, 2, 4}) {
    const size_t n_words = buffer.size() / (streams * kSegment) * (streams * kSegment);
    for (int pass = 0; pass < passes; ++pass) {
      const double begin = CpuSeconds();
      Read(buffer, streams);
      const double seconds = CpuSeconds() - begin;
      best = std::max(best, static_cast<double>(n_words * sizeof(uint64_t)) / seconds);
    }
  }
  return best;
}

double ReadBandwidth(std::span<const uint64_t> buffer, int n_threads, int passes) {
  const size_t n_words = buffer.size() / kChunkWords * kChunkWords;
  std::vector<double> rates;
  for (int pass = 0; pass < passes; ++pass) {
    const double seconds = ParallelPass(buffer, std::max(1, n_threads));
    rates.push_back(static_cast<double>(n_words * sizeof(uint64_t)) / seconds);
  }
  if (rates.empty()) return 0;
  const auto middle = rates.begin() + static_cast<ptrdiff_t>(rates.size() / 2);
  std::ranges::nth_element(rates, middle);
  return *middle;
}

}  // namespace tandem::probe
