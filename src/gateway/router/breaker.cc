#include "gateway/router/breaker.h"

#include <algorithm>
#include <cmath>

#include "gateway/router/statistics.h"

namespace tandem::gateway {
namespace {

// 95 % one-sided: with 20 outcomes three failures do not open at a threshold of 5 %, four do.
constexpr double kZ = 1.6448536;

}  // namespace

int64_t Breaker::SliceOf(SteadyTime now) const {
  return now.time_since_epoch() / (options_.window / kBuckets);
}

Breaker::Bucket Breaker::Sum(SteadyTime now) const {
  const int64_t newest = SliceOf(now);
  Bucket sum;
  for (const Bucket& bucket : buckets_) {
    if (bucket.number <= newest - kBuckets || bucket.number < 0) continue;
    sum.outcomes += bucket.outcomes;
    sum.failures += bucket.failures;
    sum.slow += bucket.slow;
  }
  return sum;
}

double Breaker::failure_share(SteadyTime now) const {
  const Bucket sum = Sum(now);
  return sum.outcomes == 0 ? 0 : static_cast<double>(sum.failures) / sum.outcomes;
}

bool Breaker::ShouldOpen(SteadyTime now) const {
  if (failures_in_a_row_ >= options_.failures_in_a_row) return true;
  const Bucket sum = Sum(now);
  if (sum.outcomes < static_cast<uint32_t>(options_.min_outcomes)) return false;
  return WilsonInterval(sum.failures, sum.outcomes, kZ).low > options_.error_threshold ||
         WilsonInterval(sum.slow, sum.outcomes, kZ).low > options_.slow_threshold;
}

void Breaker::Open(SteadyTime now, double random) {
  state_ = State::kOpen;
  ++epoch_;
  ++times_opened_;
  const double doubled = std::ldexp(static_cast<double>(options_.recovery_timeout.count()),
                                    std::min(openings_in_a_row_, 30));
  const double capped = std::min(doubled, static_cast<double>(options_.max_recovery.count()));
  ++openings_in_a_row_;
  const double jittered = capped * (0.9 + 0.2 * random);
  retry_at_ = now + std::chrono::milliseconds(static_cast<int64_t>(jittered));
}

void Breaker::Close(SteadyTime now) {
  state_ = State::kClosed;
  ++epoch_;
  buckets_ = {};
  failures_in_a_row_ = 0;
  openings_in_a_row_ = 0;
  closed_at_ = now;
}

void Breaker::BeginHalfOpenIfDue(SteadyTime now) {
  if (state_ != State::kOpen || now < retry_at_) return;
  state_ = State::kHalfOpen;
  ++epoch_;
  probes_ = 0;
  probe_successes_ = 0;
}

Breaker::State Breaker::state(SteadyTime now) const {
  return state_ == State::kOpen && now >= retry_at_ ? State::kHalfOpen : state_;
}

std::optional<Breaker::Permit> Breaker::Acquire(SteadyTime now, double random) {
  BeginHalfOpenIfDue(now);
  switch (state_) {
    case State::kOpen:
      return std::nullopt;
    case State::kHalfOpen:
      if (probes_ >= options_.max_probes) return std::nullopt;
      ++probes_;
      return Permit{epoch_, true};
    case State::kClosed:
      break;
  }
  if (closed_at_ && now < *closed_at_ + options_.slow_start) {
    // A tenth of the traffic at once, all of it at the end.
    const double progress = std::chrono::duration<double>(now - *closed_at_) / options_.slow_start;
    if (random >= 0.1 + 0.9 * progress) return std::nullopt;
  }
  return Permit{epoch_, false};
}

void Breaker::Record(Permit permit, CallOutcome outcome, bool slow, SteadyTime now, double random) {
  if (permit.epoch != epoch_) return;
  if (state_ == State::kHalfOpen) {
    // A neutral outcome gives its place to the next probe; otherwise cancelled probes would leave
    // the breaker half-open for ever.
    --probes_;
    if (outcome == CallOutcome::kFailure) Open(now, random);
    if (outcome == CallOutcome::kSuccess && ++probe_successes_ >= options_.successes_to_close) {
      Close(now);
    }
    return;
  }
  if (outcome == CallOutcome::kNeutral) return;
  const int64_t slice = SliceOf(now);
  Bucket& bucket = buckets_[static_cast<size_t>(slice % kBuckets)];
  if (bucket.number != slice) bucket = {.number = slice};
  ++bucket.outcomes;
  if (slow) ++bucket.slow;
  if (outcome == CallOutcome::kFailure) {
    ++bucket.failures;
    ++failures_in_a_row_;
  } else {
    failures_in_a_row_ = 0;
  }
  if (ShouldOpen(now)) Open(now, random);
}

}  // namespace tandem::gateway
