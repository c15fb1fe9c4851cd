// How likely an answer is right, by how sure its model was of the beginning.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "gateway/classify/task_class.h"
#include "gateway/provider/provider.h"

namespace tandem::gateway::dispatch {

// How sure a model was of one token, by the alternatives that came with it.
struct TokenConfidence {
  double logprob = 0;  // of the chosen token, natural logarithm
  double margin = 0;   // between the probabilities of the two likeliest tokens, 0 to 1
  double entropy = 0;  // of the alternatives and the rest as one more, in nats

  // So many alternatives are asked for; with fewer than two nothing is known.
  static constexpr int kAlternatives = 5;
};
std::optional<TokenConfidence> ReadConfidence(const TokenLogprob& token);

// What an answer's beginning is judged by. A mean hides the one token that everything hangs on, so
// the tails stand beside it.
struct AnswerConfidence {
  double mean_logprob = 0;
  double low_logprob = 0;  // a tenth of the tokens is below it
  double low_margin = 0;   // likewise
  double mean_entropy = 0;
  double high_entropy = 0;  // a tenth of the tokens is above it

  static constexpr size_t kFeatures = 5;
  std::array<double, kFeatures> Features() const {
    return {mean_logprob, low_logprob, low_margin, mean_entropy, high_entropy};
  }
};
// Of at least one token. Quantiles are between two tokens where they fall there.
AnswerConfidence Summarise(std::span<const TokenConfidence> tokens);

// From confidence to the probability that the answer is right: a logistic regression over the
// features, each brought to mean 0 and deviation 1 of its training data, with an offset for each
// task class that was seen often enough. docs/formats/calibration.md has the file; data/cascade
// has what the built-in one was made from.
class Calibrator {
 public:
  struct Parameters {
    std::array<double, AnswerConfidence::kFeatures> mean{};
    std::array<double, AnswerConfidence::kFeatures> deviation{};  // above 0
    std::array<double, AnswerConfidence::kFeatures> weight{};
    double bias = 0;
    std::array<double, kTaskClassCount> task_bias{};  // 0 for a class that was not seen
  };
  explicit Calibrator(const Parameters& parameters) : parameters_(parameters) {}

  // Errors: kInvalidArgument, naming the member that is missing or no number.
  static Result<Calibrator> Parse(std::string_view json);
  std::string ToJson() const;
  // The one that comes with Tandem.
  static const Calibrator& Builtin();

  // Pure. Thread: any.
  double Probability(const AnswerConfidence& confidence, TaskClass task) const;

 private:
  Parameters parameters_;
};

}  // namespace tandem::gateway::dispatch
