// What the linear model sees of a prompt: a set of hashed features. The trainer and the running
// gateway share this code, so that they cannot differ.
//
// Text is folded first: lower case, Latin letters without their accents (people leave them out),
// full-width forms to ASCII, every digit to 0. Words give themselves, pairs of neighbours and
// character n-grams; Thai, Lao, Khmer and Burmese, which write no spaces, and Chinese and Japanese
// give character n-grams of their runs. A few features tell lengths and shares.
#pragma once

#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace tandem::gateway {

// An instruction stands at one of the edges of a prompt, what it is about in the middle: of a long
// text only the edges are read, which also bounds the cost.
inline constexpr size_t kHeadBytes = 1536;
inline constexpr size_t kTailBytes = 512;

// A feature of the instruction counts this many times one of the text that it is about.
inline constexpr int kInstructionWeight = 4;

// Distinct hashes, those of the instruction first. 40 KiB: one for each thread, used again, since
// making one costs more than filling it.
class FeatureSet {
 public:
  // As it was made. Cost: a few ns a feature.
  void Clear() {
    for (size_t i = 0; i < size_; ++i) seen_[hashes_[i] >> 16] = false;
    size_ = n_instruction_ = 0;
  }
  // Ignored where the hash is there already or the set is full; and, once in a hundred features,
  // where another one shares its upper bits.
  void Add(uint32_t hash) {
    const uint32_t upper = hash >> 16;
    if (seen_[upper] || size_ == hashes_.size()) return;
    seen_[upper] = true;
    hashes_[size_++] = hash;
  }
  // What is added from here on belongs to the content.
  void EndInstruction() { n_instruction_ = size_; }

  std::span<const uint32_t> instruction() const { return {hashes_.data(), n_instruction_}; }
  std::span<const uint32_t> content() const {
    return {hashes_.data() + n_instruction_, size_ - n_instruction_};
  }

 private:
  std::bitset<(1 << 16)> seen_;
  // Two kilobytes of text give fewer; what could be more is random bytes.
  std::array<uint32_t, 8192> hashes_;
  size_t size_ = 0;
  size_t n_instruction_ = 0;
};

// Fills an empty set. Bytes that are no UTF-8 count as spaces.
// Thread: any. Never allocates. Cost: about 10 ns a byte, of at most 2 KiB.
void ExtractFeatures(std::string_view text, FeatureSet* features);

}  // namespace tandem::gateway
