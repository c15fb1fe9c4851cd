#include "metrics/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace tandem::metrics {

int Histogram::BucketOf(double value) {
  if (!(value >= std::ldexp(1.0, kMinExponent))) return 0;  // also NaN
  if (value >= std::ldexp(1.0, kMaxExponent)) return kBuckets - 1;
  // The exponent and the top bits of the mantissa of an IEEE double, side by side, are the bucket.
  const auto bits = std::bit_cast<uint64_t>(value);
  const auto top = static_cast<int>(bits >> (52 - kSubBucketBits));
  return top - ((1023 + kMinExponent) << kSubBucketBits);
}

double Histogram::MiddleOf(int bucket) {
  const int exponent = (bucket >> kSubBucketBits) + kMinExponent;
  const int sub = bucket & ((1 << kSubBucketBits) - 1);
  return std::ldexp(1.0 + (sub + 0.5) / (1 << kSubBucketBits), exponent);
}

void Histogram::Add(double value, uint64_t count) {
  if (buckets_.empty()) buckets_.resize(kBuckets);
  buckets_[static_cast<size_t>(BucketOf(value))] += count;
  count_ += count;
  if (std::isfinite(value)) sum_ += value * static_cast<double>(count);
}

void Histogram::Merge(const Histogram& other) {
  if (other.buckets_.empty()) return;
  if (buckets_.empty()) buckets_.resize(kBuckets);
  for (size_t i = 0; i < buckets_.size(); ++i) buckets_[i] += other.buckets_[i];
  count_ += other.count_;
  sum_ += other.sum_;
}

void Histogram::Clear() { *this = Histogram(); }

double Histogram::Quantile(double q) const {
  if (count_ == 0) return 0;
  // The smallest value with at least q of the samples at or below it ("nearest rank").
  const double rank = std::ceil(std::clamp(q, 0.0, 1.0) * static_cast<double>(count_));
  const auto wanted = std::max<uint64_t>(1, static_cast<uint64_t>(rank));
  uint64_t seen = 0;
  for (int bucket = 0; bucket < kBuckets; ++bucket) {
    seen += buckets_[static_cast<size_t>(bucket)];
    if (seen >= wanted) return MiddleOf(bucket);
  }
  return MiddleOf(kBuckets - 1);
}

uint64_t Histogram::CountAbove(double value) const {
  if (buckets_.empty()) return 0;
  int first = BucketOf(value);
  if (MiddleOf(first) <= value) ++first;
  uint64_t above = 0;
  for (int bucket = first; bucket < kBuckets; ++bucket) {
    above += buckets_[static_cast<size_t>(bucket)];
  }
  return above;
}

}  // namespace tandem::metrics
