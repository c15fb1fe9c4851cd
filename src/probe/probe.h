// Charter of probe/: what this machine can do at best, measured: how fast memory is read, how far
// apart two cores are, how many int8 products a core makes. The yardsticks of the kernels' and the
// engine's figures, and the proof that the machine was the same before and after. It may include
// base and os. Deliberately absent: models, kernels of ours.
#pragma once

#include <cstdint>
#include <span>
#include <utility>

#include "base/error.h"
#include "os/memory.h"

namespace tandem::probe {

// Seconds of this thread's CPU time: other processes on a busy machine disturb them little.
double CpuSeconds();

// Zeroes to read from, in huge pages where the system gives them: several times the last cache.
class ReadBuffer {
 public:
  static constexpr size_t kDefaultBytes = size_t{256} << 20;

  // Errors: kResourceExhausted where the memory cannot be had.
  static Result<ReadBuffer> Create(size_t n_bytes = kDefaultBytes);
  std::span<const uint64_t> words() const {
    return {reinterpret_cast<const uint64_t*>(memory_.data()),
            memory_.n_bytes() / sizeof(uint64_t)};
  }

 private:
  explicit ReadBuffer(os::AnonymousMemory memory) : memory_(std::move(memory)) {}
  os::AnonymousMemory memory_;
};

// Bytes a second of its CPU time that one core reads from memory: the best of `passes` over the
// buffer, as one sequential stream and as two and four side by side: a core's prefetchers follow
// several faster than one.
double CoreReadBandwidth(std::span<const uint64_t> buffer, int passes);

// Bytes a second that n_threads together read, by the clock on the wall: the median of `passes`.
// Threads take chunks of 1 MiB in turn, so that a slow core delays the end by one chunk at most.
// n_threads is at least 1; a thread that the system refuses is done without.
double ReadBandwidth(std::span<const uint64_t> buffer, int n_threads, int passes);

// Nanoseconds for a cache line to go from one core to another: half a round trip between the first
// two cores that this process may use, the best of several tries. 0 where there is only one.
double CoreToCoreNanoseconds();

// int8 products a second of the shortest instruction sequence that multiplies and adds up, as this
// CPU's kernels do it, with all operands in registers and nothing else going on, of one core; 0
// where no probe is written. The best of several tries.
double Int8Peak();
// What Int8Peak() repeats, such as "vpmaddubsw + vpaddw ymm".
const char* Int8PeakInstructions();

}  // namespace tandem::probe
