#include "metrics/histogram.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace tandem::metrics {
namespace {

TEST(HistogramTest, QuantilesAreWithinHalfASubBucketOfTheSortedSamples) {
  std::mt19937_64 random(1);
  std::lognormal_distribution<double> latency_ms(4.0, 1.5);
  std::vector<double> samples(20'000);
  Histogram histogram;
  for (double& sample : samples) {
    sample = latency_ms(random);
    histogram.Add(sample);
  }
  std::sort(samples.begin(), samples.end());
  for (const double q : {0.01, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0}) {
    const auto rank = static_cast<size_t>(std::ceil(q * static_cast<double>(samples.size())));
    const double exact = samples[rank - 1];
    EXPECT_NEAR(histogram.Quantile(q), exact, exact / 128) << "q = " << q;
  }
}

TEST(HistogramTest, MergeEqualsAddingEverythingToOne) {
  Histogram all;
  Histogram left;
  Histogram right;
  for (int i = 1; i < 5000; ++i) {
    all.Add(i * 0.37);
    (i % 3 == 0 ? left : right).Add(i * 0.37);
  }
  left.Merge(right);
  left.Merge(Histogram());
  EXPECT_EQ(left.count(), all.count());
  EXPECT_DOUBLE_EQ(left.sum(), all.sum());
  for (double q = 0; q <= 1; q += 0.01) EXPECT_EQ(left.Quantile(q), all.Quantile(q));
}

TEST(HistogramTest, CountAboveSplitsTheSamples) {
  Histogram histogram;
  for (int i = 1; i <= 100; ++i) histogram.Add(i);
  EXPECT_EQ(histogram.CountAbove(50.5), 50u);
  EXPECT_EQ(histogram.CountAbove(0.0), 100u);
  EXPECT_EQ(histogram.CountAbove(1e12), 0u);
}

TEST(HistogramTest, ValuesOutsideTheRangeAreCountedAtItsEnds) {
  Histogram histogram;
  histogram.Add(0);
  histogram.Add(-5);
  histogram.Add(std::numeric_limits<double>::quiet_NaN());
  histogram.Add(1e300);
  EXPECT_EQ(histogram.count(), 4u);
  EXPECT_LT(histogram.Quantile(0.5), 0.001);
  EXPECT_GT(histogram.Quantile(1.0), 1e9);
}

TEST(HistogramTest, BytesGiveTheSameHistogram) {
  Histogram histogram;
  for (int i = 1; i <= 1000; ++i) histogram.Add(i * 0.37, static_cast<uint64_t>(i));
  histogram.Add(1e12);
  std::string bytes;
  histogram.AppendTo(&bytes);
  Histogram().AppendTo(&bytes);
  bytes += "rest";
  std::string_view rest = bytes;
  Histogram read;
  ASSERT_TRUE(Histogram::ReadFrom(&rest, &read));
  EXPECT_EQ(read.count(), histogram.count());
  EXPECT_EQ(read.sum(), histogram.sum());
  for (int percent = 0; percent <= 100; ++percent) {
    EXPECT_EQ(read.Quantile(percent / 100.0), histogram.Quantile(percent / 100.0));
  }
  ASSERT_TRUE(Histogram::ReadFrom(&rest, &read));
  EXPECT_EQ(read.count(), 0u);
  EXPECT_EQ(rest, "rest");
}

TEST(HistogramTest, BytesThatAreNoneAreRefused) {
  Histogram histogram;
  histogram.Add(5);
  histogram.Add(500, 300);
  std::string bytes;
  histogram.AppendTo(&bytes);
  Histogram read;
  for (size_t n = 0; n < bytes.size(); ++n) {
    std::string_view cut = std::string_view(bytes).substr(0, n);
    EXPECT_FALSE(Histogram::ReadFrom(&cut, &read)) << n;
  }
  for (const std::string& bad :
       {std::string("\x01\xFF\xFF\x7F\x01", 5) + std::string(8, '\0'),
        std::string("\x01\x00\x00", 3) + std::string(8, '\0'), std::string(20, '\xFF')}) {
    std::string_view view = bad;
    EXPECT_FALSE(Histogram::ReadFrom(&view, &read));
  }
}

TEST(HistogramTest, EmptyHasNoQuantile) {
  Histogram histogram;
  EXPECT_EQ(histogram.Quantile(0.5), 0);
  histogram.Add(3);
  histogram.Clear();
  EXPECT_EQ(histogram.count(), 0u);
  EXPECT_EQ(histogram.Quantile(0.5), 0);
}

}  // namespace
}  // namespace tandem::metrics
