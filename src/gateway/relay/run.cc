#include "gateway/relay/run.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "gateway/relay/continuation.h"
#include "gateway/relay/rules.h"

namespace tandem::gateway::relay {
namespace {

using std::chrono::milliseconds;

constexpr size_t kMaxBufferedPieces = 64;
constexpr size_t kMaxBufferedBytes = size_t{256} << 10;
// A cancelled call tells its figures with the next token; who tells none by then is estimated.
constexpr milliseconds kFiguresGrace{200};

bool OnlySpaces(std::string_view text) {
  return text.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

std::string LeadingSpaces(std::string_view text) {
  return std::string(text.substr(0, text.find_first_not_of(" \t\r\n")));
}

AnswerText::Options TextOptions(const Options& options, const GenerateRequest& request) {
  return {.detect_repetition = options.detect_repetition,
          .json = options.expect_json,
          .tools = !request.tools_json.empty(),
          .stop = request.stop};
}

bool HasText(const Attempt& attempt) { return attempt.text_end > attempt.text_begin; }

}  // namespace

Run::Run(std::shared_ptr<Relay::Plan> plan, GenerateRequest request, EventSink sink)
    : plan_(std::move(plan)),
      request_(std::move(request)),
      max_tokens_(request_.max_tokens),
      sink_(std::move(sink)),
      text_(TextOptions(plan_->options, request_)),
      used_(plan_->candidates.size(), false) {}

void Run::Post(Input input) {
  {
    std::lock_guard lock(mutex_);
    if (busy_) {
      inbox_.push_back(std::move(input));
      return;
    }
    busy_ = true;
  }
  Handle(std::move(input));
  HandleInbox();
}

void Run::PostEvent(const CallPtr& call, GenerateEvent&& event) {
  {
    std::lock_guard lock(mutex_);
    if (busy_) {
      inbox_.emplace_back(ProviderSays{call, std::move(event)});
      return;
    }
    busy_ = true;
  }
  HandleEvent(call, std::move(event));
  HandleInbox();
}

// What came meanwhile; nobody is at work after this.
void Run::HandleInbox() {
  std::vector<Input> work;
  while (true) {
    {
      std::lock_guard lock(mutex_);
      if (inbox_.empty()) {
        busy_ = false;
        return;
      }
      std::swap(work, inbox_);
    }
    for (Input& next : work) Handle(std::move(next));
    work.clear();
  }
}

void Run::HandleEvent(const CallPtr& call, GenerateEvent&& event) {
  if (auto* piece = std::get_if<TextDelta>(&event)) {
    OnText(call, std::move(*piece));
  } else {
    OnTerminal(call, std::move(event));
  }
  if (dues_changed_) Arm();
}

void Run::Handle(Input input) {
  if (auto* said = std::get_if<ProviderSays>(&input)) {
    return HandleEvent(said->call, std::move(said->event));
  }
  if (std::holds_alternative<CancelAsked>(input)) {
    OnCancel();
  } else if (std::holds_alternative<TimerFired>(input)) {
    OnTimer();
  } else {
    started_ = Now();
    if (plan_->options.retry_budget != nullptr) plan_->options.retry_budget->OnRequest();
    dues_changed_ = true;
    GoOnOrFail();
  }
  if (dues_changed_) Arm();
}

// ---- what comes in ----------------------------------------------------------------------------

void Run::OnCancel() {
  if (sink_ == nullptr) return;
  if (ending_) return Emit(*std::exchange(ending_, std::nullopt));
  SettleOthers(nullptr);
  Emit(Finished{.reason = FinishReason::kCancelled});
}

void Run::OnTimer() {
  timer_.reset();
  dues_changed_ = true;
  const SteadyTime now = Now();
  if (sink_ == nullptr) return;
  if (ending_) return EmitWhenFiguresAreIn();
  const milliseconds deadline = plan_->options.deadline;
  if (deadline.count() > 0 && now >= started_ + deadline) {
    Failure failure{FailureCode::kDeadlineExceeded,
                    fmt::format("the answer was not complete within its {} ms", deadline.count())};
    if (committed_) Show(text_.ReleaseAll());
    for (const CallPtr& call : calls_) {
      if (call->settled) continue;
      call->attempt.failure = failure.code;
      call->attempt.detail = "the deadline of the whole request";
      Settle(call, AttemptOutcome::kFailed);
    }
    return Fail(std::move(failure));
  }
  StartDueRetries(now);
  CheckTimeouts(now);
  Consider();
}

void Run::CheckTimeouts(SteadyTime now) {
  const std::vector<CallPtr> calls = calls_;  // what follows may start more
  for (const CallPtr& call : calls) {
    if (over()) return;
    if (call->settled || call->ended) continue;
    const Candidate& candidate = plan_->candidates[call->candidate];
    const Timeouts& limits = candidate.timeouts;
    const auto passed = [&](SteadyTime since, milliseconds limit) {
      return limit.count() > 0 && now >= since + limit;
    };
    std::string_view what;
    milliseconds limit{};
    if (!call->any_event && passed(call->started, limits.first_token)) {
      what = "no first token";
      limit = limits.first_token;
    } else if (call->any_event && passed(call->last_event, limits.between_tokens)) {
      what = "no further token";
      limit = limits.between_tokens;
    } else if (passed(call->started, limits.total)) {
      what = "no end";
      limit = limits.total;
    }
    if (!what.empty()) {
      Problem(call,
              {FailureCode::kDeadlineExceeded,
               fmt::format("{} from {} within {} ms", what, call->attempt.model, limit.count())});
    } else if (!committed_ && !active_ && !call->hedged && !call->first_text &&
               candidate.hedge_after && now >= call->started + *candidate.hedge_after) {
      call->hedged = true;
      StartNext(true);
    }
  }
}

void Run::StartDueRetries(SteadyTime now) {
  std::vector<Retry> due;
  std::erase_if(retries_, [&](const Retry& retry) {
    if (retry.due > now) return false;
    due.push_back(retry);
    return true;
  });
  for (const Retry& retry : due) {
    if (!over() && !StartCall(retry.candidate, retry.number, false)) GoOnOrFail();
  }
}

void Run::OnText(const CallPtr& call, TextDelta&& piece) {
  call->last_event = Now();
  if (!call->any_event) dues_changed_ = true;
  call->any_event = true;
  if (!piece.text.empty()) {
    const uint64_t begin = call->piece_ends.empty() ? 0 : call->piece_ends.back();
    call->piece_ends.push_back(begin + piece.text.size());
  }
  if (call->settled) return;
  if (!call->first_text && !OnlySpaces(piece.text)) {
    call->first_text = call->last_event;
    call->attempt.ttft_ms = MillisecondsBetween(call->started, call->last_event);
    if (leader_ == nullptr) leader_ = call;
    dues_changed_ = true;
  }
  if (call == active_) return Feed(call, std::move(piece));
  if (piece.text.empty() && piece.logprobs.empty()) return;
  call->buffer_bytes += piece.text.size();
  call->buffer.push_back(std::move(piece));
  if (!call->first_text && IsFull(*call)) {
    return Problem(call, {FailureCode::kOutputValidationFailed,
                          fmt::format("{} wrote nothing but white space", call->attempt.model)});
  }
  Consider();
}

void Run::OnTerminal(const CallPtr& call, GenerateEvent event) {
  call->ended = true;
  call->attempt.ended_ms = Since(Now());
  // Destroyed when this function returns: it may be the provider's own thread, which is allowed.
  const std::unique_ptr<Generation> generation = std::move(call->generation);
  dues_changed_ = true;
  auto* finished = std::get_if<Finished>(&event);
  auto* failed = std::get_if<Failed>(&event);
  call->attempt.usage = finished != nullptr ? finished->usage : failed->usage;
  call->attempt.egress = std::move(finished != nullptr ? finished->egress : failed->egress);

  if (call->settled) {
    ReportEnd(call);
    if (ending_) EmitWhenFiguresAreIn();
    return MaybeDone();
  }
  if (failed != nullptr) return Problem(call, std::move(failed->failure));
  switch (finished->reason) {
    case FinishReason::kCancelled:
      return Problem(call, {FailureCode::kUnavailable,
                            fmt::format("{} gave the answer up", call->attempt.model)});
    case FinishReason::kDegenerate:
      return Problem(call,
                     {FailureCode::kOutputValidationFailed,
                      fmt::format("the generated text failed a check: {}", finished->detail)});
    case FinishReason::kStop:
    case FinishReason::kLength:
    case FinishReason::kContentFilter:
      break;
  }
  if (call == active_) return FinishWith(call, *finished);
  if (!call->first_text && finished->reason == FinishReason::kStop) {
    return Problem(call, {FailureCode::kOutputValidationFailed,
                          fmt::format("{} gave an empty answer", call->attempt.model)});
  }
  call->finished = std::move(*finished);
  if (leader_ == nullptr) leader_ = call;
  Consider();
}

// ---- calls ------------------------------------------------------------------------------------

// Starts the first candidate that may be and was not; false where there is none.
bool Run::StartNext(bool hedge) {
  for (size_t i = 0; i < used_.size(); ++i) {
    if (used_[i]) continue;
    if (committed_ && plan_->candidates[i].continuation == Continuation::kNone) continue;
    used_[i] = true;
    if (StartCall(i, 0, hedge)) return true;
  }
  return false;
}

bool Run::StartCall(size_t index, int retry, bool hedge) {
  const Candidate& candidate = plan_->candidates[index];
  auto call = std::make_shared<Call>();
  call->candidate = index;
  call->started = Now();
  call->last_event = call->started;
  Attempt& attempt = call->attempt;
  attempt.target = candidate.target;
  attempt.model = candidate.provider->model();
  attempt.tier = candidate.tier.value_or(candidate.provider->tier());
  attempt.reason = candidate.reason;
  attempt.retry = retry;
  attempt.hedge = hedge;
  attempt.started_ms = Since(call->started);
  attempt.text_begin = attempt.text_end = text_.shown();
  if (plan_->options.prompt_tokens > 0) {
    call->prompt_tokens = plan_->options.prompt_tokens + (committed_ ? TokensShown() : 0);
  }
  calls_.push_back(call);
  if (plan_->observer != nullptr && !plan_->observer->Begin(index)) {
    attempt.outcome = AttemptOutcome::kSkipped;
    attempt.ended_ms = attempt.started_ms;
    call->settled = call->ended = call->reported = true;
    return false;
  }
  // The last use of it needs no copy: nobody else can be asked.
  const bool last = plan_->candidates.size() == 1 && candidate.max_retries <= retry;
  GenerateRequest request = last ? std::move(request_) : request_;
  if (committed_) {
    const std::string_view said = std::string_view(text_.text()).substr(0, text_.shown());
    request = ContinueFrom(request_, candidate.continuation, said, TokensShown());
    if (candidate.continuation == Continuation::kPrompted) {
      call->overlap.emplace(said, OverlapFilter::Options{separator_, text_.Grammar()});
    }
    active_ = call;
  }
  dues_changed_ = true;
  call->generation = candidate.provider->Start(
      std::move(request), [self = shared_from_this(), call](GenerateEvent&& event) {
        self->PostEvent(call, std::move(event));
      });
  return true;
}

// The answer is done with the call; a running one is cancelled.
void Run::Settle(const CallPtr& call, AttemptOutcome outcome) {
  if (call->settled) return;
  call->settled = true;
  call->attempt.outcome = outcome;
  if (call == active_) {
    call->attempt.text_end = text_.shown();
    active_ = nullptr;
  }
  if (call == leader_) {
    leader_ = nullptr;
    for (const CallPtr& other : calls_) {
      if (other->settled || (!other->first_text && !other->finished)) continue;
      if (leader_ == nullptr || other->first_text < leader_->first_text) leader_ = other;
    }
  }
  call->buffer.clear();
  dues_changed_ = true;
  if (!call->ended) {
    call->attempt.ended_ms = Since(Now());
    Stop(*call);
  }
  ReportEnd(call);
}

void Run::Stop(Call& call) {
  if (call.generation != nullptr && !std::exchange(call.stopped, true)) call.generation->Cancel();
}

void Run::SettleOthers(const Call* except) {
  retries_.clear();
  for (const CallPtr& call : calls_) {
    if (call.get() != except) Settle(call, AttemptOutcome::kCancelled);
  }
}

// A call that wrote something used its prompt and those tokens, whether it told them or broke off.
void Run::Estimate(const Call& call, Attempt* attempt) {
  if (call.piece_ends.empty()) return;
  Usage& usage = attempt->usage;
  if (usage.completion_tokens == 0) {
    usage.completion_tokens = std::ssize(call.piece_ends);
    attempt->usage_estimated = true;
  }
  if (usage.prompt_tokens == 0 && call.prompt_tokens > 0) {
    usage.prompt_tokens = call.prompt_tokens;
    attempt->usage_estimated = true;
  }
}

void Run::ReportEnd(const CallPtr& call) {
  if (!call->ended || !call->settled || std::exchange(call->reported, true)) return;
  Estimate(*call, &call->attempt);
  if (plan_->observer != nullptr) plan_->observer->End(call->candidate, call->attempt);
}

// ---- the answer -------------------------------------------------------------------------------

// Chooses the call whose text becomes the answer, where that can be said already.
void Run::Consider() {
  if (over() || active_ != nullptr || committed_ || leader_ == nullptr) return;
  const SteadyTime now = Now();
  if (leader_->finished || !Holds(*leader_, now)) return Choose(leader_);
  // A call that is only waited for becomes the answer when no more of it may be kept.
  for (const CallPtr& call : calls_) {
    if (!call->settled && call->first_text && IsFull(*call)) return Choose(call);
  }
}

bool Run::IsFull(const Call& call) {
  return call.buffer.size() >= kMaxBufferedPieces || call.buffer_bytes >= kMaxBufferedBytes;
}

bool Run::Holds(const Call& call, SteadyTime now) const {
  const Candidate& candidate = plan_->candidates[call.candidate];
  if (candidate.hold_tokens <= 0 && candidate.hold.count() <= 0) return false;
  if (candidate.hold_tokens > 0 && std::ssize(call.piece_ends) >= candidate.hold_tokens) {
    return false;
  }
  return candidate.hold.count() <= 0 || now < *call.first_text + candidate.hold;
}

// By value: `call` may be named by leader_ or calls_, which change on the way.
void Run::Choose(CallPtr call) {
  active_ = call;
  dues_changed_ = true;
  std::vector<TextDelta> pieces = std::move(call->buffer);
  for (TextDelta& piece : pieces) {
    Feed(call, std::move(piece));
    if (active_ != call) return;
  }
  if (call->finished) FinishWith(call, *call->finished);
}

void Run::Feed(const CallPtr& call, TextDelta&& piece) {
  if (call->overlap) {
    std::string news;
    if (!call->overlap->Push(piece.text, &news)) {
      return Problem(call, {FailureCode::kOutputValidationFailed,
                            "the continuation began the answer again with other words"});
    }
    piece.text = std::move(news);
    if (piece.text.empty()) piece.logprobs.clear();
  }
  switch (text_.Append(std::move(piece))) {
    case AnswerText::Verdict::kGoesOn:
      return Show(text_.Release());
    case AnswerText::Verdict::kComplete:
      Show(text_.ReleaseAll());
      Settle(call, AttemptOutcome::kAnswered);
      return End(FinishReason::kStop);
    case AnswerText::Verdict::kRepeats:
      return Problem(call, {FailureCode::kOutputValidationFailed,
                            fmt::format("the generated text failed a check: {}: {}",
                                        text_.finding().check, text_.finding().figure)});
    case AnswerText::Verdict::kBrokenJson:
      return Problem(call, {FailureCode::kOutputValidationFailed,
                            fmt::format("the generated text failed a check: json: not JSON from "
                                        "byte {} on",
                                        text_.text().size())});
  }
}

// The active call ended by itself.
void Run::FinishWith(const CallPtr& call, const Finished& finished) {
  if (call->overlap) {
    TextDelta rest;
    call->overlap->Finish(&rest.text);
    call->overlap.reset();
    if (!rest.text.empty()) {
      Feed(call, std::move(rest));
      if (active_ != call) return;
    }
  }
  // What was cut by its length or by a filter is what it is.
  if (finished.reason == FinishReason::kStop && !text_.whole()) {
    return Problem(call, {FailureCode::kOutputValidationFailed,
                          fmt::format("the generated text failed a check: json: it ends inside "
                                      "the value, at byte {}",
                                      text_.text().size())});
  }
  Show(text_.ReleaseAll());
  Settle(call, AttemptOutcome::kAnswered);
  End(finished.reason);
}

void Run::Show(std::optional<TextDelta> piece) {
  if (!piece) return;
  if (!committed_) Commit();
  sink_(*std::move(piece));
}

void Run::Commit() {
  committed_ = active_->candidate;
  first_shown_ = Now();
  dues_changed_ = true;
  failures_.clear();
  for (const CallPtr& call : calls_) {
    // Those that were only slower may still be asked to go on.
    if (call != active_ && !call->settled) used_[call->candidate] = false;
  }
  SettleOthers(active_.get());
  plan_->shown = *committed_;
  if (plan_->observer != nullptr) plan_->observer->Committed(*committed_);
}

// The call cannot go on: another one has to, or the answer fails.
void Run::Problem(const CallPtr& call, Failure failure) {
  call->attempt.failure = failure.code;
  call->attempt.detail = failure.message;
  failures_.push_back(failure);
  if (committed_) return HandOff(call, failure);
  if (call == active_) text_.Rewind();
  Settle(call, AttemptOutcome::kFailed);
  AfterEarlyFailure(call, failure);
}

void Run::AfterEarlyFailure(const CallPtr& call, const Failure& failure) {
  if (EndsAnswer(failure.code)) return Fail(failure);
  const Options& options = plan_->options;
  const int n_retries = call->attempt.retry;
  if (MayRetry(failure.code) && n_retries < plan_->candidates[call->candidate].max_retries) {
    const double random = options.random ? options.random() : 0.5;
    const milliseconds delay = RetryDelay(n_retries, failure, random);
    const SteadyTime due = Now() + delay;
    const bool in_time = options.deadline.count() <= 0 || due < started_ + options.deadline;
    if (delay <= kMaxRetryDelay && in_time &&
        (options.retry_budget == nullptr || options.retry_budget->TryTake())) {
      retries_.push_back({call->candidate, n_retries + 1, due});
    }
  }
  GoOnOrFail();
}

// Before the commit: sees to it that somebody works on the answer.
void Run::GoOnOrFail() {
  if (!retries_.empty() ||
      std::ranges::any_of(calls_, [](const CallPtr& call) { return !call->settled; })) {
    return Consider();
  }
  if (StartNext(false)) return;
  if (failures_.empty()) {
    failures_.push_back({FailureCode::kUnavailable,
                         "no model can take this request right now; try again in a moment"});
  }
  Fail(MostTelling(failures_));
}

// After the commit.
void Run::HandOff(const CallPtr& call, const Failure& failure) {
  const bool bad_tail = failure.code == FailureCode::kOutputValidationFailed;
  const std::string_view held = std::string_view(text_.text()).substr(text_.shown());
  // JSON and calls know where a space belongs.
  if (!held.empty() && !text_.Grammar()) separator_ = LeadingSpaces(held);
  call->attempt.text_end = text_.shown();
  Stop(*call);
  active_ = nullptr;

  const Options& options = plan_->options;
  const bool in_time = options.deadline.count() <= 0 || Now() < started_ + options.deadline;
  const bool allowed = options.hand_off_allowed && in_time && !EndsAnswer(failure.code);
  const bool spent = max_tokens_ && TokensShown() >= *max_tokens_;
  if (allowed && !spent && StartNext(false)) {
    // Its first event is handled after this.
    text_.Rewind();
    return Settle(call,
                  HasText(call->attempt) ? AttemptOutcome::kHandedOff : AttemptOutcome::kFailed);
  }
  if (!bad_tail) {
    Show(text_.ReleaseAll());
    call->attempt.text_end = text_.shown();
  }
  if (allowed && spent) {
    Settle(call, AttemptOutcome::kAnswered);
    return End(FinishReason::kLength);
  }
  Settle(call, AttemptOutcome::kFailed);
  Fail(MostTelling(failures_));
}

// How many of the client's max_tokens the shown text took. A piece is a token as far as anyone
// knows; where a call reports its tokens, the shown pieces have their share of them.
int64_t Run::TokensShown() const {
  int64_t total = 0;
  for (const CallPtr& call : calls_) {
    const std::vector<uint64_t>& ends = call->piece_ends;
    if (!HasText(call->attempt) || ends.empty()) continue;
    const uint64_t n_bytes = call->attempt.text_end - call->attempt.text_begin;
    // A piece that was shown in part counts as well.
    const auto whole = std::ranges::lower_bound(ends, n_bytes) - ends.begin();
    const auto shown = std::min<int64_t>(whole + 1, std::ssize(ends));
    const int64_t told = call->ended ? call->attempt.usage.completion_tokens : 0;
    const int64_t n = std::ssize(ends);
    total += told > 0 ? (told * shown + n - 1) / n : shown;
  }
  return total;
}

// ---- the end ----------------------------------------------------------------------------------

void Run::End(FinishReason reason) {
  ending_ = Finished{.reason = reason};
  figures_due_ = Now() + kFiguresGrace;
  dues_changed_ = true;
  SettleOthers(nullptr);
  EmitWhenFiguresAreIn();
}

void Run::Fail(Failure failure) {
  SettleOthers(nullptr);
  Emit(Failed{.failure = std::move(failure)});
}

void Run::EmitWhenFiguresAreIn() {
  const bool missing = std::ranges::any_of(
      calls_, [](const CallPtr& call) { return !call->ended && HasText(call->attempt); });
  if (missing && Now() < figures_due_) return;
  Emit(*std::exchange(ending_, std::nullopt));
}

std::vector<Attempt> Run::Attempts() const {
  std::vector<Attempt> attempts;
  attempts.reserve(calls_.size());
  for (const CallPtr& call : calls_) {
    Attempt& attempt = attempts.emplace_back(call->attempt);
    if (!call->ended) Estimate(*call, &attempt);
  }
  return attempts;
}

void Run::Emit(GenerateEvent event) {
  const SteadyTime now = Now();
  report_.attempts = Attempts();
  const Attempt* last = nullptr;
  for (const Attempt& attempt : report_.attempts) {
    const bool shown = HasText(attempt) || attempt.outcome == AttemptOutcome::kAnswered;
    if (!shown) continue;
    if (last == nullptr)
      report_.usage = {attempt.usage.prompt_tokens, 0, attempt.usage.cached_tokens};
    report_.usage.completion_tokens += attempt.usage.completion_tokens;
    last = &attempt;
  }
  report_.committed = committed_;
  report_.ttft_ms = first_shown_ ? Since(*first_shown_) : 0;
  report_.e2e_ms = Since(now);
  const std::optional<Egress> egress = last != nullptr ? last->egress : std::nullopt;
  if (auto* finished = std::get_if<Finished>(&event)) {
    report_.finish = finished->reason;
    finished->usage = report_.usage;
    finished->ttft_ms = report_.ttft_ms;
    finished->e2e_ms = report_.e2e_ms;
    finished->egress = egress;
    finished->attempts = report_.attempts;
  } else if (auto* failed = std::get_if<Failed>(&event)) {
    report_.failure = failed->failure;
    failed->usage = report_.usage;
    failed->egress = egress;
    failed->attempts = report_.attempts;
  }
  EventSink sink = std::exchange(sink_, nullptr);
  dues_changed_ = true;
  sink(std::move(event));
  MaybeDone();
}

void Run::MaybeDone() {
  if (sink_ != nullptr || done_) return;
  if (!std::ranges::all_of(calls_, [](const CallPtr& call) { return call->ended; })) return;
  done_ = true;
  report_.attempts = Attempts();  // with the figures that came after the terminal event
  if (plan_->observer != nullptr) plan_->observer->Done(report_);
}

// ---- time -------------------------------------------------------------------------------------

SteadyTime Run::NextDue() const {
  SteadyTime next = SteadyTime::max();
  if (sink_ == nullptr) return next;
  if (ending_) return figures_due_;
  const auto at = [&](SteadyTime since, milliseconds limit) {
    if (limit.count() > 0) next = std::min(next, since + limit);
  };
  at(started_, plan_->options.deadline);
  for (const Retry& retry : retries_) next = std::min(next, retry.due);
  for (const CallPtr& call : calls_) {
    if (call->settled || call->ended) continue;
    const Candidate& candidate = plan_->candidates[call->candidate];
    if (call->any_event) {
      at(call->last_event, candidate.timeouts.between_tokens);
    } else {
      at(call->started, candidate.timeouts.first_token);
    }
    at(call->started, candidate.timeouts.total);
    if (committed_ || call == active_) continue;
    if (call == leader_) {
      if (call->first_text) at(*call->first_text, candidate.hold);
    } else if (!call->first_text && candidate.hedge_after && !call->hedged) {
      next = std::min(next, call->started + *candidate.hedge_after);
    }
  }
  return next;
}

// One timer, for whatever is due first. A due time that moved away (a token came) is noticed when
// the timer fires, so that a token costs nothing here.
void Run::Arm() {
  dues_changed_ = false;
  const SteadyTime next = NextDue();
  if (next == SteadyTime::max()) {
    timer_.reset();
    return;
  }
  if (timer_ != nullptr && armed_for_ <= next) return;
  armed_for_ = next;
  const auto delay = std::chrono::ceil<milliseconds>(next - Now());
  timer_ = plan_->options.timers->After(delay, [weak = weak_from_this()] {
    if (auto self = weak.lock()) self->Post(TimerFired{});
  });
}

}  // namespace tandem::gateway::relay
