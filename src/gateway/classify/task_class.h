// The kinds of task that routing tells apart, and their names in configuration and on the wire.
#pragma once

#include <string_view>

#include "base/error.h"

namespace tandem::gateway {

enum class TaskClass {
  kMathReasoning,
  kCodeGeneration,
  kCreativeWriting,
  kTranslation,
  kSummarisation,
  kExtraction,
  kProductQuestion,
  kGeneralConversation,
};
inline constexpr int kTaskClassCount = static_cast<int>(TaskClass::kGeneralConversation) + 1;

// "math_reasoning".
std::string_view TaskClassName(TaskClass task);
// Errors: kInvalidArgument with the list of names.
Result<TaskClass> ParseTaskClass(std::string_view name);

}  // namespace tandem::gateway
