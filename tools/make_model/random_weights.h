// Normal random weights, made directly in a tensor's block format: to draw floats and search scales
// for four billion of them would take the better part of an hour.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/quant/types.h"

namespace tandem::make_model {

// SplitMix64: 64 random bits a step from any seed, the same on every machine.
// Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
class SplitMix64 {
 public:
  explicit SplitMix64(uint64_t seed) : state_(seed) {}
  uint64_t Next() {
    uint64_t z = state_ += 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }

 private:
  uint64_t state_;
};

// The standard normal quantile at 65536 evenly spaced probabilities: 16 random bits index a normal
// number (of at most 4.3 deviations). Sorted, symmetric. Cost: 50 ms, once.
const std::vector<float>& NormalTable();

// Makes whole blocks of one type whose decoded elements are normal with mean 0 and the given
// deviation, clipped where the type's levels end (2.4 deviations for types of 4 bits). Scales vary
// from block to block by a quarter around the mean, as those of real files do.
class BlockMaker {
 public:
  // `deviation` must be such that scales fit IEEE half: 1e-4 to 100 are safe.
  BlockMaker(quant::Type type, float deviation, uint64_t seed);

  // Fills `out`, whose size must be a multiple of the type's block_bytes.
  // Cost: about a billion elements a second.
  void Fill(std::span<std::byte> out);

 private:
  template <typename Block>
  void FillBlocks(std::span<std::byte> out);
  template <typename Word>
  void FillWords(std::span<std::byte> out);

  quant::Type type_;
  SplitMix64 random_;
  std::vector<uint8_t> levels_;   // [65536] the level as stored, by 16 random bits
  std::vector<uint32_t> words_;   // [65536] the element as stored, for F32, F16 and BF16
  std::vector<uint16_t> scales_;  // [16] halves around the mean scale
  uint16_t d_ = 0;                // of the K types, whose sub-block scales vary instead
  uint16_t dmin_ = 0;
};

}  // namespace tandem::make_model
