// What the tests of this room share: a client that checks the contract of a sink, an observer that
// checks its own, and a relay over fake providers on fake time.
#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <gtest/gtest.h>

#include "gateway/provider/fake_provider.h"
#include "gateway/relay/fake_timers.h"
#include "gateway/relay/relay.h"

namespace tandem::gateway::relay {

// Thread: any; what it gathered is read when the answer is over.
class TestClient {
 public:
  EventSink Sink() {
    return [this](GenerateEvent event) {
      const std::lock_guard lock(mutex_);
      EXPECT_FALSE(over()) << "an event after the terminal one";
      if (auto* delta = std::get_if<TextDelta>(&event)) {
        text += delta->text;
        for (const TokenLogprob& token : delta->logprobs) tokens.push_back(token.token);
      } else if (auto* end = std::get_if<Finished>(&event)) {
        finished = std::move(*end);
      } else {
        failed = std::move(std::get<Failed>(event));
      }
    };
  }
  bool over() const { return finished || failed; }
  const std::vector<Attempt>& attempts() const {
    return finished ? finished->attempts : failed->attempts;
  }

  std::string text;
  std::vector<std::string> tokens;  // of the log probabilities
  std::optional<Finished> finished;
  std::optional<Failed> failed;

 private:
  std::mutex mutex_;
};

class TestObserver final : public Observer {
 public:
  bool Begin(size_t index) override {
    const std::lock_guard lock(mutex_);
    EXPECT_FALSE(done);
    if (closed.contains(index)) return false;
    ++n_running;
    ++n_begun;
    return true;
  }
  void End(size_t index, const Attempt& attempt) override {
    const std::lock_guard lock(mutex_);
    EXPECT_FALSE(done);
    EXPECT_GT(n_running, 0);
    --n_running;
    ended.emplace_back(index, attempt);
  }
  void Committed(size_t index) override {
    const std::lock_guard lock(mutex_);
    EXPECT_FALSE(committed);
    committed = index;
  }
  void Done(const Report& report) override {
    const std::lock_guard lock(mutex_);
    EXPECT_FALSE(done);
    EXPECT_EQ(n_running, 0);
    done = report;
    changed_.notify_all();
  }
  void WaitUntilDone() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return done.has_value(); });
  }

  std::map<size_t, bool> closed;  // candidates whose breaker is open
  int n_running = 0;
  int n_begun = 0;
  std::vector<std::pair<size_t, Attempt>> ended;
  std::optional<size_t> committed;
  std::optional<Report> done;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
};

// One answer over fake providers "p0", "p1", ...
class Harness {
 public:
  explicit Harness(size_t n_candidates) : timers(&clock) {
    for (size_t i = 0; i < n_candidates; ++i) {
      providers.push_back(std::make_shared<FakeProvider>(
          "p" + std::to_string(i), i == 0 ? Tier::kDeviceSmall : Tier::kCloud));
      candidates.push_back(Candidate{.provider = providers.back(),
                                     .target = "t" + std::to_string(i),
                                     .reason = i == 0 ? "simple" : "fallback",
                                     .continuation = Continuation::kNativePrefix});
    }
    options.clock = &clock;
    options.timers = &timers;
    options.random = [] { return 0.5; };
  }
  ~Harness() {
    generation.reset();
    for (const auto& provider : providers) provider->FinishAll();
  }

  void Start(GenerateRequest request = {}) {
    relay = std::make_unique<Relay>(candidates, options, observer);
    generation = relay->Start(std::move(request), client.Sink());
  }
  FakeProvider::Call& call(size_t provider) { return *providers[provider]->last_call(); }
  size_t n_calls(size_t provider) const { return providers[provider]->calls().size(); }
  void Advance(int ms) { timers.Advance(std::chrono::milliseconds(ms)); }

  FakeClock clock;
  FakeTimers timers;
  std::vector<std::shared_ptr<FakeProvider>> providers;
  std::vector<Candidate> candidates;
  Options options;
  std::shared_ptr<TestObserver> observer = std::make_shared<TestObserver>();
  TestClient client;
  std::unique_ptr<Relay> relay;
  std::unique_ptr<Generation> generation;
};

inline Failed FailedWith(FailureCode code, std::string message = "broken") {
  return Failed{.failure = {code, std::move(message)}};
}

// What became of each call, in the order of their starts.
inline std::vector<AttemptOutcome> Outcomes(const std::vector<Attempt>& attempts) {
  std::vector<AttemptOutcome> outcomes;
  for (const Attempt& attempt : attempts) outcomes.push_back(attempt.outcome);
  return outcomes;
}

inline constexpr auto kAnswered = AttemptOutcome::kAnswered;
inline constexpr auto kHandedOff = AttemptOutcome::kHandedOff;
inline constexpr auto kFailedAttempt = AttemptOutcome::kFailed;
inline constexpr auto kCancelledAttempt = AttemptOutcome::kCancelled;
inline constexpr auto kSkipped = AttemptOutcome::kSkipped;

}  // namespace tandem::gateway::relay
