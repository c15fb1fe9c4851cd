#include "train_cascade/trainer.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace tandem::train_cascade {
namespace {

using gateway::kTaskClassCount;
using gateway::dispatch::AnswerConfidence;
using gateway::dispatch::Calibrator;

constexpr size_t kFeatures = AnswerConfidence::kFeatures;
constexpr size_t kUnknowns = kFeatures + kTaskClassCount + 1;  // the last one is the bias
constexpr int kMaxSteps = 100;

using Vector = std::array<double, kUnknowns>;
using Matrix = std::array<Vector, kUnknowns>;

// Solves a x = b for a symmetric positive definite matrix, by Cholesky's decomposition.
Vector Solve(Matrix a, Vector b) {
  for (size_t i = 0; i < kUnknowns; ++i) {
    for (size_t j = 0; j <= i; ++j) {
      double sum = a[i][j];
      for (size_t k = 0; k < j; ++k) sum -= a[i][k] * a[j][k];
      a[i][j] = i == j ? std::sqrt(sum) : sum / a[j][j];
    }
  }
  for (size_t i = 0; i < kUnknowns; ++i) {
    for (size_t k = 0; k < i; ++k) b[i] -= a[i][k] * b[k];
    b[i] /= a[i][i];
  }
  for (size_t i = kUnknowns; i-- > 0;) {
    for (size_t k = i + 1; k < kUnknowns; ++k) b[i] -= a[k][i] * b[k];
    b[i] /= a[i][i];
  }
  return b;
}

}  // namespace

Result<Calibrator> Train(std::span<const Example> examples, const TrainingOptions& options) {
  const auto n_right = std::ranges::count(examples, true, &Example::correct);
  if (n_right == 0 || n_right == std::ssize(examples)) {
    return Err(ErrorCode::kInvalidArgument,
               "{} of {} answers are right; to tell them apart there must be some of both", n_right,
               examples.size());
  }
  Calibrator::Parameters parameters;
  const auto n = static_cast<double>(examples.size());
  std::array<size_t, kTaskClassCount> n_of_class{};
  for (const Example& example : examples) {
    const auto features = example.confidence.Features();
    for (size_t i = 0; i < kFeatures; ++i) parameters.mean[i] += features[i] / n;
    ++n_of_class[static_cast<size_t>(example.task)];
  }
  for (const Example& example : examples) {
    const auto features = example.confidence.Features();
    for (size_t i = 0; i < kFeatures; ++i) {
      const double distance = features[i] - parameters.mean[i];
      parameters.deviation[i] += distance * distance / n;
    }
  }
  for (double& deviation : parameters.deviation) deviation = std::max(std::sqrt(deviation), 1e-9);

  std::vector<Vector> rows;
  for (const Example& example : examples) {
    const auto features = example.confidence.Features();
    Vector& row = rows.emplace_back(Vector{});
    for (size_t i = 0; i < kFeatures; ++i) {
      row[i] = (features[i] - parameters.mean[i]) / parameters.deviation[i];
    }
    const auto task = static_cast<size_t>(example.task);
    if (n_of_class[task] >= options.min_of_a_class) row[kFeatures + task] = 1;
    row[kUnknowns - 1] = 1;
  }
  Vector solution{};
  for (int step = 0; step < kMaxSteps; ++step) {
    Vector gradient{};
    Matrix hessian{};
    for (size_t i = 0; i < kUnknowns; ++i) {
      const double ridge = i + 1 < kUnknowns ? options.ridge : 1e-6;
      gradient[i] = -ridge * solution[i];
      hessian[i][i] = ridge;
    }
    for (size_t e = 0; e < rows.size(); ++e) {
      double logit = 0;
      for (size_t i = 0; i < kUnknowns; ++i) logit += rows[e][i] * solution[i];
      const double probability = 1 / (1 + std::exp(-logit));
      const double error = (examples[e].correct ? 1 : 0) - probability;
      for (size_t i = 0; i < kUnknowns; ++i) {
        gradient[i] += error * rows[e][i];
        for (size_t j = 0; j <= i; ++j) {
          hessian[i][j] += probability * (1 - probability) * rows[e][i] * rows[e][j];
        }
      }
    }
    const Vector move = Solve(hessian, gradient);
    double longest = 0;
    for (size_t i = 0; i < kUnknowns; ++i) {
      solution[i] += move[i];
      longest = std::max(longest, std::abs(move[i]));
    }
    if (longest < 1e-10) break;
  }
  std::copy_n(solution.begin(), kFeatures, parameters.weight.begin());
  std::copy_n(solution.begin() + kFeatures, kTaskClassCount, parameters.task_bias.begin());
  parameters.bias = solution.back();
  return Calibrator(parameters);
}

}  // namespace tandem::train_cascade
