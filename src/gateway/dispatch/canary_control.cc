#include "gateway/dispatch/canary_control.h"

#include <utility>
#include <vector>

namespace tandem::gateway::dispatch {
namespace {

std::string_view ActionOf(Canary::State state) {
  switch (state) {
    case Canary::State::kRunning:
      return "CANARY_STEP";
    case Canary::State::kHeld:
      return "CANARY_HOLD";
    case Canary::State::kPromoted:
      return "CANARY_PROMOTE";
    case Canary::State::kRolledBack:
      return "CANARY_ROLLBACK";
  }
  return "CANARY_STEP";
}

bool IsOver(Canary::State state) {
  return state == Canary::State::kPromoted || state == Canary::State::kRolledBack;
}

constexpr std::string_view kController = "tandem";  // who acts when nobody gave an order

}  // namespace

Status CanaryControl::Start(CanaryPlan plan, std::string_view who) {
  TANDEM_RETURN_IF_ERROR(Validate(plan.options));
  if (plan.target.empty() || plan.baseline.empty() || plan.target == plan.baseline) {
    return Err(ErrorCode::kInvalidArgument,
               "a canary needs a target and another target as its baseline");
  }
  std::unique_lock lock(mutex_);
  if (canary_ != nullptr && !IsOver(canary_->state())) {
    return Err(ErrorCode::kFailedPrecondition,
               "the canary '{}' is {}; promote it or roll it back first", plan_->options.id,
               CanaryStateName(canary_->state()));
  }
  canary_ = std::make_unique<Canary>(plan.options, clock_->Now());
  plan_ = std::move(plan);
  Report("CANARY_START", who,
         {canary_->state(), canary_->share(),
          fmt::format("{} in place of {} for {:.0f} % of subjects", plan_->target, plan_->baseline,
                      100 * canary_->share())},
         &lock);
  return {};
}

Result<Canary*> CanaryControl::RunningLocked() {
  if (canary_ == nullptr) return Err(ErrorCode::kNotFound, "there is no canary; start one first");
  if (IsOver(canary_->state())) {
    return Err(ErrorCode::kFailedPrecondition, "the canary '{}' is {} already", plan_->options.id,
               CanaryStateName(canary_->state()));
  }
  return canary_.get();
}

Status CanaryControl::Promote(bool completely, std::string_view who) {
  std::unique_lock lock(mutex_);
  TANDEM_ASSIGN_OR_RETURN(Canary* const canary, RunningLocked());
  const Canary::Change change = canary->Promote(clock_->Now(), completely, who);
  Report(ActionOf(change.state), who, change, &lock);
  return {};
}

Status CanaryControl::Hold(std::string_view who) {
  std::unique_lock lock(mutex_);
  TANDEM_ASSIGN_OR_RETURN(Canary* const canary, RunningLocked());
  Report("CANARY_HOLD", who, canary->Hold(who), &lock);
  return {};
}

Status CanaryControl::RollBack(std::string_view who) {
  std::unique_lock lock(mutex_);
  TANDEM_ASSIGN_OR_RETURN(Canary* const canary, RunningLocked());
  Report("CANARY_ROLLBACK", who, canary->RollBack(who), &lock);
  return {};
}

CanaryStatus CanaryControl::ReadLocked() const {
  return {.plan = *plan_,
          .state = canary_->state(),
          .share = canary_->share(),
          .step = canary_->step(),
          .canary_samples = canary_->samples(true),
          .baseline_samples = canary_->samples(false),
          .last_reason = last_reason_};
}

std::optional<CanaryStatus> CanaryControl::Read() const {
  std::lock_guard lock(mutex_);
  if (canary_ == nullptr) return std::nullopt;
  return ReadLocked();
}

std::optional<CanaryControl::Assignment> CanaryControl::Assign(std::string_view subject) const {
  std::lock_guard lock(mutex_);
  if (canary_ == nullptr) return std::nullopt;
  const bool promoted = canary_->state() == Canary::State::kPromoted;
  const bool rolled_back = canary_->state() == Canary::State::kRolledBack;
  return Assignment{plan_->target, plan_->baseline, plan_->strategy,
                    promoted || (!rolled_back && canary_->Assigned(subject))};
}

void CanaryControl::Record(const CanarySample& sample) {
  std::unique_lock lock(mutex_);
  if (canary_ == nullptr || IsOver(canary_->state())) return;
  canary_->Record(sample);
  if (sample.error || clock_->Now() - last_look_ >= kLookInterval) Look(&lock);
}

void CanaryControl::Engage(bool canary) {
  std::lock_guard lock(mutex_);
  if (canary_ != nullptr && !IsOver(canary_->state())) canary_->Engage(canary);
}

void CanaryControl::Look(std::unique_lock<std::mutex>* lock) {
  last_look_ = clock_->Now();
  for (const Canary::Change& change : canary_->Tick(last_look_)) {
    if (!lock->owns_lock()) lock->lock();
    Report(ActionOf(change.state), kController, change, lock);
  }
}

// Leaves the lock open: the audit log waits for a disk.
void CanaryControl::Report(std::string_view action, std::string_view who,
                           const Canary::Change& change, std::unique_lock<std::mutex>* lock) {
  last_reason_ = change.reason;
  CanaryStatus status = ReadLocked();
  status.state = change.state;
  status.share = change.share;
  lock->unlock();
  if (audit_) audit_(action, who, status);
}

}  // namespace tandem::gateway::dispatch
