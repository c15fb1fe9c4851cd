#include "gateway/answer.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "gateway/dispatch/answer_check.h"
#include "gateway/openai/error_table.h"

namespace tandem::gateway {
namespace {

// One write of what waited: well below half of net/'s buffer, so that it always fits when net/ says
// that there is room again.
constexpr size_t kFlushBytes = size_t{16} << 10;

}  // namespace

void AddRetryHeaders(const Failure& failure, net::Headers* headers) {
  // A 429 that passes only with a larger budget, which official clients would ask for again at
  // once.
  if (failure.code == FailureCode::kBudgetExceeded) headers->Set("x-should-retry", "false");
  if (failure.retry_after) {
    // Whole seconds, and not too early.
    const auto seconds = std::chrono::ceil<std::chrono::seconds>(*failure.retry_after);
    headers->Set("Retry-After", std::to_string(std::max<int64_t>(1, seconds.count())));
    return;
  }
  const bool busy = failure.code == FailureCode::kRateLimited ||
                    failure.code == FailureCode::kShuttingDown ||
                    failure.code == FailureCode::kUnavailable;
  if (busy) headers->Set("Retry-After", "1");
}

std::optional<InFlightSlot> InFlightSlot::TryTake(std::shared_ptr<std::atomic<int>> count,
                                                  int limit) {
  if (count->fetch_add(1) >= limit) {
    count->fetch_sub(1);
    return std::nullopt;
  }
  return InFlightSlot(std::move(count));
}

InFlightSlot::~InFlightSlot() {
  if (count_ != nullptr) count_->fetch_sub(1);
}

Answer::Answer(AnswerPlan plan, std::shared_ptr<dispatch::RoutedRequest> routed,
               std::shared_ptr<net::HttpResponse> response, InFlightSlot slot)
    : routed_(std::move(routed)),
      response_(std::move(response)),
      plan_(std::move(plan)),
      slot_(std::move(slot)) {}

void Answer::Run(AnswerPlan plan, const std::shared_ptr<dispatch::RoutedRequest>& routed,
                 std::shared_ptr<net::HttpResponse> response, InFlightSlot slot) {
  auto answer =
      std::make_shared<Answer>(std::move(plan), routed, std::move(response), std::move(slot));
  // Weak: the response must not own, through its callback, what owns it.
  answer->response_->OnClosed([weak = std::weak_ptr(answer)] {
    if (auto self = weak.lock()) self->OnClosed();
  });
  if (answer->plan_.timers != nullptr && answer->plan_.form == AnswerForm::kChunks) {
    answer->last_sent_ = answer->plan_.clock->Now();
    answer->ArmHeartbeat(answer->plan_.heartbeat);
  }
  std::shared_ptr<Generation> generation =
      routed->Start([answer](GenerateEvent&& event) { answer->OnEvent(std::move(event)); });
  bool cancel = false;
  {
    std::lock_guard lock(answer->mutex_);
    if (answer->ended_) return;
    answer->generation_ = generation;
    cancel = answer->cancelled_;
  }
  if (cancel) generation->Cancel();
}

void Answer::OnEvent(GenerateEvent&& event) {
  if (auto* delta = std::get_if<TextDelta>(&event)) return OnText(std::move(*delta));

  std::shared_ptr<Generation> generation;  // dropped after the lock
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
    generation = std::exchange(generation_, nullptr);
  }
  if (auto* finished = std::get_if<Finished>(&event)) OnFinished(std::move(*finished));
  if (auto* failed = std::get_if<Failed>(&event)) {
    if (!failed->attempts.empty() && !failed->failure.retry_after) {
      // Everything that could be tried was: a client that tries again only multiplies it.
      plan_.headers.Set("x-should-retry", "false");
    }
    Fail(failed->failure);
  }
  slot_.reset();
}

void Answer::OnText(TextDelta&& delta) {
  std::ranges::move(delta.logprobs, std::back_inserter(logprobs_));
  if (delta.text.empty()) return;
  if (!plan_.wants_calls) return DeliverText(delta.text);
  std::vector<openai::ToolCallEvent> events;
  calls_in_text_.Push(delta.text, &events);
  Deliver(std::move(events));
}

void Answer::OnFinished(Finished finished) {
  if (finished.reason == FinishReason::kCancelled) {
    return Fail({FailureCode::kCancelled, "the answer was cancelled before it was complete"},
                &finished);
  }
  if (finished.reason == FinishReason::kDegenerate) {
    return Fail({FailureCode::kOutputValidationFailed,
                 fmt::format("the generated text failed a check: {}", finished.detail)},
                &finished);
  }
  std::vector<openai::ToolCallEvent> events;
  calls_in_text_.Finish(&events);
  Deliver(std::move(events));
  if (plan_.quality_check && n_calls_ == 0) {
    if (const auto found = dispatch::FindDegeneration(text_)) {
      return Fail({FailureCode::kOutputValidationFailed,
                   fmt::format("the generated text failed a check: {}", *found)},
                  &finished);
    }
  }
  Complete(finished);
}

void Answer::Deliver(std::vector<openai::ToolCallEvent> events) {
  for (openai::ToolCallEvent& event : events) {
    if (auto* text = std::get_if<std::string>(&event)) DeliverText(*text);
    if (auto* call = std::get_if<ToolCall>(&event)) DeliverCall(std::move(*call));
  }
}

void Answer::DeliverText(std::string_view text) {
  const bool whole = plan_.form == AnswerForm::kWhole;
  if (whole || plan_.quality_check) text_ += text;
  if (whole || !OpenStream()) return;
  Send(stream_->Text(text, logprobs_), false);
  logprobs_.clear();
}

void Answer::DeliverCall(ToolCall call) {
  if (n_calls_ > 0 && !plan_.parallel_tool_calls) return;
  // Unique without another source of randomness: the answer's id is.
  call.id = fmt::format("call_{}_{}", plan_.head.id.substr(plan_.head.id.find('-') + 1), n_calls_);
  ++n_calls_;
  if (plan_.form == AnswerForm::kWhole) {
    calls_.push_back(std::move(call));
  } else if (OpenStream()) {
    Send(stream_->Call(call), false);
  }
}

void Answer::Complete(const Finished& finished) {
  const openai::AnswerEnd end{finished.reason,  n_calls_ > 0,    finished.usage,
                              finished.ttft_ms, finished.e2e_ms, finished.attempts};
  bool delivered = false;
  if (plan_.form != AnswerForm::kWhole) {
    if (OpenStream()) {
      // Those of tokens without text of their own, such as the one that ends the turn.
      if (plan_.wants_logprobs && !logprobs_.empty()) Send(stream_->Text("", logprobs_), false);
      delivered = Send(stream_->End(end), true);
    }
  } else {
    ClaimWhole();
    openai::Completion completion{plan_.head, std::move(text_), std::move(calls_), std::nullopt,
                                  end,        std::nullopt};
    if (plan_.wants_logprobs) completion.logprobs = std::move(logprobs_);
    if (plan_.include_route) completion.route = plan_.route;
    plan_.headers.Set("Content-Type", "application/json");
    delivered = response_->SendFull(200, plan_.headers, CompletionBody(completion));
  }
  Log(delivered ? openai::FinishReasonName(end) : "client gone", &finished);
}

void Answer::Fail(const Failure& failure, const Finished* finished) {
  const openai::WireError& wire = openai::WireErrorOf(failure.code);
  bool closed = false;
  {
    std::lock_guard lock(mutex_);
    closed = closed_;
  }
  if (closed) return Log("client gone", finished);
  if (!ClaimWhole()) {
    Send(stream_->Fail(failure), true);
  } else {
    AddRetryHeaders(failure, &plan_.headers);
    plan_.headers.Set("Content-Type", "application/json");
    response_->SendFull(wire.http_status, plan_.headers, openai::ErrorBody(failure));
  }
  Log(wire.code, finished);
}

// Who answers is known: it goes into the headers, the objects of the answer and the log.
void Answer::NameRoute() {
  const dispatch::RoutedRequest::Route route = routed_->route();
  plan_.headers.Set("x-tandem-tier", TierName(route.tier));
  plan_.headers.Set("x-tandem-model", route.model);
  plan_.headers.Set("x-tandem-route-reason", route.reason);
  plan_.head.model = route.model;
  plan_.route.model = route.model;
  plan_.route.tier = route.tier;
  plan_.route.reason = route.reason;
}

// The stream's head is out after this. False: the client is gone, or the response is no stream.
bool Answer::OpenStream() {
  std::lock_guard open_lock(open_mutex_);
  if (settled_ != Settled::kNot) return settled_ == Settled::kStream;
  settled_ = Settled::kStream;
  NameRoute();
  openai::StreamOptions options{plan_.include_usage, plan_.wants_logprobs, std::nullopt};
  if (plan_.include_route) options.route = plan_.route;
  stream_ = plan_.form == AnswerForm::kChunks ? NewChunkStream(plan_.head, std::move(options))
                                              : NewLineStream(plan_.head, std::move(options));
  plan_.headers.Set("Content-Type", "text/event-stream; charset=utf-8");
  plan_.headers.Set("Cache-Control", "no-cache");
  plan_.headers.Set("X-Accel-Buffering", "no");  // asks proxies in between not to hold it back
  if (!response_->StartStream(200, plan_.headers)) {
    OnClosed();
    return false;
  }
  std::string head = stream_->Start();
  std::lock_guard lock(mutex_);
  head_ = std::move(head);
  return true;
}

// The response is one body after this. False: it is a stream already.
bool Answer::ClaimWhole() {
  std::lock_guard open_lock(open_mutex_);
  if (settled_ == Settled::kStream) return false;
  settled_ = Settled::kWhole;
  NameRoute();
  return true;
}

void Answer::ArmHeartbeat(std::chrono::milliseconds delay) {
  relay::TimerHandle handle = plan_.timers->After(delay, [weak = weak_from_this()] {
    if (auto self = weak.lock()) self->Heartbeat();
  });
  std::lock_guard lock(mutex_);
  heartbeat_ = std::move(handle);
}

void Answer::Heartbeat() {
  std::chrono::milliseconds wait = plan_.heartbeat;
  {
    std::lock_guard lock(mutex_);
    if (ended_ || closed_) return;
    const auto silent =
        std::chrono::duration_cast<std::chrono::milliseconds>(plan_.clock->Now() - last_sent_);
    wait -= silent;
  }
  if (wait.count() <= 0) {
    // Before the first token too: that is when it takes longest. What fails from now on is told in
    // the stream.
    if (!OpenStream() || !Send(": still working\n\n", false)) return;
    wait = plan_.heartbeat;
  }
  ArmHeartbeat(wait);
}

// Writes a piece of the stream, behind its opening event. False: the client is gone.
bool Answer::Send(std::string bytes, bool last) {
  bool overflow = false;
  {
    std::lock_guard lock(mutex_);
    if (closed_ || finish_when_flushed_) return false;
    if (!head_.empty()) bytes.insert(0, std::exchange(head_, {}));
    if (plan_.timers != nullptr) last_sent_ = plan_.clock->Now();
    const bool waiting = !pending_.empty();
    finish_when_flushed_ = last;
    net::WriteResult result = net::WriteResult::kFull;
    if (!waiting && bytes.size() <= kFlushBytes &&
        (result = response_->Write(bytes)) != net::WriteResult::kFull) {
      if (result == net::WriteResult::kOk && last) response_->Finish();
    } else {
      pending_ += bytes;
      if (!waiting) result = FlushLocked();
    }
    closed_ = result == net::WriteResult::kClosed;
    if (result == net::WriteResult::kFull) {
      overflow = pending_.size() > plan_.max_pending_bytes;
      closed_ = overflow;
      if (!overflow && last) keep_alive_ = shared_from_this();
      if (!overflow && !waiting) AwaitWritableLocked();
    }
    if (!closed_) return true;
  }
  if (overflow) {
    log::Warning("{} cut: the client left {} bytes unread", plan_.route.request_id,
                 plan_.max_pending_bytes);
    response_->Abort();
  }
  Cancel();
  return false;
}

// Hands over what waits; kFull while some of it still does.
net::WriteResult Answer::FlushLocked() {
  size_t taken = 0;
  net::WriteResult result = net::WriteResult::kOk;
  while (taken < pending_.size() && result == net::WriteResult::kOk) {
    const std::string_view piece = std::string_view(pending_).substr(taken, kFlushBytes);
    result = response_->Write(piece);
    if (result == net::WriteResult::kOk) taken += piece.size();
  }
  pending_.erase(0, taken);
  if (result == net::WriteResult::kOk && finish_when_flushed_) response_->Finish();
  return result;
}

void Answer::AwaitWritableLocked() {
  response_->OnWritable([weak = weak_from_this()] {
    if (auto self = weak.lock()) self->OnWritable();
  });
}

void Answer::OnWritable() {
  std::shared_ptr<Answer> last_reference;  // dropped after the lock
  bool cancel = false;
  {
    std::lock_guard lock(mutex_);
    if (closed_) return;
    switch (FlushLocked()) {
      case net::WriteResult::kFull:
        return AwaitWritableLocked();
      case net::WriteResult::kClosed:
        closed_ = true;
        cancel = true;
        break;
      case net::WriteResult::kOk:
        break;
    }
    if (closed_ || finish_when_flushed_) last_reference = std::move(keep_alive_);
  }
  if (cancel) Cancel();
}

void Answer::OnClosed() {
  std::shared_ptr<Answer> last_reference;  // dropped after the lock
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    pending_.clear();
    last_reference = std::move(keep_alive_);
  }
  Cancel();
}

void Answer::Cancel() {
  std::shared_ptr<Generation> generation;
  {
    std::lock_guard lock(mutex_);
    cancelled_ = true;
    generation = generation_;
  }
  if (generation != nullptr) generation->Cancel();
}

// Never the text: the privacy contract covers logs.
void Answer::Log(std::string_view outcome, const Finished* finished) const {
  const Usage usage = finished == nullptr ? Usage{} : finished->usage;
  log::Info(
      "{} key={} model={} tier={} outcome={} prompt={} completion={} ttft_ms={:.1f} "
      "e2e_ms={:.1f}",
      plan_.route.request_id, plan_.key_id, plan_.route.model, TierName(plan_.route.tier), outcome,
      usage.prompt_tokens, usage.completion_tokens, finished == nullptr ? 0 : finished->ttft_ms,
      finished == nullptr ? 0 : finished->e2e_ms);
}

}  // namespace tandem::gateway
