#include "engine/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::engine {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// 100 bytes a token.
uint64_t KvBytes(int32_t context) { return 100 * static_cast<uint64_t>(context); }

constexpr uint64_t kFixed = 1'000'000 + 20'000 + 3'000;

MemoryPlan Demand(uint64_t limit_bytes, int32_t full_context_tokens = 4096) {
  return {.weights_bytes = 1'000'000,
          .scratch_bytes = 20'000,
          .reserve_bytes = 3'000,
          .limit_bytes = limit_bytes,
          .full_context_tokens = full_context_tokens};
}

TEST(MemoryPlanTest, TheFullContextIsTakenWhereItFitsToTheByte) {
  const MemoryPlan plan = FitContext(Demand(kFixed + KvBytes(4096)), KvBytes);
  EXPECT_EQ(plan.context_tokens, 4096);
  EXPECT_EQ(plan.kv_cache_bytes, KvBytes(4096));
  EXPECT_EQ(plan.total_bytes(), plan.limit_bytes);
  EXPECT_TRUE(plan.fits());
  EXPECT_FALSE(plan.shrunk());
}

TEST(MemoryPlanTest, OneByteLessTakesOneStepLess) {
  const MemoryPlan plan = FitContext(Demand(kFixed + KvBytes(4096) - 1), KvBytes);
  EXPECT_EQ(plan.context_tokens, 4096 - kContextStep);
  EXPECT_EQ(plan.kv_cache_bytes, KvBytes(4096 - kContextStep));
  EXPECT_TRUE(plan.fits());
  EXPECT_TRUE(plan.shrunk());
}

TEST(MemoryPlanTest, EveryStepIsFound) {
  for (int32_t full : {300, 512, 1000, 4096}) {
    for (int32_t step = kContextStep; step < full; step += kContextStep) {
      const MemoryPlan plan = FitContext(Demand(kFixed + KvBytes(step), full), KvBytes);
      EXPECT_EQ(plan.context_tokens, step) << full;
      EXPECT_TRUE(plan.fits());
    }
  }
}

TEST(MemoryPlanTest, TheShortestIsPlannedWhereNothingFits) {
  const MemoryPlan plan = FitContext(Demand(kFixed), KvBytes);
  EXPECT_EQ(plan.context_tokens, kContextStep);
  EXPECT_FALSE(plan.fits());
  EXPECT_EQ(FitContext(Demand(kFixed, 100), KvBytes).context_tokens, 100);
}

TEST(MemoryPlanTest, RefusalNamesTheBytesAndTheContextThatWouldFit) {
  MemoryPlan plan = Demand(kFixed + KvBytes(512));
  plan.context_tokens = 4096;
  plan.kv_cache_bytes = KvBytes(4096);
  const Status refused = CheckPlan(plan, "model.tandem", KvBytes);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(refused.error().param, "memory");
  EXPECT_THAT(refused.error().message, HasSubstr("model.tandem"));
  EXPECT_THAT(refused.error().message, HasSubstr(std::to_string(kFixed + KvBytes(4096))));
  EXPECT_THAT(refused.error().message, HasSubstr(std::to_string(plan.limit_bytes)));
  EXPECT_THAT(refused.error().message, HasSubstr("a context of 512 tokens would fit"));
  plan.limit_bytes = kFixed;
  EXPECT_THAT(CheckPlan(plan, "m", KvBytes).error().message, Not(HasSubstr("would fit")));
  plan.limit_bytes = plan.total_bytes();
  EXPECT_TRUE(CheckPlan(plan, "m", KvBytes));
}

}  // namespace
}  // namespace tandem::engine
