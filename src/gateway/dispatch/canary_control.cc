#include "gateway/dispatch/canary_control.h"

#include <utility>
#include <vector>

#include "base/log.h"

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

CanaryQuantiles QuantilesOf(const metrics::Histogram& histogram) {
  return {histogram.Quantile(0.50), histogram.Quantile(0.95), histogram.Quantile(0.99)};
}

CanaryArmStatus StatusOf(const CanaryFigures::Arm& arm) {
  return {.samples = arm.requests,
          .errors = arm.errors,
          .degenerate = arm.degenerate,
          .engaged = arm.engaged,
          .ttft_ms = QuantilesOf(arm.AllTtftMs()),
          .total_ms = QuantilesOf(arm.total_ms)};
}

constexpr std::string_view kController = "tandem";  // who acts when nobody gave an order

}  // namespace

CanaryControl::CanaryControl(const Clock* clock, Audit audit, CanaryStore* store, std::string node)
    : clock_(clock),
      audit_(std::move(audit)),
      store_(store == nullptr ? &own_store_ : store),
      node_(std::move(node)) {}

// ---- What the store holds
// ------------------------------------------------------------------------

Result<std::optional<StoredCanary>> CanaryControl::Refresh() {
  auto stored = store_->Read();
  std::string lost = stored ? "" : stored.error().message;
  {
    std::lock_guard lock(mutex_);
    std::swap(lost, lost_);  // what was lost before
    if (!stored && lost.empty()) {
      log::Warning("the roll-out stays as it is, nobody decides: {}", lost_);
    } else if (stored && !lost.empty()) {
      log::Info("the roll-out's state is read again");
    }
  }
  if (stored && *stored) Adopt(**stored);
  return stored;
}

void CanaryControl::Adopt(const StoredCanary& stored) {
  std::unique_ptr<Canary> replaced;  // dropped after the lock
  std::lock_guard lock(mutex_);
  if (stored_ && stored_->version == stored.version) return;
  const bool same_step = stored_ && stored_->epoch == stored.epoch;
  auto canary = std::make_unique<Canary>(stored.plan.options, stored.position);
  if (same_step) {
    canary->SetFigures(canary_->figures());
  } else {
    all_ = {};
    unpublished_ = false;
  }
  replaced = std::exchange(canary_, std::move(canary));
  stored_ = stored;
}

Status CanaryControl::Write(StoredCanary next, std::string_view action, std::string_view who) {
  TANDEM_ASSIGN_OR_RETURN(const bool written, store_->Replace(next));
  if (!written) {
    return Err(ErrorCode::kFailedPrecondition,
               "the roll-out was changed by another node at this moment; look at it and try again");
  }
  CanaryFigures judged;
  {
    std::lock_guard lock(mutex_);
    judged = all_;  // what it was decided by; a new step has none yet
  }
  Adopt(next);
  CanaryStatus status;
  {
    std::lock_guard lock(mutex_);
    status = StatusLocked(judged);
  }
  if (audit_) audit_(action, who, status);
  return {};
}

Result<CanaryFigures> CanaryControl::SumUp(int64_t epoch) {
  TANDEM_ASSIGN_OR_RETURN(const auto published, store_->Figures(epoch));
  CanaryFigures sum;
  for (const std::string& bytes : published) {
    auto figures = CanaryFigures::Decode(bytes);
    if (figures) {
      sum.Merge(*figures);
    } else {
      // A node of another version; what it saw is missing, so that the step takes longer.
      log::Warning("figures of a node: {}", figures.error().message);
    }
  }
  std::lock_guard lock(mutex_);
  all_ = sum;
  return sum;
}

Status CanaryControl::PublishOwn() {
  std::string bytes;
  int64_t epoch = 0;
  {
    std::lock_guard lock(mutex_);
    if (!stored_ || !std::exchange(unpublished_, false)) return {};
    epoch = stored_->epoch;
    bytes = canary_->figures().Encode();
  }
  Status published = store_->Publish(epoch, node_, bytes);
  if (!published) {
    std::lock_guard lock(mutex_);
    unpublished_ = true;
  }
  return published;
}

Status CanaryControl::Sync() {
  std::lock_guard one_at_a_time(sync_mutex_);
  return Round(/*decide=*/true);
}

Status CanaryControl::Round(bool decide) {
  TANDEM_ASSIGN_OR_RETURN(const std::optional<StoredCanary> stored, Refresh());
  if (!stored) return {};
  TANDEM_RETURN_IF_ERROR(PublishOwn());
  if (!decide) {
    TANDEM_RETURN_IF_ERROR(SumUp(stored->epoch));
    return {};
  }
  TANDEM_ASSIGN_OR_RETURN(const bool decides, store_->Decides());
  {
    std::lock_guard lock(mutex_);
    if (decides && !decides_) log::Info("this node decides about the roll-out");
    decides_ = decides;
  }
  if (!decides || stored->position.state != Canary::State::kRunning) return {};
  TANDEM_ASSIGN_OR_RETURN(const CanaryFigures figures, SumUp(stored->epoch));
  Canary canary(stored->plan.options, stored->position);
  for (const Canary::Change& change : canary.Tick(clock_->SystemNow(), figures)) {
    StoredCanary next = *stored;
    ++next.version;
    if (canary.step() != stored->position.step) next.epoch = next.version;
    next.position = canary.position();
    next.last_reason = change.reason;
    TANDEM_RETURN_IF_ERROR(Write(std::move(next), ActionOf(change.state), kController));
  }
  return {};
}

// ---- Orders
// --------------------------------------------------------------------------------------

Status CanaryControl::Start(CanaryPlan plan, std::string_view who) {
  TANDEM_RETURN_IF_ERROR(Validate(plan.options));
  if (plan.target.empty() || plan.baseline.empty() || plan.target == plan.baseline) {
    return Err(ErrorCode::kInvalidArgument,
               "a canary needs a target and another target as its baseline");
  }
  std::lock_guard one_at_a_time(sync_mutex_);
  TANDEM_ASSIGN_OR_RETURN(const auto before, Refresh());
  if (before && !IsOver(before->position.state)) {
    return Err(ErrorCode::kFailedPrecondition,
               "the canary '{}' is {}; promote it or roll it back first", before->plan.options.id,
               CanaryStateName(before->position.state));
  }
  const int64_t version = before ? before->version + 1 : 1;
  const Canary canary(plan.options, clock_->SystemNow());
  StoredCanary next{.version = version,
                    .epoch = version,
                    .plan = std::move(plan),
                    .position = canary.position(),
                    .last_reason = {}};
  next.last_reason = fmt::format("{} in place of {} for {:.0f} % of subjects", next.plan.target,
                                 next.plan.baseline, 100 * canary.share());
  {
    std::lock_guard lock(mutex_);
    all_ = {};
  }
  return Write(std::move(next), "CANARY_START", who);
}

// `action` empty: what the change is called.
Status CanaryControl::Order(std::string_view action, std::string_view who, bool when_promoted,
                            const std::function<Canary::Change(Canary*)>& order) {
  std::lock_guard one_at_a_time(sync_mutex_);
  TANDEM_ASSIGN_OR_RETURN(const auto before, Refresh());
  if (!before) return Err(ErrorCode::kNotFound, "there is no canary; start one first");
  const Canary::State state = before->position.state;
  if (IsOver(state) && !(when_promoted && state == Canary::State::kPromoted)) {
    return Err(ErrorCode::kFailedPrecondition, "the canary '{}' is {} already",
               before->plan.options.id, CanaryStateName(state));
  }
  TANDEM_RETURN_IF_ERROR(PublishOwn());
  TANDEM_RETURN_IF_ERROR(SumUp(before->epoch));  // for the audit log
  Canary canary(before->plan.options, before->position);
  const Canary::Change change = order(&canary);
  StoredCanary next = *before;
  ++next.version;
  if (canary.step() != before->position.step) next.epoch = next.version;
  next.position = canary.position();
  next.last_reason = change.reason;
  return Write(std::move(next), action.empty() ? ActionOf(change.state) : action, who);
}

Status CanaryControl::Promote(bool completely, std::string_view who) {
  return Order("", who, false, [&](Canary* canary) {
    return canary->Promote(clock_->SystemNow(), completely, who);
  });
}

Status CanaryControl::Hold(std::string_view who) {
  return Order("CANARY_HOLD", who, false, [&](Canary* canary) { return canary->Hold(who); });
}

Status CanaryControl::RollBack(std::string_view who) {
  return Order("CANARY_ROLLBACK", who, true, [&](Canary* canary) { return canary->RollBack(who); });
}

// ---- What requests and people see
// ----------------------------------------------------------------

CanaryStatus CanaryControl::StatusLocked(const CanaryFigures& figures) const {
  return {.plan = stored_->plan,
          .state = canary_->state(),
          .share = canary_->share(),
          .step = canary_->step(),
          .canary = StatusOf(figures.arm(true)),
          .baseline = StatusOf(figures.arm(false)),
          .last_reason = stored_->last_reason,
          .version = stored_->version,
          .decides = decides_,
          .store_lost = lost_};
}

std::optional<CanaryStatus> CanaryControl::Read() const {
  std::lock_guard lock(mutex_);
  if (canary_ == nullptr) return std::nullopt;
  return StatusLocked(all_);
}

Result<std::optional<CanaryStatus>> CanaryControl::ReadAll() {
  {
    std::lock_guard one_at_a_time(sync_mutex_);
    const Status now = Round(/*decide=*/false);
    // An old state is shown as such; without any there is only the error.
    if (!now && !Read()) return std::unexpected(now.error());
  }
  return Read();
}

std::optional<CanaryControl::Assignment> CanaryControl::Assign(std::string_view subject) const {
  std::lock_guard lock(mutex_);
  if (canary_ == nullptr) return std::nullopt;
  const CanaryPlan& plan = stored_->plan;
  const bool promoted = canary_->state() == Canary::State::kPromoted;
  const bool rolled_back = canary_->state() == Canary::State::kRolledBack;
  return Assignment{plan.target, plan.baseline, plan.strategy,
                    promoted || (!rolled_back && canary_->Assigned(subject))};
}

void CanaryControl::Record(const CanarySample& sample) {
  std::lock_guard lock(mutex_);
  if (canary_ == nullptr || IsOver(canary_->state())) return;
  canary_->Record(sample);
  unpublished_ = true;
}

void CanaryControl::Engage(bool canary) {
  std::lock_guard lock(mutex_);
  if (canary_ == nullptr || IsOver(canary_->state())) return;
  canary_->Engage(canary);
  unpublished_ = true;
}

}  // namespace tandem::gateway::dispatch
