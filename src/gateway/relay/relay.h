// Charter of gateway/relay: one answer, several providers. A Relay is a Provider over an ordered
// list of candidates: it goes to the next one when one fails, and when an answer breaks in the
// middle it has another one write on from there, so that the client sees one text with one end. It
// may include base and gateway/provider. Deliberately absent: which candidates there are and in
// which order (gateway/router), breakers and records (gateway/dispatch, by the Observer).
//
// Until the first text is shown any failure moves on to the next candidate; a beginning is buffered
// (at most 64 pieces or 256 KiB). After it the answer is committed: a loop, a failure, a cut, a
// stall or a timeout makes the next candidate that can continue write on, exactly behind the last
// byte that was shown. Text that begins to repeat itself is held back until it is clear, so a
// client never sees the loop.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "gateway/provider/provider.h"
#include "gateway/relay/retry_budget.h"
#include "gateway/relay/timers.h"

namespace tandem::gateway::relay {

// 0: none. A call that runs into one is cancelled and has failed with kDeadlineExceeded.
struct Timeouts {
  std::chrono::milliseconds first_token{0};
  std::chrono::milliseconds between_tokens{0};
  std::chrono::milliseconds total{0};
};

// How a candidate goes on with an answer that another one began.
enum class Continuation {
  kNone,          // not at all: it is not asked once an answer is committed
  kPrompted,      // by an instruction behind the conversation; what it says again is taken out
  kNativePrefix,  // by GenerateRequest::assistant_prefix, exactly
};

struct Candidate {
  std::shared_ptr<Provider> provider;
  std::string target;  // Attempt::target
  // Attempt::tier. A strategy may call a model what its provider does not; absent: the provider's.
  std::optional<Tier> tier = {};
  std::string reason;  // Attempt::reason
  Timeouts timeouts;
  Continuation continuation = Continuation::kNone;
  // The beginning of its answer is held until so many pieces have come or so long after the first
  // one, whichever is first, so that a bad one is never seen. 0: no such limit; both 0: no hold.
  int hold_tokens = 0;
  std::chrono::milliseconds hold{0};
  // Without any text after so long, the next candidate is started as well.
  std::optional<std::chrono::milliseconds> hedge_after;
  // Further calls of this candidate after a failure that came fast and may pass.
  int max_retries = 0;
};

struct Options {
  std::chrono::milliseconds deadline{0};  // of the whole chain; 0: none
  bool hand_off_allowed = true;           // after commit
  bool expect_json = false;               // the text must be one JSON value
  bool detect_repetition = true;          // off: nothing is held back for it either
  // An estimate of the prompt's size, for calls that break before they have told theirs. 0: none.
  int64_t prompt_tokens = 0;
  RetryBudget* retry_budget = nullptr;  // null: no limit but max_retries
  std::function<double()> random;       // in [0, 1), for the jitter of retries
  const Clock* clock = nullptr;
  Timers* timers = nullptr;
};

// An answer, when everything about it has ended.
struct Report {
  std::vector<Attempt> attempts;       // in the order of their starts, skipped ones too
  Usage usage;                         // as the client saw it
  std::optional<FinishReason> finish;  // one of these two
  std::optional<Failure> failure;
  std::optional<size_t> committed;  // index of the candidate that the client saw first
  double ttft_ms = 0;               // to the first text that the client saw; 0: none
  double e2e_ms = 0;                // to the terminal event
};

// Watches one answer. Calls come one at a time, from any thread, and must not block. Nothing here
// is a word of the conversation.
class Observer {
 public:
  virtual ~Observer() = default;
  // Candidate `index` is about to be called. False: it must not be (its breaker is open); it is
  // skipped, and no End follows.
  virtual bool Begin(size_t index) = 0;
  // A call that began has ended, which may be long after it was cancelled. Exactly once for each.
  // `attempt` says why: a failure, or none.
  virtual void End(size_t index, const Attempt& attempt) = 0;
  // Text of this candidate is about to be shown, the first of the answer.
  virtual void Committed(size_t index) = 0;
  // Last and once: the terminal event was sent and every call has ended.
  virtual void Done(const Report& report) = 0;
};

// One request's answer: built for it, started once.
//
// Failures that no other candidate can mend (the request is wrong, the client left, its budget is
// spent) end the answer at once. Of several failures the most telling one is reported, with the
// attempts. Usage: prompt tokens are those of the first call whose text was shown, completion
// tokens the sum over all whose text was shown. Where a call's figures are not known yet at the end
// the answer waits for them for at most 200 ms, then estimates: a piece is a token, and a prompt as
// long as Options::prompt_tokens and what was shown before.
//
// Thread: any. The sink runs on the thread of whatever moved the answer on: a provider's, a timer's
// or the caller's of Start and Cancel.
// Cost: a relayed piece takes well below 1 us, most of it the repetition detector.
class Relay final : public Provider {
 public:
  // `candidates` is not empty. Clock, timers and budget outlive every answer; options.random is
  // called by one thread at a time. `observer` may be null.
  Relay(std::vector<Candidate> candidates, Options options, std::shared_ptr<Observer> observer);
  ~Relay() override;

  // Of the first candidate until an answer is committed, then of the one that the client saw first.
  std::string_view model() const override;
  Tier tier() const override;

  // Generation::Cancel ends the answer at once with Finished{kCancelled}, also where a provider
  // never ends; Observer::Done waits for it.
  std::unique_ptr<Generation> Start(GenerateRequest request, EventSink sink) override;

 private:
  friend class Run;
  struct Plan {
    std::vector<Candidate> candidates;
    Options options;
    std::shared_ptr<Observer> observer;
    std::atomic<size_t> shown{0};  // whose model and tier this is
  };
  // Shared with the answer, which may outlive the relay.
  const std::shared_ptr<Plan> plan_;
};

}  // namespace tandem::gateway::relay
