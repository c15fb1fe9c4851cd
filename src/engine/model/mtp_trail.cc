#include "engine/model/mtp_trail.h"

#include <algorithm>

namespace tandem::model {

const float* MtpTrail::hidden(int position) const {
  if (!Remembers(position)) return nullptr;
  return hidden_.data() + static_cast<size_t>(position % kTokens) * d_model_;
}

std::optional<int32_t> MtpTrail::token(int position) const {
  if (!Remembers(position)) return std::nullopt;
  return tokens_[static_cast<size_t>(position % kTokens)];
}

void MtpTrail::Append(int position, std::span<const int32_t> token_ids, const float* hidden) {
  if (position != end_) begin_ = end_ = position;
  const auto n = static_cast<int>(token_ids.size());
  for (int i = std::max(0, n - kTokens); i < n; ++i) {
    const auto at = static_cast<size_t>((position + i) % kTokens);
    tokens_[at] = token_ids[static_cast<size_t>(i)];
    std::copy_n(hidden + int64_t{i} * d_model_, d_model_, hidden_.data() + at * d_model_);
  }
  end_ = position + n;
  begin_ = std::max(begin_, end_ - kTokens);
}

void MtpTrail::Truncate(int n_tokens) {
  end_ = std::min(end_, n_tokens);
  begin_ = std::min(begin_, end_);
  n_done_ = std::min(n_done_, n_tokens);
}

void MtpTrail::Reset(int n_tokens) { n_done_ = begin_ = end_ = n_tokens; }

}  // namespace tandem::model
