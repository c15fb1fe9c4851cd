// The gaps between the pieces of one answer, in fixed space: metrics::Histogram would take 40 KiB
// for each running stream.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace tandem::gateway::usage {

// Log-linear: 8 equal sub-buckets in each octave from 1/16 ms to 2^17 ms (131 s), so that a
// quantile is off by at most 1/16 of its value; smaller and larger gaps count in the first and last
// bucket. The largest gap is kept exactly. Thread: one at a time. Cost: Add is a few nanoseconds.
class InterTokenTimes {
 public:
  static constexpr int kSubBucketBits = 3;
  static constexpr int kMinExponent = -4;
  static constexpr int kMaxExponent = 17;
  static constexpr int kBuckets = (kMaxExponent - kMinExponent) << kSubBucketBits;

  void Add(double gap_ms);

  uint32_t count() const { return count_; }
  double max_ms() const { return max_ms_; }
  // The gap that a share q (0..1) of all gaps does not exceed (nearest rank); 0 where there is
  // none.
  double Quantile(double q) const;

  // Gaps in one bucket, and the value that stands for them.
  uint32_t bucket(int index) const { return buckets_[static_cast<size_t>(index)]; }
  static double MiddleOf(int index);

 private:
  std::array<uint32_t, kBuckets> buckets_{};
  uint32_t count_ = 0;
  double max_ms_ = 0;
};

}  // namespace tandem::gateway::usage
