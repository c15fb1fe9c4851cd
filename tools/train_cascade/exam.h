// How well a calibrator's probabilities fit what came true.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>

#include "gateway/dispatch/confidence.h"
#include "train_cascade/dataset.h"

namespace tandem::train_cascade {

struct ExamResult {
  size_t n_examples = 0;
  size_t n_right = 0;
  // Between the probability and the share of right answers, over ten groups of equal size.
  double calibration_error = 0;
  double brier = 0;  // the mean square of the distance between probability and outcome
  // How often a right answer scores above a wrong one, for the probability and the mean log
  // probability alone, which was the rule before.
  double auc = 0;
  double auc_mean_logprob = 0;
};
// Errors: kInvalidArgument where all answers are right, or none is.
Result<ExamResult> Examine(std::span<const Example> examples,
                           const gateway::dispatch::Calibrator& calibrator);

// What a cascade with this threshold would do: the share that it accepts, and of those the share
// that is right.
struct Trade {
  double accepted = 0;
  double right = 0;
};
Trade TradeAt(std::span<const Example> examples, const gateway::dispatch::Calibrator& calibrator,
              double min_probability);

std::string Report(std::span<const Example> examples,
                   const gateway::dispatch::Calibrator& calibrator, const ExamResult& result);

}  // namespace tandem::train_cascade
