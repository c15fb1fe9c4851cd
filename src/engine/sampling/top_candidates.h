// The k largest of many logits without sorting them all.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

namespace tandem::sampling {

// Puts the ids of the k largest values into *ids, largest first; among equal values the lower id is
// larger. All of them where k >= values.size(). No value may be NaN.
//   values [n]
// Cost: one pass over values plus about k log k; *ids never holds more than 2 k entries.
void SelectTop(std::span<const float> values, size_t k, std::vector<int32_t>* ids);

// Puts the ids of the fewest largest values whose weights sum to at least `mass` into *ids, in no
// order; all of them where the sum stays below. Larger is as in SelectTop().
//   values [n], n > 0
//   weight(id) >= 0, the larger the value the larger
// Cost: bisection, O(n) on average, about 2 n calls of `weight`.
template <typename Weight>
void SelectMass(std::span<const float> values, double mass, Weight&& weight,
                std::vector<int32_t>* ids) {
  ids->resize(values.size());
  std::iota(ids->begin(), ids->end(), 0);
  // The answer is the first `enough` of *ids once `too_few`, whose weights sum to `sum`, is one
  // less.
  auto too_few = ids->begin();
  auto enough = ids->end();
  double sum = 0;
  while (enough - too_few > 1) {
    const auto middle = too_few + (enough - too_few) / 2;
    std::nth_element(too_few, middle, enough, [values](int32_t a, int32_t b) {
      return values[a] > values[b] || (values[a] == values[b] && a < b);
    });
    const double more = std::accumulate(too_few, middle, 0.0, [&](double total, int32_t id) {
      return total + static_cast<double>(weight(id));
    });
    if (sum + more >= mass) {
      enough = middle;
    } else {
      sum += more;
      too_few = middle;
    }
  }
  ids->erase(enough, ids->end());
}

}  // namespace tandem::sampling
