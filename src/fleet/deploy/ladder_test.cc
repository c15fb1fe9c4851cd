#include "fleet/deploy/ladder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::fleet {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class LadderTest : public ::testing::Test {
 protected:
  LadderOutcome Climb() {
    return ClimbLadder(
        options_, {.try_accelerator = [this]() -> Status {
                     return ++tries_ <= n_failures_ ? Status(std::unexpected(failure_)) : Status();
                   },
                   .reset = [this]() -> Status {
                     ++resets_;
                     if (reset_works_) return {};
                     return Err(ErrorCode::kInternal, "reset refused");
                   },
                   .wait =
                       [this](milliseconds wait) {
                         waits_.push_back(wait);
                         return true;
                       },
                   .random = [this] { return random_; }});
  }

  LadderOptions options_;
  Error failure_{.code = ErrorCode::kUnavailable, .message = "busy"};
  int n_failures_ = 0;
  bool reset_works_ = true;
  double random_ = 1;
  int tries_ = 0;
  int resets_ = 0;
  std::vector<milliseconds> waits_;
};

TEST_F(LadderTest, WhatWorksAtOnceIsNotReset) {
  const LadderOutcome outcome = Climb();
  EXPECT_TRUE(outcome.accelerated);
  EXPECT_EQ(outcome.attempts, 1);
  EXPECT_EQ(resets_, 0);
  EXPECT_THAT(waits_, IsEmpty());
}

TEST_F(LadderTest, AContextThatFailsIsTriedAgainAfterAResetAndALongerWaitEachTime) {
  n_failures_ = 2;
  const LadderOutcome outcome = Climb();
  EXPECT_TRUE(outcome.accelerated);
  EXPECT_EQ(outcome.attempts, 3);
  EXPECT_EQ(resets_, 2);
  EXPECT_THAT(waits_, ElementsAre(milliseconds(250), milliseconds(500)));
  EXPECT_THAT(outcome.reasons, ElementsAre("busy", "busy"));
}

TEST_F(LadderTest, WaitsAreJitteredAndBounded) {
  options_ = {.max_attempts = 6, .max_delay = milliseconds(600)};
  n_failures_ = 6;
  random_ = 0;
  EXPECT_FALSE(Climb().accelerated);
  EXPECT_THAT(waits_, ElementsAre(milliseconds(125), milliseconds(250), milliseconds(300),
                                  milliseconds(300), milliseconds(300)));
}

TEST_F(LadderTest, AfterTheLastAttemptItEndsWithTheReason) {
  n_failures_ = 99;
  const LadderOutcome outcome = Climb();
  EXPECT_FALSE(outcome.accelerated);
  EXPECT_EQ(outcome.attempts, 3);
  EXPECT_EQ(tries_, 3);
  EXPECT_EQ(resets_, 2) << "nothing follows a reset after the last attempt";
  EXPECT_EQ(outcome.last_error.message, "busy");
}

TEST_F(LadderTest, WhatStaysWrongIsTriedOnce) {
  for (const ErrorCode code : {ErrorCode::kCorrupt, ErrorCode::kUnsupported,
                               ErrorCode::kResourceExhausted, ErrorCode::kInternal}) {
    n_failures_ = 99;
    tries_ = 0;
    failure_.code = code;
    EXPECT_EQ(Climb().attempts, 1);
  }
}

TEST_F(LadderTest, AResetThatFailsEndsIt) {
  n_failures_ = 99;
  reset_works_ = false;
  const LadderOutcome outcome = Climb();
  EXPECT_EQ(outcome.attempts, 1);
  EXPECT_THAT(outcome.reasons, ElementsAre("busy", "reset refused"));
}

TEST_F(LadderTest, TheCoresTakeHalfTheBatch) {
  EXPECT_EQ(ReducedBatchSize(8), 4);
  EXPECT_EQ(ReducedBatchSize(1), 1);
}

}  // namespace
}  // namespace tandem::fleet
