#include "gateway/classify/task_class.h"

#include <gtest/gtest.h>

namespace tandem::gateway {
namespace {

TEST(TaskClassTest, NamesRoundTripAndUnknownOnesListWhatThereIs) {
  for (int i = 0; i < kTaskClassCount; ++i) {
    const auto task = static_cast<TaskClass>(i);
    EXPECT_EQ(ParseTaskClass(TaskClassName(task)).value(), task);
  }
  EXPECT_EQ(TaskClassName(TaskClass::kSummarisation), "summarisation");
  const auto unknown = ParseTaskClass("maths");
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().message,
            "unknown task class 'maths'; use one of math_reasoning, code_generation, "
            "creative_writing, translation, summarisation, extraction, product_question, "
            "general_conversation");
}

}  // namespace
}  // namespace tandem::gateway
