#include "fleet/device/bandwidth.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

namespace tandem::fleet {
namespace {

constexpr size_t kLanes = 8;

// One pass: eight sums that do not wait for each other, which the compiler turns into wide loads.
uint64_t Sum(const uint64_t* words, size_t n) {
  uint64_t lanes[kLanes] = {};
  for (size_t i = 0; i + kLanes <= n; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += words[i + lane];
  }
  uint64_t sum = 0;
  for (const uint64_t lane : lanes) sum += lane;
  return sum;
}

}  // namespace

Result<double> MeasureReadBandwidth(const BandwidthOptions& options, const Clock& clock) {
  const size_t n_words =
      options.n_threads > 0 ? options.bytes / static_cast<size_t>(options.n_threads) / 8 : 0;
  if (n_words < kLanes || options.passes < 1) {
    return Err(ErrorCode::kInvalidArgument, "nothing to measure");
  }
  const size_t total = n_words * static_cast<size_t>(options.n_threads);
  const std::unique_ptr<uint64_t[]> words(new (std::nothrow) uint64_t[total]);
  if (words == nullptr) {
    return Err(ErrorCode::kResourceExhausted, "no {} MiB to measure with", options.bytes >> 20);
  }
  std::memset(words.get(), 1, total * sizeof(uint64_t));  // real pages

  std::atomic<uint64_t> sums = 0;  // used, so that nothing is optimised away
  double best_s = 0;
  for (int pass = 0; pass < options.passes; ++pass) {
    const auto begin = clock.Now();
    std::vector<std::jthread> threads;
    try {
      for (int t = 1; t < options.n_threads; ++t) {
        threads.emplace_back([&sums, begin_of = words.get() + n_words * static_cast<size_t>(t),
                              n_words] { sums += Sum(begin_of, n_words); });
      }
    } catch (const std::system_error& error) {
      return Err(ErrorCode::kResourceExhausted, "no thread to measure with: {}", error.what());
    }
    sums += Sum(words.get(), n_words);
    threads.clear();
    const double seconds = std::chrono::duration<double>(clock.Now() - begin).count();
    if (pass == 0 || seconds < best_s) best_s = seconds;
  }
  if (!(best_s > 0) || sums == 0) {
    return Err(ErrorCode::kUnavailable, "the clock did not move while memory was read");
  }
  return static_cast<double>(total * sizeof(uint64_t)) / best_s;
}

}  // namespace tandem::fleet
