#include "engine/sampling/logprobs.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "engine/sampling/top_candidates.h"

namespace tandem::sampling {

std::unexpected<Error> NotFiniteError(int32_t id, float value) {
  return Err(
      ErrorCode::kInternal,
      "the model's output for token {} is {}: the model file is damaged or a kernel is wrong; "
      "check the file, and compare with TANDEM_ISA=scalar",
      id, value);
}

Result<Logprobs> ComputeLogprobs(std::span<const float> logits, const TokenMask& mask,
                                 int32_t chosen, int32_t n_top) {
  TANDEM_CHECK(mask.Allows(chosen));
  TANDEM_CHECK(logits.size() >= static_cast<size_t>(mask.n_tokens()));
  std::vector<float> values(logits.begin(), logits.begin() + mask.n_tokens());
  for (int32_t id : mask.unused()) values[id] = -std::numeric_limits<float>::infinity();

  float max = -std::numeric_limits<float>::infinity();
  for (int32_t id = 0; id < mask.n_tokens(); ++id) {
    if (!std::isfinite(values[id]) && mask.Allows(id)) return NotFiniteError(id, values[id]);
    max = std::max(max, values[id]);
  }
  double sum = 0;
  for (float value : values) sum += std::exp(value - max);
  const double log_sum = std::log(sum);

  const auto logprob = [&](int32_t id) {
    return TokenLogprob{id,
                        static_cast<float>(std::min(0.0, (double{values[id]} - max) - log_sum))};
  };
  Logprobs result{.chosen = logprob(chosen), .top = {}};
  if (n_top > 0) {
    const auto n_allowed = static_cast<int32_t>(mask.n_tokens() - mask.unused().size());
    std::vector<int32_t> ids;
    SelectTop(values, static_cast<size_t>(std::min(n_top, n_allowed)), &ids);
    for (int32_t id : ids) result.top.push_back(logprob(id));
  }
  return result;
}

}  // namespace tandem::sampling
