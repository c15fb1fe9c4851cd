#include "gateway/dispatch/confidence.h"

#include <algorithm>
#include <cmath>

#include <boost/json.hpp>

#include "base/check.h"
#include "gateway/dispatch/calibration_json.h"

namespace tandem::gateway::dispatch {
namespace {

namespace json = boost::json;

// Below this a token is as unlikely as it gets: one of them must not outweigh all others.
constexpr double kLeastLogprob = -20;
constexpr double kTail = 0.1;

// Names of the members, in the order of AnswerConfidence::Features.
constexpr std::array<std::string_view, AnswerConfidence::kFeatures> kFeatureNames = {
    "mean_logprob", "low_logprob", "low_margin", "mean_entropy", "high_entropy"};

double Quantile(std::vector<double>& values, double share) {
  std::ranges::sort(values);
  const double at = share * static_cast<double>(values.size() - 1);
  const auto below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (at - static_cast<double>(below)) * (values[above] - values[below]);
}

double Mean(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

std::unexpected<Error> Wrong(std::string_view what) {
  return Err(ErrorCode::kInvalidArgument,
             "the calibration is not valid: {}; 'tandem-train-cascade train' writes one", what);
}

Result<double> NumberAt(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  boost::system::error_code error;
  const double number = value != nullptr ? value->to_number<double>(error) : 0;
  if (value == nullptr || error || !std::isfinite(number)) {
    return Wrong(fmt::format("'{}' is missing or no number", name));
  }
  return number;
}

}  // namespace

std::optional<TokenConfidence> ReadConfidence(const TokenLogprob& token) {
  if (token.top.size() < 2) return std::nullopt;
  TokenConfidence confidence;
  confidence.logprob = std::clamp<double>(token.logprob, kLeastLogprob, 0);
  double rest = 1;
  for (const TokenLogprob::Alternative& alternative : token.top) {
    const double logprob = std::clamp<double>(alternative.logprob, kLeastLogprob, 0);
    confidence.entropy -= std::exp(logprob) * logprob;
    rest -= std::exp(logprob);
  }
  if (rest > 0) confidence.entropy -= rest * std::log(rest);
  confidence.margin =
      std::clamp(std::exp(token.top[0].logprob) - std::exp(token.top[1].logprob), 0.0F, 1.0F);
  if (!std::isfinite(confidence.logprob) || !std::isfinite(confidence.entropy) ||
      !std::isfinite(confidence.margin)) {
    return std::nullopt;
  }
  return confidence;
}

AnswerConfidence Summarise(std::span<const TokenConfidence> tokens) {
  TANDEM_CHECK(!tokens.empty());
  std::vector<double> logprobs;
  std::vector<double> margins;
  std::vector<double> entropies;
  for (const TokenConfidence& token : tokens) {
    logprobs.push_back(token.logprob);
    margins.push_back(token.margin);
    entropies.push_back(token.entropy);
  }
  AnswerConfidence answer;
  answer.mean_logprob = Mean(logprobs);
  answer.low_logprob = Quantile(logprobs, kTail);
  answer.low_margin = Quantile(margins, kTail);
  answer.mean_entropy = Mean(entropies);
  answer.high_entropy = Quantile(entropies, 1 - kTail);
  return answer;
}

Result<Calibrator> Calibrator::Parse(std::string_view text) {
  boost::system::error_code error;
  const json::value value = json::parse(text, error);
  const json::object* object = error ? nullptr : value.if_object();
  if (object == nullptr) return Wrong("it is not a JSON object");
  TANDEM_ASSIGN_OR_RETURN(const double format, NumberAt(*object, "format"));
  if (format != 1) return Wrong("its format is not 1");
  Parameters parameters;
  TANDEM_ASSIGN_OR_RETURN(parameters.bias, NumberAt(*object, "bias"));
  for (size_t i = 0; i < kFeatureNames.size(); ++i) {
    const json::value* member = object->if_contains(kFeatureNames[i]);
    const json::object* feature = member != nullptr ? member->if_object() : nullptr;
    if (feature == nullptr) return Wrong(fmt::format("'{}' is missing", kFeatureNames[i]));
    TANDEM_ASSIGN_OR_RETURN(parameters.mean[i], NumberAt(*feature, "mean"));
    TANDEM_ASSIGN_OR_RETURN(parameters.deviation[i], NumberAt(*feature, "deviation"));
    TANDEM_ASSIGN_OR_RETURN(parameters.weight[i], NumberAt(*feature, "weight"));
    if (parameters.deviation[i] <= 0) {
      return Wrong(fmt::format("the deviation of '{}' is not above 0", kFeatureNames[i]));
    }
  }
  const json::value* member = object->if_contains("task_bias");
  const json::object* task_bias = member != nullptr ? member->if_object() : nullptr;
  if (task_bias == nullptr) return Wrong("'task_bias' is missing");
  for (int task = 0; task < kTaskClassCount; ++task) {
    const std::string_view name = TaskClassName(static_cast<TaskClass>(task));
    if (!task_bias->contains(name)) continue;
    TANDEM_ASSIGN_OR_RETURN(parameters.task_bias[static_cast<size_t>(task)],
                            NumberAt(*task_bias, name));
  }
  return Calibrator(parameters);
}

std::string Calibrator::ToJson() const {
  std::string out = fmt::format("{{\n \"format\": 1,\n \"bias\": {:.6g},\n", parameters_.bias);
  for (size_t i = 0; i < kFeatureNames.size(); ++i) {
    out += fmt::format(
        " \"{}\": {{\"mean\": {:.6g}, \"deviation\": {:.6g}, \"weight\": {:.6g}}},\n",
        kFeatureNames[i], parameters_.mean[i], parameters_.deviation[i], parameters_.weight[i]);
  }
  out += " \"task_bias\": {";
  std::string_view separator;
  for (int task = 0; task < kTaskClassCount; ++task) {
    const double bias = parameters_.task_bias[static_cast<size_t>(task)];
    if (bias == 0) continue;
    out += fmt::format("{}\"{}\": {:.6g}", separator, TaskClassName(static_cast<TaskClass>(task)),
                       bias);
    separator = ", ";
  }
  return out + "}\n}\n";
}

const Calibrator& Calibrator::Builtin() {
  static const Calibrator calibrator = [] {
    Result<Calibrator> parsed = Parse(CalibrationJson());
    TANDEM_CHECK(parsed.has_value());
    return *parsed;
  }();
  return calibrator;
}

double Calibrator::Probability(const AnswerConfidence& confidence, TaskClass task) const {
  const auto features = confidence.Features();
  double logit = parameters_.bias + parameters_.task_bias[static_cast<size_t>(task)];
  for (size_t i = 0; i < features.size(); ++i) {
    logit += parameters_.weight[i] * (features[i] - parameters_.mean[i]) / parameters_.deviation[i];
  }
  return 1 / (1 + std::exp(-logit));
}

}  // namespace tandem::gateway::dispatch
