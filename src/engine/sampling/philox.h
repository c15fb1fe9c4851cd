// Random numbers as a function: the n-th draw of a seed needs no state that could get lost.
#pragma once

#include <array>
#include <cstdint>

namespace tandem::sampling {

// Philox4x32-10: 128 random bits from a counter and a key.
// Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// The index-th draw of a seed, uniform in [0, 1) with 53 bits: the first two words of
// Philox4x32({index low, index high, 0, 0}, {seed low, seed high}), the second one high, their
// upper 53 bits. The same on every machine, which the standard library's distributions are not.
double UniformDraw(uint64_t seed, uint64_t index);

}  // namespace tandem::sampling
