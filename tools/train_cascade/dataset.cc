#include "train_cascade/dataset.h"

#include <cmath>
#include <fstream>

#include <fmt/format.h>
#include <boost/json.hpp>

namespace tandem::train_cascade {
namespace {

namespace json = boost::json;

Result<double> NumberAt(const json::object& line, std::string_view name) {
  const json::value* value = line.if_contains(name);
  boost::system::error_code error;
  const double number = value != nullptr ? value->to_number<double>(error) : 0;
  if (value == nullptr || error || !std::isfinite(number)) {
    return Err(ErrorCode::kCorrupt, "'{}' is missing or no number", name);
  }
  return number;
}

}  // namespace

Result<Example> ParseLine(std::string_view text) {
  boost::system::error_code error;
  const json::value value = json::parse(text, error);
  if (error || !value.is_object()) return Err(ErrorCode::kCorrupt, "no JSON object");
  const json::object& line = value.get_object();
  Example example;
  const json::value* task = line.if_contains("class");
  const json::value* correct = line.if_contains("correct");
  if (task == nullptr || !task->is_string() || correct == nullptr || !correct->is_bool()) {
    return Err(ErrorCode::kCorrupt, "'class' or 'correct' is missing");
  }
  TANDEM_ASSIGN_OR_RETURN(example.task,
                          gateway::ParseTaskClass(std::string_view(task->get_string())));
  example.correct = correct->get_bool();
  auto& confidence = example.confidence;
  TANDEM_ASSIGN_OR_RETURN(example.temperature, NumberAt(line, "temperature"));
  TANDEM_ASSIGN_OR_RETURN(confidence.mean_logprob, NumberAt(line, "mean_logprob"));
  TANDEM_ASSIGN_OR_RETURN(confidence.low_logprob, NumberAt(line, "low_logprob"));
  TANDEM_ASSIGN_OR_RETURN(confidence.low_margin, NumberAt(line, "low_margin"));
  TANDEM_ASSIGN_OR_RETURN(confidence.mean_entropy, NumberAt(line, "mean_entropy"));
  TANDEM_ASSIGN_OR_RETURN(confidence.high_entropy, NumberAt(line, "high_entropy"));
  return example;
}

std::string ToLine(const Example& example) {
  const auto& confidence = example.confidence;
  return fmt::format(
      "{{\"class\": \"{}\", \"temperature\": {:g}, \"mean_logprob\": {:.4g}, \"low_logprob\": "
      "{:.4g}, "
      "\"low_margin\": {:.4g}, \"mean_entropy\": {:.4g}, \"high_entropy\": {:.4g}, \"correct\": "
      "{}}}",
      gateway::TaskClassName(example.task), example.temperature, confidence.mean_logprob,
      confidence.low_logprob, confidence.low_margin, confidence.mean_entropy,
      confidence.high_entropy, example.correct);
}

Result<std::vector<Example>> ReadDataset(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file) return Err(ErrorCode::kNotFound, "cannot read {}", path.string());
  std::vector<Example> examples;
  std::string line;
  while (std::getline(file, line)) {
    Result<Example> example = ParseLine(line);
    if (!example) {
      return Wrap(std::move(example).error(),
                  fmt::format("{} line {}", path.string(), examples.size() + 1));
    }
    examples.push_back(*example);
  }
  return examples;
}

}  // namespace tandem::train_cascade
