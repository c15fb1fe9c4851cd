#include "train_cascade/exam.h"

#include <algorithm>
#include <cmath>
#include <tuple>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace tandem::train_cascade {
namespace {

constexpr size_t kGroups = 10;

struct Scored {
  double score = 0;
  bool correct = false;
  size_t number = 0;  // of the answer: equal scores stay in their order
};

// By ranks; equal scores count half.
double Auc(std::vector<Scored> scored) {
  std::ranges::sort(scored, {}, &Scored::score);
  double wins = 0;
  double n_wrong = 0;
  double n_right = 0;
  for (size_t i = 0; i < scored.size();) {
    size_t end = i;
    double wrong = 0;
    double right = 0;
    for (; end < scored.size() && scored[end].score == scored[i].score; ++end) {
      (scored[end].correct ? right : wrong) += 1;
    }
    wins += right * (n_wrong + wrong / 2);
    n_wrong += wrong;
    n_right += right;
    i = end;
  }
  return wins / (n_wrong * n_right);
}

double CalibrationError(std::vector<Scored> scored) {
  std::ranges::sort(scored, [](const Scored& a, const Scored& b) {
    return std::tie(a.score, a.number) < std::tie(b.score, b.number);
  });
  double error = 0;
  for (size_t group = 0; group < kGroups; ++group) {
    const size_t begin = scored.size() * group / kGroups;
    const size_t end = scored.size() * (group + 1) / kGroups;
    double promised = 0;
    double right = 0;
    for (size_t i = begin; i < end; ++i) {
      promised += scored[i].score;
      right += scored[i].correct ? 1 : 0;
    }
    error += std::abs(promised - right) / static_cast<double>(scored.size());
  }
  return error;
}

}  // namespace

Result<ExamResult> Examine(std::span<const Example> examples,
                           const gateway::dispatch::Calibrator& calibrator) {
  ExamResult result;
  std::vector<Scored> by_probability;
  std::vector<Scored> by_mean;
  for (const Example& example : examples) {
    const double probability = calibrator.Probability(example.confidence, example.task);
    by_probability.push_back({probability, example.correct, by_probability.size()});
    by_mean.push_back({example.confidence.mean_logprob, example.correct, by_mean.size()});
    const double error = (example.correct ? 1 : 0) - probability;
    result.brier += error * error / static_cast<double>(examples.size());
    result.n_right += example.correct ? 1 : 0;
  }
  result.n_examples = examples.size();
  if (result.n_right == 0 || result.n_right == result.n_examples) {
    return Err(ErrorCode::kInvalidArgument, "{} of {} answers are right: nothing to tell apart",
               result.n_right, result.n_examples);
  }
  result.calibration_error = CalibrationError(by_probability);
  result.auc = Auc(std::move(by_probability));
  result.auc_mean_logprob = Auc(std::move(by_mean));
  return result;
}

Trade TradeAt(std::span<const Example> examples, const gateway::dispatch::Calibrator& calibrator,
              double min_probability) {
  double accepted = 0;
  double right = 0;
  for (const Example& example : examples) {
    if (calibrator.Probability(example.confidence, example.task) < min_probability) continue;
    accepted += 1;
    right += example.correct ? 1 : 0;
  }
  return {accepted / static_cast<double>(examples.size()), accepted > 0 ? right / accepted : 1};
}

std::string Report(std::span<const Example> examples,
                   const gateway::dispatch::Calibrator& calibrator, const ExamResult& result) {
  std::string out = fmt::format(
      "{} answers, {} right\nexpected calibration error {:.3f}, Brier score {:.3f}\n"
      "area under the curve {:.3f}, of the mean log probability alone {:.3f}\n\n"
      "min_probability   accepted   right of those\n",
      result.n_examples, result.n_right, result.calibration_error, result.brier, result.auc,
      result.auc_mean_logprob);
  for (const double threshold : {0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95}) {
    const Trade trade = TradeAt(examples, calibrator, threshold);
    out += fmt::format("{:15.2f} {:8.1f} % {:14.1f} %\n", threshold, 100 * trade.accepted,
                       100 * trade.right);
  }
  return out;
}

}  // namespace tandem::train_cascade
