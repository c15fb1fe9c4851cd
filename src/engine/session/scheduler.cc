#include "engine/session/scheduler.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/check.h"

namespace tandem::session {
namespace {

// Rows of decoding sessions and their drafts in one step.
int VerifyRows(const SchedulerOptions& options, const executor::StepLimits& limits) {
  return std::min({kMaxVerifyRows, limits.max_logit_rows,
                   limits.max_tokens - options.mixed_prefill_chunk_tokens});
}

// Below this a copy is not worth keeping two slots for.
constexpr int32_t kMinCopiedTokens = 16;

Error ShutDownError() {
  return {.code = ErrorCode::kCancelled,
          .message = "the model is being unloaded; send the request again",
          .param = {}};
}

}  // namespace

struct Scheduler::ExclusiveJob {
  executor::KvPrecision precision;
  Job run;
  Status status = {};
  bool done = false;  // under mutex_
};

Scheduler::Scheduler(executor::Executor* executor, SessionModel model,
                     const SchedulerOptions& options, const Clock* clock, ReadMemory read_memory)
    : executor_(executor),
      model_(std::move(model)),
      options_(options),
      clock_(clock),
      read_memory_(std::move(read_memory)),
      kept_(options.max_kept_slots),
      speculation_(options.speculation, VerifyRows(options, executor->limits()), executor, clock) {
  TANDEM_CHECK(options_.max_sessions >= 1 && options_.max_queued >= 0);
  TANDEM_CHECK(options_.prefill_chunk_tokens >= 1 && options_.mixed_prefill_chunk_tokens >= 1);
  TANDEM_CHECK(executor_->limits().max_logit_rows >= options_.max_sessions);
  TANDEM_CHECK(executor_->limits().max_tokens >=
               options_.max_sessions + options_.mixed_prefill_chunk_tokens);
  TANDEM_CHECK(executor_->limits().max_tokens >= options_.prefill_chunk_tokens);
  const int n_rows =
      options_.speculation == SpeculationMode::kOff
          ? options_.max_sessions
          : std::max(options_.max_sessions, VerifyRows(options_, executor_->limits()));
  logits_.resize(static_cast<size_t>(n_rows) * static_cast<size_t>(executor_->vocab_size()));
}

Scheduler::~Scheduler() { Shutdown(); }

Result<SubmissionId> Scheduler::Submit(Submission submission, EventSink sink) {
  SubmissionId id = 0;
  {
    const std::lock_guard lock(mutex_);
    id = next_id_++;
  }
  // Outside the lock: it looks at the whole prompt.
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<Session> session,
                          Session::Create(id, std::move(submission), model_, &sink, clock_->Now()));
  {
    const std::lock_guard lock(mutex_);
    if (shut_down_) return std::unexpected(ShutDownError());
    if (waiting_.size() >= static_cast<size_t>(options_.max_queued)) {
      return Err(ErrorCode::kResourceExhausted,
                 "{} requests are waiting for this model, as many as it queues: try again later",
                 waiting_.size());
    }
    waiting_.push_back(std::move(session));
    live_.insert(id);
  }
  work_.notify_all();
  return id;
}

void Scheduler::Cancel(SubmissionId id) {
  const std::lock_guard lock(mutex_);
  if (live_.contains(id)) cancelled_.insert(id);
  // What is live is running or waiting, so a step comes without being asked for.
}

Status Scheduler::RunExclusive(executor::KvPrecision precision, Job job) {
  ExclusiveJob exclusive{.precision = precision, .run = std::move(job)};
  std::unique_lock lock(mutex_);
  if (shut_down_) return std::unexpected(ShutDownError());
  jobs_.push_back(&exclusive);
  work_.notify_all();
  work_.wait(lock, [&] { return exclusive.done; });
  return std::move(exclusive.status);
}

MemoryFigures Scheduler::memory() const {
  return {.weights_bytes = executor_->weights_bytes(),
          .kv_cache_bytes = kv_cache_bytes_,
          .scratch_bytes = executor_->scratch_bytes() + logits_.size() * sizeof(float),
          .limit_bytes = options_.memory_limit_bytes};
}

Activity Scheduler::activity() const {
  const std::lock_guard lock(mutex_);
  return {.n_running = n_running_, .n_queued = static_cast<int>(waiting_.size())};
}

void Scheduler::Run(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    if (!RunStep()) WaitForWork(stop);
  }
  Shutdown();
}

void Scheduler::WaitForWork(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  work_.wait(lock, stop, [&] { return !waiting_.empty() || !jobs_.empty(); });
}

bool Scheduler::RunStep() {
  RunJobs();
  ApplyCancellations();
  Admit();
  if (running_.empty()) return false;
  BuildBatch();
  const size_t vocab_size = static_cast<size_t>(executor_->vocab_size());
  size_t n_rows = 0;
  for (const executor::SlotStep& step : batch_) n_rows += static_cast<size_t>(step.n_logit_rows);
  const SteadyTime started = clock_->Now();
  const Status status = executor_->Step(batch_, std::span(logits_).first(n_rows * vocab_size));
  speculation_.ObserveStep(decoding_, MillisecondsBetween(started, clock_->Now()),
                           /*with_prefill=*/batch_.size() > decoding_.size());
  if (!status) {
    std::vector<SubmissionId> failed;
    std::ranges::transform(in_batch_, std::back_inserter(failed), &Session::id);
    for (SubmissionId id : failed) Fail(id, status.error());
    return true;
  }
  AdvanceSessions();
  return true;
}

void Scheduler::RunJobs() {
  while (true) {
    ExclusiveJob* job = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (jobs_.empty()) return;
      job = jobs_.front();
      jobs_.pop_front();
    }
    Status status;
    if (auto slot = NewSlot(job->precision); slot) {
      exclusive_bytes_ = (*slot)->bytes();
      UpdateFigures();
      status = job->run(*executor_, **slot);
      slot->reset();
      exclusive_bytes_ = 0;
      UpdateFigures();
    } else {
      status = std::unexpected(std::move(slot).error());
    }
    {
      const std::lock_guard lock(mutex_);
      job->status = std::move(status);
      job->done = true;  // from here on the job is its caller's
    }
    work_.notify_all();
  }
}

void Scheduler::ApplyCancellations() {
  std::vector<std::unique_ptr<Session>> never_started;
  std::vector<SubmissionId> started;
  {
    const std::lock_guard lock(mutex_);
    if (cancelled_.empty()) return;
    for (auto it = waiting_.begin(); it != waiting_.end();) {
      if (cancelled_.erase((*it)->id()) > 0) {
        never_started.push_back(std::move(*it));
        it = waiting_.erase(it);
      } else {
        ++it;
      }
    }
    started.assign(cancelled_.begin(), cancelled_.end());
    cancelled_.clear();
  }
  std::ranges::sort(started);
  for (SubmissionId id : started) Finish(id, {.reason = FinishReason::kCancelled});
  for (const auto& session : never_started) {
    Forget(session->id());
    session->Finish({.reason = FinishReason::kCancelled}, clock_->Now());
  }
}

void Scheduler::Admit() {
  while (running_.size() < static_cast<size_t>(options_.max_sessions)) {
    const Session* first = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (waiting_.empty()) return;
      first = waiting_.front().get();  // stays there: only this thread takes sessions out
    }
    auto slot = AcquireSlot(first->prompt(), first->reuse_prefix());
    // A running session will give memory back; without one nothing will.
    if (!slot && !running_.empty()) return;
    std::unique_ptr<Session> session;
    {
      const std::lock_guard lock(mutex_);
      session = std::move(waiting_.front());
      waiting_.pop_front();
      if (slot) ++n_running_;
    }
    if (!slot) {
      Forget(session->id());
      session->Fail(std::move(slot).error());
      continue;
    }
    session->Start(std::move(*slot), clock_->Now());
    running_.push_back(std::move(session));
    UpdateFigures();
  }
}

Result<std::unique_ptr<executor::Slot>> Scheduler::AcquireSlot(std::span<const int32_t> prompt,
                                                               bool reuse_prefix) {
  const PrefixCache::Match match = reuse_prefix ? kept_.Find(prompt) : PrefixCache::Match{};
  if (match.n_tokens > 0) {
    const bool room_for_copy = FitsAnother(executor_->SlotBytes(options_.kv_precision)).has_value();
    if (match.is_continuation || !room_for_copy) return kept_.Take(prompt);
    if (match.n_tokens >= kMinCopiedTokens) {
      if (auto slot = executor_->NewSlot(options_.kv_precision); slot) {
        executor_->CopyPrefix(kept_.Borrow(prompt), match.n_tokens, **slot);
        return slot;
      }
      return kept_.Take(prompt);
    }
  }
  return NewSlot(options_.kv_precision);
}

Result<std::unique_ptr<executor::Slot>> Scheduler::NewSlot(executor::KvPrecision precision) {
  while (true) {
    const Status fits = FitsAnother(executor_->SlotBytes(precision));
    Error error;
    if (fits) {
      auto slot = executor_->NewSlot(precision);
      if (slot) return slot;
      error = std::move(slot).error();
    } else {
      error = fits.error();
    }
    if (!kept_.DropOldest()) return std::unexpected(std::move(error));
    UpdateFigures();
  }
}

Status Scheduler::FitsAnother(uint64_t slot_bytes) const {
  uint64_t unfilled_bytes = 0;
  for (const auto& session : running_) {
    const executor::Slot& slot = *session->slot();
    const auto filled = static_cast<uint64_t>(slot.length());
    unfilled_bytes +=
        slot.bytes() - slot.bytes() * filled / static_cast<uint64_t>(slot.context_tokens());
  }
  const auto machine = read_memory_();
  return CheckFits(memory(), slot_bytes, unfilled_bytes,
                   machine ? std::optional(*machine) : std::nullopt);
}

void Scheduler::BuildBatch() {
  batch_.clear();
  in_batch_.clear();
  decoding_.clear();
  std::vector<Session*> prefilling;
  for (const auto& session : running_) {
    // Also a prompt of which all but the last token came from a kept slot.
    (session->pending().size() == 1 ? decoding_ : prefilling).push_back(session.get());
  }
  speculation_.Propose(decoding_, static_cast<int>(prefilling.size()), logits_, &sampler_scratch_);
  for (Session* session : decoding_) {
    const std::span<const int32_t> tokens = session->PendingAndDrafts();
    batch_.push_back({.slot = session->slot(),
                      .token_ids = tokens,
                      .n_logit_rows = static_cast<int32_t>(tokens.size()),
                      .wanted = session->wanted()});
    in_batch_.push_back(session);
  }
  auto budget = static_cast<size_t>(in_batch_.empty() ? options_.prefill_chunk_tokens
                                                      : options_.mixed_prefill_chunk_tokens);
  // Whoever comes after the one whose turn was last.
  const auto next = std::ranges::upper_bound(prefilling, last_prefilled_, {}, &Session::id);
  std::ranges::rotate(prefilling, next);
  for (Session* session : prefilling) {
    if (budget == 0) break;
    const size_t n_tokens = std::min(budget, session->pending().size());
    AddToBatch(session, n_tokens);
    budget -= n_tokens;
    last_prefilled_ = session->id();
  }
}

void Scheduler::AddToBatch(Session* session, size_t n_tokens) {
  const std::span<const int32_t> pending = session->pending();
  batch_.push_back({.slot = session->slot(),
                    .token_ids = pending.first(n_tokens),
                    .n_logit_rows = n_tokens == pending.size() ? 1 : 0,
                    .wanted = session->wanted()});
  in_batch_.push_back(session);
}

void Scheduler::AdvanceSessions() {
  const auto vocab_size = static_cast<size_t>(executor_->vocab_size());
  std::span<const float> rows = logits_;
  for (size_t i = 0; i < batch_.size(); ++i) {
    const size_t n = static_cast<size_t>(batch_[i].n_logit_rows) * vocab_size;
    if (n > 0) AdvanceSession(in_batch_[i], rows.first(n));
    rows = rows.subspan(n);
  }
}

void Scheduler::AdvanceSession(Session* session, std::span<const float> rows) {
  const auto vocab_size = static_cast<size_t>(executor_->vocab_size());
  const std::vector<int32_t>& guessed = session->drafts().proposal;
  const auto n_before = static_cast<int32_t>(session->tokens().size());
  size_t n_accepted = 0;
  Result<std::optional<Session::Outcome>> outcome = std::nullopt;
  while (true) {
    outcome = session->Advance(rows.first(vocab_size), &sampler_scratch_, clock_->Now());
    rows = rows.subspan(vocab_size);
    if (!outcome) return Fail(session->id(), outcome.error());
    // The next row follows the next draft, so it counts only where that is what was said.
    const bool right =
        n_accepted < guessed.size() && session->tokens().back() == guessed[n_accepted];
    if (right) ++n_accepted;
    if (*outcome || !right) break;
  }
  if (!guessed.empty()) {
    session->slot()->Truncate(n_before + static_cast<int32_t>(n_accepted));
    const size_t n_checked =
        std::min(guessed.size(), session->tokens().size() - static_cast<size_t>(n_before));
    speculation_.Learn(&session->drafts(), static_cast<int>(n_checked),
                       static_cast<int>(n_accepted));
  }
  if (*outcome) Finish(session->id(), std::move(**outcome));
}

std::unique_ptr<Session> Scheduler::TakeRunning(SubmissionId id) {
  const auto it = std::ranges::find(running_, id, [](const auto& s) { return s->id(); });
  TANDEM_CHECK(it != running_.end());
  std::unique_ptr<Session> session = std::move(*it);
  running_.erase(it);
  return session;
}

void Scheduler::Finish(SubmissionId id, Session::Outcome outcome) {
  const std::unique_ptr<Session> session = TakeRunning(id);
  std::unique_ptr<executor::Slot> slot = session->ReleaseSlot();
  if (session->reuse_prefix()) {
    const auto tokens = session->tokens();
    kept_.Put(std::vector(tokens.begin(), tokens.end()), std::move(slot));
  }
  slot.reset();
  Forget(id);
  session->Finish(std::move(outcome), clock_->Now());
}

void Scheduler::Fail(SubmissionId id, const Error& error) {
  const std::unique_ptr<Session> session = TakeRunning(id);
  session->ReleaseSlot().reset();  // what it holds is not known
  Forget(id);
  session->Fail(error);
}

void Scheduler::Forget(SubmissionId id) {
  UpdateFigures();
  const std::lock_guard lock(mutex_);
  live_.erase(id);
  cancelled_.erase(id);
  n_running_ = static_cast<int>(running_.size());
}

void Scheduler::UpdateFigures() {
  uint64_t bytes = kept_.bytes() + exclusive_bytes_;
  for (const auto& session : running_) bytes += session->slot()->bytes();
  kv_cache_bytes_ = bytes;
}

void Scheduler::Shutdown() {
  std::deque<std::unique_ptr<Session>> waiting;
  {
    const std::lock_guard lock(mutex_);
    shut_down_ = true;
    waiting.swap(waiting_);
    for (ExclusiveJob* job : jobs_) {
      job->status = std::unexpected(ShutDownError());
      job->done = true;
    }
    jobs_.clear();
  }
  work_.notify_all();
  while (!running_.empty()) Fail(running_.front()->id(), ShutDownError());
  for (const auto& session : waiting) {
    Forget(session->id());
    session->Fail(ShutDownError());
  }
}

}  // namespace tandem::session
