#include "engine/session/memory_budget.h"

#include <gtest/gtest.h>

namespace tandem::session {
namespace {

const MemoryFigures kFigures = {
    .weights_bytes = 500, .kv_cache_bytes = 200, .scratch_bytes = 50, .limit_bytes = 1000};

TEST(MemoryBudgetTest, LimitIsForEverythingTogether) {
  EXPECT_TRUE(CheckFits(kFigures, 250, 0, std::nullopt));
  const Status status = CheckFits(kFigures, 251, 0, std::nullopt);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(status.error().param, "memory");
  EXPECT_NE(status.error().message.find("needs 251 bytes and 250 are available"), std::string::npos)
      << status.error().message;
}

TEST(MemoryBudgetTest, MachineMustHaveItToo) {
  const os::MemoryStatus machine{.available_bytes = 100};
  EXPECT_TRUE(CheckFits(kFigures, 100, 0, machine));
  const Status status = CheckFits(kFigures, 101, 0, machine);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(status.error().param, "memory");
  EXPECT_NE(status.error().message.find("needs 101 bytes and 100 are available"), std::string::npos)
      << status.error().message;
}

TEST(MemoryBudgetTest, WhatRunningSessionsHaveYetToFillIsPromised) {
  const os::MemoryStatus machine{.available_bytes = 100};
  EXPECT_TRUE(CheckFits(kFigures, 40, 60, machine));
  EXPECT_FALSE(CheckFits(kFigures, 41, 60, machine));
  EXPECT_FALSE(CheckFits(kFigures, 1, 1000, machine));  // more promised than there is
}

TEST(MemoryBudgetTest, NothingIsAvailableAboveTheLimit) {
  MemoryFigures figures = kFigures;
  figures.limit_bytes = 600;
  EXPECT_TRUE(CheckFits(figures, 0, 0, std::nullopt));
  EXPECT_FALSE(CheckFits(figures, 1, 0, std::nullopt));
}

}  // namespace
}  // namespace tandem::session
