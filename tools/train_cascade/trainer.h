// Fits the calibrator: logistic regression with a ridge, by Newton's method.
#pragma once

#include <span>

#include "gateway/dispatch/confidence.h"
#include "train_cascade/dataset.h"

namespace tandem::train_cascade {

struct TrainingOptions {
  double ridge = 1.0;           // on every weight but the bias, as if so many examples pulled to 0
  size_t min_of_a_class = 100;  // examples below which a class gets no offset of its own
};

// Deterministic: the same examples in the same order give the same numbers.
// Errors: kInvalidArgument where all examples are right, or none is.
Result<gateway::dispatch::Calibrator> Train(std::span<const Example> examples,
                                            const TrainingOptions& options);

}  // namespace tandem::train_cascade
