// Looks at how sure a model is of the beginning of its answer.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <utility>

#include "base/clock.h"
#include "gateway/dispatch/confidence.h"
#include "gateway/provider/provider.h"

namespace tandem::gateway::dispatch {

struct ConfidenceNeed {
  int tokens = 28;
  std::chrono::milliseconds time{400};
  // The answer's probability to be right, as the calibrator tells it; absent: the mean decides.
  std::optional<double> min_probability;
  std::shared_ptr<const Calibrator> calibrator;  // null: Calibrator::Builtin
  TaskClass task = TaskClass::kGeneralConversation;
  // Decides where there is no min_probability, and for tokens that come without alternatives.
  double min_mean_logprob = -1.5;
};

// Holds the beginning of the inner provider's answer (so many tokens, or those of so much time
// after the first, or the whole answer where it is shorter) and gives it up where the model was
// less sure of it than the need says: the inner call is cancelled and the answer ends with
// Failed{kOutputValidationFailed, "confidence ..."}, so that a relay asks the next candidate. Asks
// the inner provider for log probabilities; a client that did not gets none. An answer that comes
// without any is passed on: nothing is known against it.
//   What the answer tells of its own quality is worth more than what the prompt tells: see
//   "Language Model Cascades: Token-level uncertainty and beyond", arXiv:2404.10136.
// Thread: any, like every Provider.
class ConfidentProvider final : public Provider {
 public:
  // `clock` outlives it and what it started.
  ConfidentProvider(std::shared_ptr<Provider> inner, const Clock* clock, ConfidenceNeed need)
      : inner_(std::move(inner)), clock_(clock), need_(std::move(need)) {}

  std::string_view model() const override { return inner_->model(); }
  Tier tier() const override { return inner_->tier(); }
  std::unique_ptr<Generation> Start(GenerateRequest request, EventSink sink) override;

 private:
  const std::shared_ptr<Provider> inner_;
  const Clock* const clock_;
  const ConfidenceNeed need_;
};

}  // namespace tandem::gateway::dispatch
