#include "engine/sampling/logprobs.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace tandem::sampling {
namespace {

TEST(LogprobsTest, LogitsThatAreLogProbabilitiesComeBackUnchanged) {
  const std::vector<float> probabilities = {0.5F, 0.25F, 0.15F, 0.1F};
  std::vector<float> logits;
  for (float p : probabilities) logits.push_back(std::log(p) + 3.0F);  // a shift changes nothing
  const TokenMask mask(4, {});
  const auto result = ComputeLogprobs(logits, mask, 2, 3);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->chosen.id, 2);
  EXPECT_NEAR(result->chosen.logprob, std::log(0.15), 1e-6);
  ASSERT_EQ(result->top.size(), 3U);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(result->top[i].id, i);
    EXPECT_NEAR(result->top[i].logprob, std::log(probabilities[i]), 1e-6);
  }
}

TEST(LogprobsTest, IdsOutsideTheMaskTakeNoProbability) {
  const std::vector<float> logits = {1.0F, 50.0F, 1.0F, 90.0F, 90.0F};
  const std::vector<int32_t> unused = {1};
  const TokenMask mask(3, unused);
  const auto result = ComputeLogprobs(logits, mask, 0, 5);
  ASSERT_TRUE(result);
  EXPECT_NEAR(result->chosen.logprob, std::log(0.5), 1e-6);
  ASSERT_EQ(result->top.size(), 2U);  // as many as there are
  EXPECT_EQ(result->top[0].id, 0);
  EXPECT_EQ(result->top[1].id, 2);
}

TEST(LogprobsTest, HugeLogitsDoNotOverflow) {
  const std::vector<float> logits = {3e38F, -3e38F, 3e38F};
  const auto result = ComputeLogprobs(logits, TokenMask(3, {}), 0, 1);
  ASSERT_TRUE(result);
  EXPECT_NEAR(result->chosen.logprob, std::log(0.5), 1e-6);
}

TEST(LogprobsTest, ACertainTokenHasLogprobZeroNotMore) {
  const auto result = ComputeLogprobs(std::vector<float>{40.0F, -40.0F}, TokenMask(2, {}), 0, 0);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->chosen.logprob, 0.0F);
  EXPECT_TRUE(result->top.empty());
}

TEST(LogprobsTest, LogitThatIsNotFiniteIsAnError) {
  for (float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    const auto result =
        ComputeLogprobs(std::vector<float>{0.0F, bad, 0.0F}, TokenMask(3, {}), 0, 1);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, ErrorCode::kInternal);
    EXPECT_NE(result.error().message.find("token 1"), std::string::npos);
  }
}

}  // namespace
}  // namespace tandem::sampling
