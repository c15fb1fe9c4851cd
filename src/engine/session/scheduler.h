// Who runs when. Charter of session/: sessions and the scheduler that batches them, the cache of
// prefixes, memory admission, detectors of degenerate text. It may include every room of the engine
// above it. Deliberately absent: model files, prompts as text (engine/), HTTP.
//
// Continuous batching: each step takes one token of every decoding session, with what was guessed
// to come behind it, and beside them a chunk of prefill. Prefilling sessions take turns at the
// chunk; waiting ones start first come, first served, when fewer than max_sessions run and their KV
// cache fits.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stop_token>
#include <unordered_set>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "engine/executor/executor.h"
#include "engine/session/memory_budget.h"
#include "engine/session/prefix_cache.h"
#include "engine/session/session.h"
#include "engine/session/speculation.h"
#include "engine/session/submission.h"
#include "os/memory.h"

namespace tandem::session {

struct SchedulerOptions {
  int max_sessions = 8;  // running; at most the executor's max_logit_rows
  int max_queued = 64;
  int max_kept_slots = 4;
  // Prompt tokens that a step takes in. Beside decoding sessions fewer, because each of them waits
  // for the whole step: that trades the new session's first token for the others' pace.
  int prefill_chunk_tokens = 256;
  int mixed_prefill_chunk_tokens = 32;
  executor::KvPrecision kv_precision = executor::KvPrecision::kF16;
  uint64_t memory_limit_bytes = 0;
  SpeculationMode speculation = SpeculationMode::kAuto;
};

// Functions under "any thread" may be called from everywhere, sinks included (but RunExclusive()).
// The others belong to one thread, the scheduler thread, on which all sinks are called, with no
// lock held.
class Scheduler {
 public:
  using ReadMemory = std::function<Result<os::MemoryStatus>()>;
  // What a RunExclusive() call does with the executor and an empty slot.
  using Job = std::move_only_function<Status(executor::Executor&, executor::Slot&)>;

  // The executor and the clock must outlive the scheduler.
  Scheduler(executor::Executor* executor, SessionModel model, const SchedulerOptions& options,
            const Clock* clock, ReadMemory read_memory);
  ~Scheduler();

  // ---- any thread

  // Errors, with the sink not taken: those of Session::Create(); kResourceExhausted where
  // max_queued wait; kCancelled after Shutdown().
  Result<SubmissionId> Submit(Submission submission, EventSink sink);
  // Takes effect at the next step. Unknown and finished ids are ignored.
  void Cancel(SubmissionId id);
  // Runs `job` between two steps, and waits for it. Not from a sink.
  // Errors: the job's; kResourceExhausted where no slot of that precision fits; kCancelled after
  // Shutdown().
  Status RunExclusive(executor::KvPrecision precision, Job job);

  MemoryFigures memory() const;
  Activity activity() const;
  SpeculationFigures speculation() const { return speculation_.figures(); }

  // ---- the scheduler thread

  // Steps until a stop is requested, then Shutdown(): the body of the scheduler thread.
  void Run(const std::stop_token& stop);
  // Jobs, cancellations, admissions and one batch step. False where there was nothing to do.
  bool RunStep();
  // Returns when there is something to do or a stop is requested.
  void WaitForWork(const std::stop_token& stop);
  // Fails everything that is open with kCancelled, and everything that comes later. Idempotent.
  void Shutdown();

 private:
  struct ExclusiveJob;

  void RunJobs();
  void ApplyCancellations();
  void Admit();
  // A slot for the prompt, with what could be reused of it already inside.
  Result<std::unique_ptr<executor::Slot>> AcquireSlot(std::span<const int32_t> prompt,
                                                      bool reuse_prefix);
  // An empty slot, for which kept ones go first where memory is short.
  Result<std::unique_ptr<executor::Slot>> NewSlot(executor::KvPrecision precision);
  Status FitsAnother(uint64_t slot_bytes) const;

  // Fills batch_ and in_batch_.
  void BuildBatch();
  void AddToBatch(Session* session, size_t n_tokens);
  // Samples for the sessions whose pending tokens all ran.
  void AdvanceSessions();
  // One session, by its rows of logits: one and one for each draft.
  void AdvanceSession(Session* session, std::span<const float> rows);

  // Takes a running session out: its slot is kept or freed, the figures are right, and only then
  // does its terminal event go out.
  void Finish(SubmissionId id, Session::Outcome outcome);
  void Fail(SubmissionId id, const Error& error);
  std::unique_ptr<Session> TakeRunning(SubmissionId id);
  void Forget(SubmissionId id);
  void UpdateFigures();

  executor::Executor* const executor_;
  const SessionModel model_;
  const SchedulerOptions options_;
  const Clock* const clock_;
  const ReadMemory read_memory_;

  // ---- shared between threads
  mutable std::mutex mutex_;
  std::condition_variable_any work_;
  bool shut_down_ = false;
  SubmissionId next_id_ = 1;
  std::deque<std::unique_ptr<Session>> waiting_;  // at most max_queued; others only append
  std::deque<ExclusiveJob*> jobs_;                // owned by the callers, who wait
  std::unordered_set<SubmissionId> live_;         // submitted, no terminal event yet
  std::unordered_set<SubmissionId> cancelled_;    // subset of live_, to be applied
  std::atomic<int> n_running_{0};
  std::atomic<uint64_t> kv_cache_bytes_{0};

  // ---- the scheduler thread's
  std::vector<std::unique_ptr<Session>> running_;  // ascending ids
  PrefixCache kept_;
  uint64_t exclusive_bytes_ = 0;     // of the slot of a job that runs now
  SubmissionId last_prefilled_ = 0;  // whose turn at the chunk was last
  std::vector<executor::SlotStep> batch_;
  std::vector<Session*> in_batch_;  // [batch_.size()]
  std::vector<Session*> decoding_;  // that started the step with one token pending
  Speculation speculation_;
  std::vector<float> logits_;  // [max_sessions or more with drafts, vocab_size]
  sampling::SamplerScratch sampler_scratch_;
};

}  // namespace tandem::session
