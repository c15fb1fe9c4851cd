#include "gateway/router/latency_curve.h"

#include <gtest/gtest.h>

namespace tandem::gateway {
namespace {

TEST(LatencyCurveTest, FewAnswersSayNothing) {
  LatencyCurve curve;
  EXPECT_FALSE(curve.network_ms());
  curve.AddFirstToken(100, 50);
  curve.AddFirstToken(200, 60);
  EXPECT_FALSE(curve.network_ms());
  EXPECT_FALSE(curve.prefill_tokens_per_second());
  EXPECT_FALSE(curve.decode_tokens_per_second());
}

TEST(LatencyCurveTest, RecoversNetworkAndPrefillOfAStraightLine) {
  LatencyCurve curve;
  for (int i = 0; i < 50; ++i) {
    const int tokens = 16 + 97 * (i % 11);
    curve.AddFirstToken(tokens, 40 + tokens / 0.25);  // 40 ms, 250 tokens a second
    curve.AddDecode(20, 500);
  }
  EXPECT_NEAR(*curve.network_ms(), 40, 1e-6);
  EXPECT_NEAR(*curve.prefill_tokens_per_second(), 250, 1e-6);
  EXPECT_NEAR(*curve.decode_tokens_per_second(), 40, 1e-9);
}

TEST(LatencyCurveTest, PromptsOfOneLengthGiveAMeanWithoutASlope) {
  LatencyCurve curve;
  for (const double ms : {100.0, 110.0, 90.0, 100.0}) curve.AddFirstToken(64, ms);
  EXPECT_NEAR(*curve.network_ms(), 100, 0.5);
  EXPECT_FALSE(curve.prefill_tokens_per_second());
}

TEST(LatencyCurveTest, ForgetsHowItWasBefore) {
  LatencyCurve curve;
  for (int i = 0; i < 300; ++i) curve.AddFirstToken(64, 1000);
  for (int i = 0; i < 300; ++i) curve.AddFirstToken(64, 100);
  EXPECT_NEAR(*curve.network_ms(), 100, 5);
}

TEST(LatencyCurveTest, NeverPredictsLessThanNothing) {
  LatencyCurve curve;  // noise that would put the intercept below zero
  curve.AddFirstToken(10, 0);
  curve.AddFirstToken(20, 0);
  curve.AddFirstToken(1000, 900);
  EXPECT_GE(*curve.network_ms(), 0);
  EXPECT_GT(*curve.prefill_tokens_per_second(), 0);
}

TEST(LatencyCurveTest, IgnoresWhatCannotBe) {
  LatencyCurve curve;
  for (int i = 0; i < 10; ++i) {
    curve.AddFirstToken(-1, 5);
    curve.AddFirstToken(5, -1);
    curve.AddDecode(0, 5);
    curve.AddDecode(5, 0);
  }
  EXPECT_FALSE(curve.network_ms());
  EXPECT_FALSE(curve.decode_tokens_per_second());
}

}  // namespace
}  // namespace tandem::gateway
