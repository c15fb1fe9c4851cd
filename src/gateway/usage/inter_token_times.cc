#include "gateway/usage/inter_token_times.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace tandem::gateway::usage {
namespace {

int BucketOf(double gap_ms) {
  constexpr double kMin = 1.0 / (1 << -InterTokenTimes::kMinExponent);
  constexpr double kMax = 1 << InterTokenTimes::kMaxExponent;
  if (!(gap_ms >= kMin)) return 0;  // also NaN
  if (gap_ms >= kMax) return InterTokenTimes::kBuckets - 1;
  // An IEEE double's exponent and the top of its mantissa, side by side, number the buckets.
  const auto top =
      static_cast<int>(std::bit_cast<uint64_t>(gap_ms) >> (52 - InterTokenTimes::kSubBucketBits));
  return top - ((1023 + InterTokenTimes::kMinExponent) << InterTokenTimes::kSubBucketBits);
}

}  // namespace

double InterTokenTimes::MiddleOf(int index) {
  const int exponent = (index >> kSubBucketBits) + kMinExponent;
  const int sub = index & ((1 << kSubBucketBits) - 1);
  return std::ldexp(1.0 + (sub + 0.5) / (1 << kSubBucketBits), exponent);
}

void InterTokenTimes::Add(double gap_ms) {
  ++buckets_[static_cast<size_t>(BucketOf(gap_ms))];
  ++count_;
  if (gap_ms > max_ms_) max_ms_ = gap_ms;
}

double InterTokenTimes::Quantile(double q) const {
  if (count_ == 0) return 0;
  const auto rank = static_cast<uint32_t>(std::ceil(std::clamp(q, 0.0, 1.0) * count_));
  const uint32_t wanted = std::max<uint32_t>(1, rank);
  uint32_t seen = 0;
  for (int i = 0; i < kBuckets; ++i) {
    seen += bucket(i);
    // The middle of a bucket may lie above the largest gap that is in it.
    if (seen >= wanted) return std::min(MiddleOf(i), max_ms_);
  }
  return max_ms_;
}

}  // namespace tandem::gateway::usage
