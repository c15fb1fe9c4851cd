// What this core can do at best, measured: the yardsticks of the kernels' figures.
#pragma once

#include <cstdint>
#include <span>

namespace tandem::bench {

// Seconds of this thread's CPU time: other processes on a busy machine disturb them little.
double CpuSeconds();

// Bytes a second that one core reads from memory: the best of `passes` over the buffer, which
// should be far larger than the last cache, as one sequential stream and as two and four side by
// side: a core's prefetchers follow several faster than one.
double ReadBandwidth(std::span<const uint64_t> buffer, int passes);

// int8 products a second of the shortest instruction sequence that multiplies and adds up, as this
// CPU's kernels do it, with all operands in registers and nothing else going on; 0 where no probe
// is written. The best of several tries.
double Int8Peak();
// What Int8Peak() repeats, such as "vpmaddubsw + vpaddw ymm".
const char* Int8PeakInstructions();

}  // namespace tandem::bench
