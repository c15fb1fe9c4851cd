#include "engine/sampling/top_candidates.h"

#include <algorithm>
#include <limits>

namespace tandem::sampling {

void SelectTop(std::span<const float> values, size_t k, std::vector<int32_t>* ids) {
  ids->clear();
  k = std::min(k, values.size());
  if (k == 0) return;
  const auto larger = [values](int32_t a, int32_t b) {
    return values[a] > values[b] || (values[a] == values[b] && a < b);
  };
  // A buffer of up to 2 k ids that is cut back to the best k when full. After a cut, an id further
  // on must beat the worst one kept: ids ascend, so an equal value loses.
  const size_t limit = std::min(2 * k, values.size());
  ids->reserve(limit);
  bool cut = false;
  float worst_kept = -std::numeric_limits<float>::infinity();
  for (size_t i = 0; i < values.size(); ++i) {
    if (cut && values[i] <= worst_kept) continue;
    ids->push_back(static_cast<int32_t>(i));
    if (ids->size() == limit && limit > k) {
      std::nth_element(ids->begin(), ids->begin() + static_cast<ptrdiff_t>(k - 1), ids->end(),
                       larger);
      ids->resize(k);
      worst_kept = values[ids->back()];
      cut = true;
    }
  }
  std::ranges::sort(*ids, larger);
  if (ids->size() > k) ids->resize(k);
}

}  // namespace tandem::sampling
