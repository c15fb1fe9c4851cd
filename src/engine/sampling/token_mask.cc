#include "engine/sampling/token_mask.h"

#include <algorithm>

namespace tandem::sampling {

TokenMask::TokenMask(int32_t n_tokens, std::span<const int32_t> unused) : n_tokens_(n_tokens) {
  for (int32_t id : unused) {
    if (id >= 0 && id < n_tokens) unused_.push_back(id);
  }
  std::ranges::sort(unused_);
  unused_.erase(std::ranges::unique(unused_).begin(), unused_.end());
}

bool TokenMask::Allows(int32_t id) const {
  return id >= 0 && id < n_tokens_ && !std::ranges::binary_search(unused_, id);
}

}  // namespace tandem::sampling
