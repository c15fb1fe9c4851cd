#include "metrics/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <optional>
#include <utility>

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

namespace {

void AppendNumber(uint64_t number, std::string* to) {
  for (; number >= 0x80; number >>= 7) *to += static_cast<char>(number | 0x80);
  *to += static_cast<char>(number);
}

std::optional<uint64_t> ReadNumber(std::string_view* from) {
  uint64_t number = 0;
  for (int shift = 0; shift < 64 && !from->empty(); shift += 7) {
    const auto byte = static_cast<unsigned char>(from->front());
    from->remove_prefix(1);
    number |= uint64_t{byte & 0x7Fu} << shift;
    if (byte < 0x80) return number;
  }
  return std::nullopt;
}

}  // namespace

void Histogram::AppendTo(std::string* to) const {
  AppendNumber(static_cast<uint64_t>(
                   std::ranges::count_if(buckets_, [](uint64_t count) { return count > 0; })),
               to);
  size_t next = 0;
  for (size_t i = 0; i < buckets_.size(); ++i) {
    if (buckets_[i] == 0) continue;
    AppendNumber(i - next, to);
    AppendNumber(buckets_[i], to);
    next = i + 1;
  }
  char sum[sizeof(sum_)];
  std::memcpy(sum, &sum_, sizeof(sum));
  to->append(sum, sizeof(sum));
}

bool Histogram::ReadFrom(std::string_view* from, Histogram* to) {
  Histogram read;
  const auto n_buckets = ReadNumber(from);
  if (!n_buckets || *n_buckets > kBuckets) return false;
  if (*n_buckets > 0) read.buckets_.resize(kBuckets);
  uint64_t next = 0;
  for (uint64_t i = 0; i < *n_buckets; ++i) {
    const auto gap = ReadNumber(from);
    const auto count = ReadNumber(from);
    if (!gap || !count || *gap >= kBuckets - next || *count == 0) return false;
    read.buckets_[next + *gap] = *count;
    next += *gap + 1;
    if (__builtin_add_overflow(read.count_, *count, &read.count_)) return false;
  }
  if (from->size() < sizeof(read.sum_)) return false;
  std::memcpy(&read.sum_, from->data(), sizeof(read.sum_));
  if (!std::isfinite(read.sum_)) return false;
  from->remove_prefix(sizeof(read.sum_));
  *to = std::move(read);
  return true;
}

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
