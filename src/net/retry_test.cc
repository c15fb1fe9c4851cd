#include "net/retry.h"

#include <gtest/gtest.h>

namespace tandem::net {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

const RetryPolicy kPolicy{.first_delay = milliseconds(500), .max_delay = milliseconds(30'000)};

TEST(RetryTest, TheCeilingDoublesUpToTheCapAndJitterTakesAShareOfIt) {
  EXPECT_EQ(RetryDelay(kPolicy, 1, {}, 0.5), milliseconds(250));
  EXPECT_EQ(RetryDelay(kPolicy, 2, {}, 0.5), milliseconds(500));
  EXPECT_EQ(RetryDelay(kPolicy, 4, {}, 0.25), milliseconds(1000));
  EXPECT_EQ(RetryDelay(kPolicy, 20, {}, 0.5), milliseconds(15'000));
  EXPECT_EQ(RetryDelay(kPolicy, 3, {}, 0.0), milliseconds(0));
}

TEST(RetryTest, ManyFailuresDoNotOverflow) {
  EXPECT_EQ(RetryDelay(kPolicy, 2'000'000'000, {}, 0.5), milliseconds(15'000));
}

TEST(RetryTest, RetryAfterIsALowerBound) {
  EXPECT_EQ(RetryDelay(kPolicy, 1, seconds(7), 0.5), seconds(7));
  EXPECT_EQ(RetryDelay(kPolicy, 20, seconds(7), 0.5), seconds(15));
}

TEST(RetryTest, RetryAfterIsReadAsSecondsAndAsADate) {
  const SystemTime now = std::chrono::system_clock::from_time_t(784111777);  // the date below
  EXPECT_EQ(ParseRetryAfter("120", now), seconds(120));
  EXPECT_EQ(ParseRetryAfter("0", now), seconds(0));
  EXPECT_EQ(ParseRetryAfter("Sun, 06 Nov 1994 08:49:37 GMT", now), seconds(0));
  EXPECT_EQ(ParseRetryAfter("Sun, 06 Nov 1994 08:50:37 GMT", now), seconds(60));
  EXPECT_EQ(ParseRetryAfter("Sun, 06 Nov 1994 08:00:00 GMT", now), seconds(0));
}

TEST(RetryTest, AMalformedRetryAfterIsNothingAndAHugeOneIsBounded) {
  const SystemTime now{};
  EXPECT_EQ(ParseRetryAfter("-5", now), std::nullopt);
  EXPECT_EQ(ParseRetryAfter("soon", now), std::nullopt);
  EXPECT_EQ(ParseRetryAfter("", now), std::nullopt);
  EXPECT_EQ(ParseRetryAfter("999999999999999999", now), std::chrono::hours(7 * 24));
}

TEST(RetryTest, OnlyStatusesThatPassAreRetried) {
  for (const int status : {408, 425, 429, 500, 502, 503, 504}) {
    EXPECT_TRUE(IsRetryableStatus(status)) << status;
  }
  for (const int status : {200, 301, 400, 401, 403, 404, 416, 501}) {
    EXPECT_FALSE(IsRetryableStatus(status)) << status;
  }
}

TEST(RetryTest, ARequestedStopEndsTheRealSleepAtOnce) {
  std::stop_source source;
  source.request_stop();
  RealSleeper().SleepFor(std::chrono::hours(1), source.get_token());
}

}  // namespace
}  // namespace tandem::net
