#include "gateway/router/canary.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "gateway/router/decide.h"
#include "gateway/router/statistics.h"

namespace tandem::gateway {
namespace {

// Three quantiles of two latencies, errors, degeneration, engagement.
constexpr int kComparisons = 9;

std::unexpected<Error> Invalid(std::string message, std::string param) {
  return std::unexpected(Error{ErrorCode::kInvalidArgument, std::move(message), std::move(param)});
}

}  // namespace

std::string_view CanaryStateName(Canary::State state) {
  switch (state) {
    case Canary::State::kRunning:
      return "running";
    case Canary::State::kHeld:
      return "held";
    case Canary::State::kPromoted:
      return "promoted";
    case Canary::State::kRolledBack:
      return "rolled_back";
  }
  return "unknown";
}

Status Validate(const CanaryOptions& options) {
  if (options.id.empty()) return Invalid("a canary needs an id", "id");
  if (options.steps.empty()) return Invalid("a canary needs at least one step", "steps");
  double before = 0;
  for (const double share : options.steps) {
    if (!(share > before && share <= 1)) {
      return Invalid("steps are shares that grow, each above 0 and at most 1", "steps");
    }
    before = share;
  }
  if (!(options.alpha > 0 && options.alpha < 0.5)) {
    return Invalid("alpha lies between 0 and 0.5", "alpha");
  }
  if (options.step_time < options.min_step_time) {
    return Invalid("step_time may not be shorter than min_step_time", "step_time");
  }
  return {};
}

Canary::Canary(CanaryOptions options, Position position)
    : options_(std::move(options)),
      state_(position.state),
      step_(std::clamp<size_t>(static_cast<size_t>(std::max(position.step, 0)), 0,
                               options_.steps.size() - 1)),
      step_began_(position.step_began) {}

double Canary::share() const {
  switch (state_) {
    case State::kRolledBack:
      return 0;
    case State::kPromoted:
      return 1;
    default:
      return options_.steps[step_];
  }
}

bool Canary::Assigned(std::string_view subject) const {
  return SubjectPosition(options_.id, subject) < share();
}

double Canary::Boundary(uint64_t n, uint64_t planned) const {
  // The error probability is shared by the steps and, in each, by the comparisons. Within one
  // comparison the information grows with the canary's samples.
  const double alpha = options_.alpha / static_cast<double>(options_.steps.size()) / kComparisons;
  const double information =
      std::clamp(static_cast<double>(n) / static_cast<double>(planned), 1e-3, 1.0);
  return NormalUpperQuantile(alpha / 2) / std::sqrt(information);
}

void Canary::CompareLatency(std::string_view name,
                            const std::array<metrics::Histogram, kStrata>& baseline,
                            const std::array<metrics::Histogram, kStrata>& canary,
                            Verdict* verdict) const {
  uint64_t measured = 0;
  for (const auto& histogram : canary) measured += histogram.count();
  if (measured == 0) return;  // a figure that this kind of answer does not have
  for (size_t i = 0; i < kQuantiles.size(); ++i) {
    uint64_t above = 0;
    uint64_t n = 0;
    for (size_t stratum = 0; stratum < kStrata; ++stratum) {
      // A baseline quantile from a handful of samples would be noise; those requests do not count.
      const double tail = 1 - kQuantiles[i];
      if (static_cast<double>(baseline[stratum].count()) * tail < 10) continue;
      const double limit = options_.worse_ratio[i] * baseline[stratum].Quantile(kQuantiles[i]);
      above += canary[stratum].CountAbove(limit);
      n += canary[stratum].count();
    }
    const double z = Boundary(n, options_.min_samples[i]);
    if (n > 0 && WilsonInterval(above, n, z).low > 1 - kQuantiles[i]) {
      verdict->worse = true;
      verdict->reason = fmt::format(
          "{} at p{:.0f}: {} of {} answers above {} times the baseline's, {:.1f} expected", name,
          100 * kQuantiles[i], above, n, options_.worse_ratio[i],
          (1 - kQuantiles[i]) * static_cast<double>(n));
    }
    if (n < options_.min_samples[i]) verdict->enough = false;
  }
}

void Canary::CompareShare(std::string_view name, const CanaryFigures& figures,
                          uint64_t CanaryFigures::Arm::* hits, bool more_is_worse,
                          Verdict* verdict) const {
  const CanaryFigures::Arm& baseline = figures.arm(false);
  const CanaryFigures::Arm& canary = figures.arm(true);
  const uint64_t baseline_hits = baseline.*hits;
  const uint64_t canary_hits = canary.*hits;
  const auto baseline_n = static_cast<double>(baseline.requests);
  const auto canary_n = static_cast<double>(canary.requests);
  if (canary.requests < options_.min_error_samples || baseline_n == 0) {
    verdict->enough = false;
    return;
  }
  // Two-proportion test with one pseudo-hit in each arm, so that a spotless baseline is not
  // infinitely better than a single error.
  const double baseline_share = (static_cast<double>(baseline_hits) + 1) / (baseline_n + 2);
  const double canary_share = (static_cast<double>(canary_hits) + 1) / (canary_n + 2);
  const double pooled =
      static_cast<double>(baseline_hits + canary_hits + 2) / (baseline_n + canary_n + 4);
  const double deviation = std::sqrt(pooled * (1 - pooled) * (1 / baseline_n + 1 / canary_n));
  if (deviation == 0) return;
  double z = (canary_share - baseline_share) / deviation;
  if (!more_is_worse) z = -z;
  // Information is complete at the sample count that the slowest quantile needs.
  if (z > Boundary(canary.requests, options_.min_samples.back())) {
    verdict->worse = true;
    verdict->reason = fmt::format("{}: {} of {} for the canary, {} of {} for the baseline", name,
                                  canary_hits, canary.requests, baseline_hits, baseline.requests);
  }
}

Canary::Verdict Canary::Compare(const CanaryFigures& figures) const {
  using Arm = CanaryFigures::Arm;
  Verdict verdict;
  const Arm& baseline = figures.arm(false);
  const Arm& canary = figures.arm(true);
  // At a share of 1 there is no baseline any more; only the canary's own failures end it.
  if (options_.steps[step_] >= 1) return verdict;
  CompareLatency("ttft_ms", baseline.ttft_ms, canary.ttft_ms, &verdict);
  CompareLatency("ms_per_token", baseline.ms_per_token, canary.ms_per_token, &verdict);
  CompareShare("degenerate answers", figures, &Arm::degenerate, true, &verdict);
  if (baseline.engaged + canary.engaged > 0) {
    CompareShare("engagement", figures, &Arm::engaged, false, &verdict);
  }
  CompareShare("errors", figures, &Arm::errors, true, &verdict);
  return verdict;
}

void Canary::EnterStep(size_t step, SystemTime now) {
  step_ = step;
  step_began_ = now;
  figures_ = {};
}

Canary::Change Canary::End(State state, std::string reason) {
  state_ = state;
  return {state_, share(), std::move(reason)};
}

std::vector<Canary::Change> Canary::Tick(SystemTime now, const CanaryFigures& figures) {
  if (state_ != State::kRunning) return {};
  if (figures.failures_in_a_row >= options_.failures_in_a_row) {
    return {
        End(State::kRolledBack, fmt::format("{} failures in a row", figures.failures_in_a_row))};
  }
  const Verdict verdict = Compare(figures);
  const uint64_t n_canary = figures.arm(true).requests;
  if (verdict.worse) return {End(State::kRolledBack, verdict.reason)};
  const bool last = step_ + 1 == options_.steps.size();
  const bool bake = options_.steps[step_] >= 1;
  const auto in_step = now - step_began_;
  // Silence never promotes: at a share of 1 too, the canary must have answered.
  const bool enough = verdict.enough && n_canary >= options_.min_error_samples;
  if (in_step >= (bake ? options_.bake_time : options_.min_step_time) && enough) {
    if (last) return {End(State::kPromoted, "every step passed")};
    EnterStep(step_ + 1, now);
    return {{state_, share(), fmt::format("step {} of {}", step_ + 1, options_.steps.size())}};
  }
  if (in_step >= options_.max_step_factor * options_.step_time) {
    return {End(State::kHeld,
                fmt::format("inconclusive after {} s: {} canary and {} baseline samples",
                            std::chrono::duration_cast<std::chrono::seconds>(in_step).count(),
                            n_canary, figures.arm(false).requests))};
  }
  return {};
}

Canary::Change Canary::Promote(SystemTime now, bool completely, std::string_view who) {
  const std::string reason = fmt::format("promoted by {}", who);
  if (completely || step_ + 1 == options_.steps.size()) return End(State::kPromoted, reason);
  state_ = State::kRunning;
  EnterStep(step_ + 1, now);
  return {state_, share(), reason};
}

Canary::Change Canary::Hold(std::string_view who) {
  return End(State::kHeld, fmt::format("held by {}", who));
}

Canary::Change Canary::RollBack(std::string_view who) {
  return End(State::kRolledBack, fmt::format("rolled back by {}", who));
}

}  // namespace tandem::gateway
