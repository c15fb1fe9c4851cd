// Answers of a model whose references are known: what it showed of its confidence, and whether it
// was right.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "gateway/dispatch/confidence.h"

namespace tandem::train_cascade {

struct Example {
  gateway::dispatch::AnswerConfidence confidence;
  gateway::TaskClass task = gateway::TaskClass::kGeneralConversation;
  double temperature = 0;  // at which the answer was drawn
  bool correct = false;
};

// A line of JSON for each. Errors: those of reading; kCorrupt, naming the line.
Result<std::vector<Example>> ReadDataset(const std::filesystem::path& path);
std::string ToLine(const Example& example);
Result<Example> ParseLine(std::string_view text);

}  // namespace tandem::train_cascade
