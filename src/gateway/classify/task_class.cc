#include "gateway/classify/task_class.h"

#include <algorithm>
#include <array>

#include <fmt/ranges.h>

namespace tandem::gateway {
namespace {

constexpr std::array<std::string_view, kTaskClassCount> kNames = {
    "math_reasoning", "code_generation", "creative_writing", "translation",
    "summarisation",  "extraction",      "product_question", "general_conversation"};

}  // namespace

std::string_view TaskClassName(TaskClass task) { return kNames[static_cast<size_t>(task)]; }

Result<TaskClass> ParseTaskClass(std::string_view name) {
  const auto* found = std::ranges::find(kNames, name);
  if (found != kNames.end()) return static_cast<TaskClass>(found - kNames.begin());
  return Err(ErrorCode::kInvalidArgument, "unknown task class '{}'; use one of {}", name,
             fmt::join(kNames, ", "));
}

}  // namespace tandem::gateway
