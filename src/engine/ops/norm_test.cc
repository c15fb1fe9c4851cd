#include "engine/ops/norm.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

namespace tandem::ops {
namespace {

TEST(RmsNormTest, DividesByTheRootMeanSquareAndScales) {
  const float x[] = {1.0F, -2.0F, 3.0F, -4.0F, 5.0F};
  const float weight[] = {1.0F, 1.0F, 2.0F, 0.5F, -1.0F};
  float out[5];
  RmsNorm(**kernels::Active(), x, weight, 1e-5, 5, out);
  const double scale = 1 / std::sqrt(55.0 / 5 + 1e-5);
  for (int i = 0; i < 5; ++i) EXPECT_NEAR(out[i], x[i] * scale * weight[i], 4 * 0x1p-24 * 3);
}

TEST(RmsNormTest, EpsilonCountsWhereTheInputIsSmall) {
  const float x[] = {1e-3F, 1e-3F};
  const float weight[] = {1.0F, 1.0F};
  float out[2];
  RmsNorm(**kernels::Active(), x, weight, 1e-5, 2, out);
  EXPECT_NEAR(out[0], 1e-3 / std::sqrt(1e-6 + 1e-5), 1e-6);
}

TEST(RmsNormTest, WorksInPlace) {
  std::vector<float> x(100);
  std::vector<float> weight(100);
  for (int i = 0; i < 100; ++i) {
    x[i] = static_cast<float>(i) - 40.5F;
    weight[i] = 0.01F * static_cast<float>(i);
  }
  std::vector<float> apart(100);
  RmsNorm(**kernels::Active(), x.data(), weight.data(), 1e-5, 100, apart.data());
  RmsNorm(**kernels::Active(), x.data(), weight.data(), 1e-5, 100, x.data());
  EXPECT_EQ(x, apart);
}

TEST(AddTest, AddsElementByElement) {
  float x[] = {1.0F, 2.0F, 3.0F};
  const float delta[] = {0.5F, -2.0F, 10.0F};
  Add(x, delta, 2);
  EXPECT_EQ(x[0], 1.5F);
  EXPECT_EQ(x[1], 0.0F);
  EXPECT_EQ(x[2], 3.0F);
}

}  // namespace
}  // namespace tandem::ops
