#include "gateway/dispatch/routed_request.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <utility>
#include <variant>

#include "base/check.h"
#include "base/log.h"
#include "crypto/digest.h"
#include "gateway/dispatch/canary_control.h"
#include "gateway/dispatch/run.h"
#include "gateway/usage/inter_token_times.h"

namespace tandem::gateway::dispatch {
namespace {

int64_t UnixMilliseconds(SystemTime time) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
}

// What a record says of a request whatever became of it.
usage::UsageRecord BeginRecord(const Incoming& incoming, std::string_view table_digest) {
  usage::UsageRecord record;
  record.request_id = incoming.request.request_id;
  record.client_request_id = incoming.client_request_id;
  record.key_id = incoming.key_id;
  record.account = incoming.account;
  const std::string& subject =
      incoming.conversation_id.empty() ? incoming.user : incoming.conversation_id;
  if (!subject.empty()) record.subject_digest = crypto::Sha256Hex(subject);
  record.requested_model = incoming.model;
  record.strategy_version = table_digest;
  record.privacy = incoming.request.privacy;
  record.streamed = incoming.streamed;
  return record;
}

}  // namespace

usage::UsageRecord RefusalRecord(const Incoming& incoming, const DecisionRecord* decision,
                                 std::string_view table_digest, const Failure& failure,
                                 const Clock& clock) {
  usage::UsageRecord record = BeginRecord(incoming, table_digest);
  record.started_at_ms = UnixMilliseconds(clock.SystemNow());
  record.failure = failure.code;
  if (decision != nullptr) {
    record.strategy = decision->strategy;
    record.privacy = decision->decision.privacy;
    record.decision_json = DecisionRecordJson(*decision);
  }
  return record;
}

// Keeps itself alive through the relay, whose observer it is, until everything has ended.
class RoutedRequest::Run final : public relay::Observer, public std::enable_shared_from_this<Run> {
 public:
  explicit Run(RunPlan plan)
      : plan_(std::move(plan)),
        started_at_ms_(UnixMilliseconds(plan_.clock->SystemNow())),
        tickets_(plan_.candidates.size()) {
    for (const relay::Candidate& candidate : plan_.candidates) {
      routes_.push_back({candidate.target, std::string(candidate.provider->model()),
                         candidate.tier.value_or(candidate.provider->tier()), candidate.reason});
    }
  }

  std::unique_ptr<Generation> Start(EventSink sink) {
    TANDEM_CHECK(!std::exchange(started_, true));
    GenerateRequest request = std::move(plan_.incoming.request);
    // What the record needs of it stays.
    plan_.incoming.request.request_id = request.request_id;
    plan_.incoming.request.privacy = request.privacy;
    relay::Relay relay(std::move(plan_.candidates), plan_.options, shared_from_this());
    return relay.Start(std::move(request),
                       [self = shared_from_this(), sink = std::move(sink)](
                           GenerateEvent&& event) mutable { self->Pass(std::move(event), &sink); });
  }

  // A request that never ran is recorded too.
  void Abandon(const Failure* failure) {
    if (std::exchange(started_, true)) return;
    relay::Report report;
    if (failure != nullptr) {
      report.failure = *failure;
    } else {
      report.finish = FinishReason::kCancelled;
    }
    if (plan_.records != nullptr) Keep(report, {});
  }

  const Route& route() const { return routes_[shown_.load(std::memory_order_acquire)]; }
  const DecisionRecord& record() const { return plan_.record; }

  // relay::Observer:
  bool Begin(size_t index) override {
    const RunPlan::Health& health = plan_.health[index];
    auto ticket = health.health->Begin(plan_.clock->Now(), plan_.random(), health.forced);
    if (!ticket) return false;
    std::lock_guard lock(mutex_);
    tickets_[index].push_back(*ticket);
    return true;
  }
  void End(size_t index, const Attempt& attempt) override {
    TargetHealth::Ticket ticket;
    {
      std::lock_guard lock(mutex_);
      TANDEM_CHECK(!tickets_[index].empty());
      ticket = tickets_[index].front();
      tickets_[index].erase(tickets_[index].begin());
    }
    const RunPlan::Health& health = plan_.health[index];
    const bool slow = health.slow_after.count() > 0 && attempt.ttft_ms &&
                      *attempt.ttft_ms > static_cast<double>(health.slow_after.count());
    health.health->End(ticket, attempt, slow, plan_.clock->Now(), plan_.random());
  }
  void Committed(size_t index) override { shown_.store(index, std::memory_order_release); }
  void Done(const relay::Report& report) override {
    if (plan_.canary) plan_.canary_control->Record(SampleOf(report));
    std::string sha256;
    if (plan_.records != nullptr && any_text_) sha256 = crypto::Sha256Hex(text_);
    if (plan_.conversations != nullptr) Remember(report);
    if (plan_.records != nullptr) Keep(report, std::move(sha256));
  }

 private:
  // From the relay, one event at a time.
  void Pass(GenerateEvent&& event, EventSink* sink) {
    if (const auto* delta = std::get_if<TextDelta>(&event); delta && !delta->text.empty()) {
      const SteadyTime now = plan_.clock->Now();
      if (any_text_) gaps_.Add(MillisecondsBetween(last_text_, now));
      any_text_ = true;
      last_text_ = now;
      text_ += delta->text;
    }
    (*sink)(std::move(event));
  }

  CanarySample SampleOf(const relay::Report& report) const {
    // The arm is the first candidate, whoever answered in the end.
    const auto arm = std::ranges::find_if(report.attempts, [&](const Attempt& attempt) {
      return attempt.target == routes_.front().target &&
             attempt.outcome != AttemptOutcome::kCancelled;
    });
    CanarySample sample{.canary = *plan_.canary,
                        .streamed = plan_.incoming.streamed,
                        .prompt_tokens = plan_.record.facts.prompt_tokens};
    const bool client_left = report.finish == FinishReason::kCancelled;
    const auto answered =
        std::ranges::find(report.attempts, AttemptOutcome::kAnswered, &Attempt::outcome);
    sample.error = !client_left && (answered == report.attempts.end() ||
                                    answered->target != routes_.front().target);
    sample.degenerate =
        arm != report.attempts.end() && arm->failure == FailureCode::kOutputValidationFailed;
    sample.ttft_ms = report.ttft_ms;
    sample.total_ms = client_left ? 0 : report.e2e_ms;
    if (answered != report.attempts.end() && answered->ttft_ms &&
        answered->usage.completion_tokens > 1) {
      sample.ms_per_token = (answered->ended_ms - answered->started_ms - *answered->ttft_ms) /
                            static_cast<double>(answered->usage.completion_tokens - 1);
    }
    return sample;
  }

  void Remember(const relay::Report& report) {
    const Attempt* last = LastShown(report);
    if (last == nullptr) return;
    const Status kept = plan_.conversations->RememberAnswer(
        plan_.fingerprint, {.role = "assistant", .content = std::move(text_)},
        {.privacy = plan_.record.decision.privacy, .target = last->target});
    if (!kept) {
      log::Error("{} conversation: {}", plan_.incoming.request.request_id, kept.error().message);
    }
  }

  // The call that gave the end of what the client saw.
  static const Attempt* LastShown(const relay::Report& report) {
    const Attempt* last = nullptr;
    for (const Attempt& attempt : report.attempts) {
      const bool gave =
          attempt.outcome == AttemptOutcome::kAnswered || attempt.text_end > attempt.text_begin;
      if (gave && (last == nullptr || attempt.text_end >= last->text_end)) last = &attempt;
    }
    return last;
  }

  void Keep(const relay::Report& report, std::string answer_sha256) {
    usage::UsageRecord record = BeginRecord(plan_.incoming, plan_.table_digest);
    record.started_at_ms = started_at_ms_;
    record.strategy = plan_.record.strategy;
    record.privacy = plan_.record.decision.privacy;
    record.decision_json = DecisionRecordJson(plan_.record);
    record.finish_reason = report.finish;
    if (report.failure) record.failure = report.failure->code;
    record.client_gone = report.finish == FinishReason::kCancelled;
    if (const Attempt* last = LastShown(report)) {
      record.target = last->target;
      record.model = last->model;
      record.tier = last->tier;
    }
    for (const Attempt& attempt : report.attempts) record.attempts.push_back({attempt, {}});
    record.usage = report.usage;
    if (report.ttft_ms > 0) record.ttft_ms = report.ttft_ms;
    record.e2e_ms = report.e2e_ms;
    record.itl = usage::Summarise(gaps_);
    plan_.records->Keep(std::move(record), {std::move(answer_sha256), gaps_});
  }

  RunPlan plan_;
  const int64_t started_at_ms_;
  std::vector<Route> routes_;  // of the candidates
  std::atomic<size_t> shown_{0};
  bool started_ = false;
  std::mutex mutex_;
  std::vector<std::vector<TargetHealth::Ticket>> tickets_;  // guarded by mutex_; of each candidate

  // The relay's sink only, then Done.
  bool any_text_ = false;
  SteadyTime last_text_{};
  usage::InterTokenTimes gaps_;
  std::string text_;  // so far
};

std::shared_ptr<RoutedRequest> RoutedRequest::Make(RunPlan plan) {
  return std::shared_ptr<RoutedRequest>(new RoutedRequest(std::make_shared<Run>(std::move(plan))));
}

RoutedRequest::~RoutedRequest() { run_->Abandon(nullptr); }

void RoutedRequest::Refuse(const Failure& failure) { run_->Abandon(&failure); }

RoutedRequest::Route RoutedRequest::route() const { return run_->route(); }

Privacy RoutedRequest::privacy() const { return run_->record().decision.privacy; }

const DecisionRecord& RoutedRequest::record() const { return run_->record(); }

std::unique_ptr<Generation> RoutedRequest::Start(EventSink sink) {
  return run_->Start(std::move(sink));
}

}  // namespace tandem::gateway::dispatch
