// One answer while it is being put together. Private to gateway/relay.
//
// Threads: whatever moves the answer on (a provider's event, a timer, a cancellation) is an Input.
// Inputs are handled one at a time by whichever thread brings one while no other is at work; that
// thread then handles those that came meanwhile. So nothing but the mailbox needs a lock, a sink or
// a provider may call back into the run from inside its own call, and no lock is held during calls
// to the outside.
//
// Lifetime: the sinks of running calls own the run, so it lives until every provider has sent its
// terminal event. Timers hold it weakly.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "gateway/provider/provider.h"
#include "gateway/relay/answer_text.h"
#include "gateway/relay/overlap.h"
#include "gateway/relay/relay.h"

namespace tandem::gateway::relay {

class Run : public std::enable_shared_from_this<Run> {
 public:
  Run(std::shared_ptr<Relay::Plan> plan, GenerateRequest request, EventSink sink);

  // Both: thread: any.
  void Start() { Post(StartAsked{}); }
  void Cancel() { Post(CancelAsked{}); }

 private:
  // One call of one candidate; or the record of one that was skipped.
  struct Call {
    size_t candidate = 0;
    Attempt attempt;
    int64_t prompt_tokens = 0;               // as far as is known before it tells; 0: nothing is
    std::unique_ptr<Generation> generation;  // until its terminal event
    SteadyTime started;
    SteadyTime last_event;
    bool any_event = false;
    std::optional<SteadyTime> first_text;
    std::vector<uint64_t> piece_ends;  // of the pieces with text, in bytes from its beginning
    std::vector<TextDelta> buffer;     // until it is chosen
    size_t buffer_bytes = 0;
    std::optional<Finished> finished;  // before it was chosen
    std::optional<OverlapFilter> overlap;
    bool hedged = false;    // another one was started because this one is late
    bool stopped = false;   // it was cancelled
    bool settled = false;   // the answer is done with it; attempt.outcome is final
    bool ended = false;     // its terminal event came
    bool reported = false;  // to the observer
  };
  using CallPtr = std::shared_ptr<Call>;

  struct StartAsked {};
  struct CancelAsked {};
  struct TimerFired {};
  struct ProviderSays {
    CallPtr call;
    GenerateEvent event;
  };
  using Input = std::variant<StartAsked, CancelAsked, TimerFired, ProviderSays>;

  struct Retry {
    size_t candidate = 0;
    int number = 0;
    SteadyTime due;
  };

  void Post(Input input);
  // The same for what a provider says, which is nearly all that comes and is not to be wrapped and
  // moved about more than it must.
  void PostEvent(const CallPtr& call, GenerateEvent&& event);
  void HandleInbox();
  void Handle(Input input);
  void HandleEvent(const CallPtr& call, GenerateEvent&& event);

  // What comes in.
  void OnCancel();
  void OnTimer();
  void OnText(const CallPtr& call, TextDelta&& piece);
  void OnTerminal(const CallPtr& call, GenerateEvent event);

  // Calls.
  bool StartNext(bool hedge);
  bool StartCall(size_t candidate, int retry, bool hedge);
  void StartDueRetries(SteadyTime now);
  void CheckTimeouts(SteadyTime now);
  void Settle(const CallPtr& call, AttemptOutcome outcome);
  static void Stop(Call& call);
  static void Estimate(const Call& call, Attempt* attempt);
  void SettleOthers(const Call* except);
  void ReportEnd(const CallPtr& call);

  // The answer.
  void Consider();
  bool Holds(const Call& call, SteadyTime now) const;
  static bool IsFull(const Call& call);
  void Choose(CallPtr call);
  void Feed(const CallPtr& call, TextDelta&& piece);
  void FinishWith(const CallPtr& call, const Finished& finished);
  void Show(std::optional<TextDelta> piece);
  void Commit();
  void Problem(const CallPtr& call, Failure failure);
  void AfterEarlyFailure(const CallPtr& call, const Failure& failure);
  void GoOnOrFail();
  void HandOff(const CallPtr& call, const Failure& failure);
  int64_t TokensShown() const;

  // The end.
  void End(FinishReason reason);
  void Fail(Failure failure);
  void EmitWhenFiguresAreIn();
  void Emit(GenerateEvent event);
  void MaybeDone();
  std::vector<Attempt> Attempts() const;
  double Since(SteadyTime time) const { return MillisecondsBetween(started_, time); }
  SteadyTime Now() const { return plan_->options.clock->Now(); }
  bool over() const { return sink_ == nullptr || ending_.has_value(); }

  void Arm();
  SteadyTime NextDue() const;

  const std::shared_ptr<Relay::Plan> plan_;

  std::mutex mutex_;
  bool busy_ = false;         // guarded by mutex_: some thread handles inputs
  std::vector<Input> inbox_;  // guarded by mutex_

  // Of the thread that handles inputs.
  GenerateRequest request_;
  const std::optional<int32_t> max_tokens_;
  EventSink sink_;  // null once the terminal event was sent
  AnswerText text_;
  SteadyTime started_;
  std::vector<CallPtr> calls_;  // in the order of their starts
  std::vector<bool> used_;      // candidates that are not to be started (again)
  CallPtr leader_;              // the first with text; null: none has any
  CallPtr active_;              // whose text is the answer's; null: not chosen yet
  std::vector<Retry> retries_;
  std::vector<Failure> failures_;  // since the start, then since the commit
  std::optional<size_t> committed_;
  std::string separator_;  // what stood behind the shown text before it was taken back
  std::optional<SteadyTime> first_shown_;
  std::optional<Finished> ending_;  // the terminal event, waiting for figures
  SteadyTime figures_due_;
  Report report_;
  bool done_ = false;
  TimerHandle timer_;
  SteadyTime armed_for_;
  bool dues_changed_ = false;
};

}  // namespace tandem::gateway::relay
