// The k largest of many logits without sorting them all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tandem::sampling {

// Puts the ids of the k largest values into *ids, largest first; among equal values the lower id is
// larger. All of them where k >= values.size(). No value may be NaN.
//   values [n]
// Cost: one pass over values plus about k log k; *ids never holds more than 2 k entries.
void SelectTop(std::span<const float> values, size_t k, std::vector<int32_t>* ids);

}  // namespace tandem::sampling
