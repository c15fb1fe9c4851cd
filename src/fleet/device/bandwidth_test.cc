#include "fleet/device/bandwidth.h"

#include <gtest/gtest.h>

namespace tandem::fleet {
namespace {

// Moves by half a second each time that it is read.
class TickingClock final : public Clock {
 public:
  SteadyTime Now() const override {
    clock_.Advance(std::chrono::milliseconds(500));
    return clock_.Now();
  }
  SystemTime SystemNow() const override { return clock_.SystemNow(); }

 private:
  mutable FakeClock clock_;
};

TEST(BandwidthTest, BytesOverTheFastestPass) {
  for (const int n_threads : {1, 3}) {
    const auto measured = MeasureReadBandwidth(
        {.n_threads = n_threads, .bytes = size_t{3} << 20, .passes = 2}, TickingClock());
    ASSERT_TRUE(measured) << measured.error().message;
    EXPECT_DOUBLE_EQ(*measured, 2.0 * (3 << 20));
  }
}

TEST(BandwidthTest, AClockThatStandsStillIsAnError) {
  const auto measured = MeasureReadBandwidth({.bytes = 1 << 20, .passes = 1}, FakeClock());
  ASSERT_FALSE(measured);
  EXPECT_EQ(measured.error().code, ErrorCode::kUnavailable);
}

TEST(BandwidthTest, NothingToReadIsAnError) {
  EXPECT_FALSE(MeasureReadBandwidth({.bytes = 0}, TickingClock()));
  EXPECT_FALSE(MeasureReadBandwidth({.n_threads = 0}, TickingClock()));
  EXPECT_FALSE(MeasureReadBandwidth({.passes = 0}, TickingClock()));
}

}  // namespace
}  // namespace tandem::fleet
