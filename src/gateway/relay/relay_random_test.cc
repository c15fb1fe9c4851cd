// Thousands of seeded schedules of everything that can happen, in any order, on fake time; and the
// same from many threads at once on real time, for the sanitizers.
#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "gateway/relay/relay_harness.h"

namespace tandem::gateway::relay {
namespace {

using std::chrono::milliseconds;

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 2654435761U + 1) {}
  uint32_t Below(uint32_t n) {
    state_ = state_ * 6364136223846793005U + 1442695040888963407U;
    return static_cast<uint32_t>(state_ >> 33) % n;
  }
  bool OneIn(uint32_t n) { return Below(n) == 0; }

 private:
  uint64_t state_;
};

// The one right answer: every word is different, so a mix-up or a repetition shows.
std::string Piece(size_t i) { return fmt::format(" w{}", i); }

std::string TextOf(size_t n_pieces) {
  std::string text;
  for (size_t i = 0; i < n_pieces; ++i) text += Piece(i);
  return text;
}

// What an answer must be, whatever happened.
void CheckEnd(const TestClient& client, const TestObserver& observer) {
  ASSERT_TRUE(client.over());
  const std::vector<Attempt>& attempts = client.attempts();
  // The shares of the text lie behind each other and make it up.
  uint64_t covered = 0;
  int64_t completion_tokens = 0;
  for (const Attempt& attempt : attempts) {
    const bool has_text = attempt.text_end > attempt.text_begin;
    if (has_text || attempt.outcome == AttemptOutcome::kAnswered) {
      completion_tokens += attempt.usage.completion_tokens;
    }
    if (!has_text) continue;
    EXPECT_EQ(attempt.text_begin, covered);
    covered = attempt.text_end;
  }
  EXPECT_EQ(covered, client.text.size());
  const Usage& usage = client.finished ? client.finished->usage : client.failed->usage;
  EXPECT_EQ(usage.completion_tokens, completion_tokens);
  const auto n_answered =
      std::ranges::count(attempts, AttemptOutcome::kAnswered, &Attempt::outcome);
  const bool cancelled = client.finished && client.finished->reason == FinishReason::kCancelled;
  EXPECT_EQ(n_answered, client.finished && !cancelled ? 1 : 0);
  EXPECT_EQ(observer.committed.has_value(), !client.text.empty());

  ASSERT_TRUE(observer.done);
  EXPECT_EQ(observer.n_running, 0);
  EXPECT_EQ(observer.ended.size(), static_cast<size_t>(observer.n_begun));
  EXPECT_EQ(observer.done->attempts.size(), attempts.size());
  EXPECT_EQ(observer.done->finish.has_value(), client.finished.has_value());
  EXPECT_EQ(observer.done->failure.has_value(), client.failed.has_value());
}

FailureCode RandomFailure(Random* random) {
  // Mostly what moves on.
  constexpr FailureCode kCodes[] = {
      FailureCode::kUnavailable, FailureCode::kUnavailable,        FailureCode::kRateLimited,
      FailureCode::kOutOfMemory, FailureCode::kDeadlineExceeded,   FailureCode::kInternal,
      FailureCode::kUnsupported, FailureCode::kCredentialRejected, FailureCode::kQuotaExhausted,
      FailureCode::kUnavailable, FailureCode::kRateLimited,        FailureCode::kInvalidRequest,
  };
  return kCodes[random->Below(std::size(kCodes))];
}

void Configure(Harness* harness, Random* random) {
  for (Candidate& candidate : harness->candidates) {
    candidate.continuation = static_cast<Continuation>(random->Below(3));
    if (random->OneIn(2)) candidate.timeouts.first_token = milliseconds(50 + random->Below(300));
    if (random->OneIn(2)) candidate.timeouts.between_tokens = milliseconds(50 + random->Below(300));
    if (random->OneIn(4)) candidate.timeouts.total = milliseconds(200 + random->Below(2000));
    if (random->OneIn(2)) candidate.hedge_after = milliseconds(random->Below(150));
    if (random->OneIn(3)) candidate.hold_tokens = static_cast<int>(random->Below(12));
    if (random->OneIn(3)) candidate.hold = milliseconds(random->Below(200));
    candidate.max_retries = static_cast<int>(random->Below(3));
  }
  if (random->OneIn(2)) harness->options.deadline = milliseconds(300 + random->Below(3000));
  harness->options.hand_off_allowed = !random->OneIn(4);
  harness->options.random = [random] { return random->Below(1000) / 1000.0; };
}

// How many pieces of the answer a call's request already has.
size_t PiecesBefore(const GenerateRequest& request) {
  const std::string& said =
      request.messages.size() > 1 ? request.messages[1].content : request.assistant_prefix;
  return static_cast<size_t>(std::ranges::count(said, 'w'));
}

void RunSchedule(uint64_t seed) {
  SCOPED_TRACE(fmt::format("seed {}", seed));
  Random random(seed);
  Harness harness(1 + random.Below(4));
  Configure(&harness, &random);
  const size_t n_pieces = 1 + random.Below(40);
  harness.Start({.messages = {{.role = "user", .content = "Count."}}});

  std::map<FakeProvider::Call*, size_t> next_piece;
  for (int step = 0; step < 400 && !harness.client.over(); ++step) {
    if (random.OneIn(5)) harness.Advance(static_cast<int>(random.Below(120)));
    if (random.OneIn(150)) harness.generation->Cancel();
    if (random.OneIn(40)) {
      const size_t index = random.Below(static_cast<uint32_t>(harness.candidates.size()));
      if (!harness.observer->closed.erase(index)) harness.observer->closed[index] = true;
    }
    std::vector<std::shared_ptr<FakeProvider::Call>> running;
    for (const auto& provider : harness.providers) {
      for (auto& call : provider->calls()) {
        if (!call->done()) running.push_back(std::move(call));
      }
    }
    if (running.empty()) {
      harness.Advance(100);
      continue;
    }
    FakeProvider::Call& call = *running[random.Below(static_cast<uint32_t>(running.size()))];
    size_t& at = next_piece.try_emplace(&call, PiecesBefore(call.request())).first->second;
    if (call.cancels() > 0 && random.OneIn(3)) {
      call.Emit(Finished{.reason = FinishReason::kCancelled,
                         .usage = {3, static_cast<int64_t>(random.Below(9)), 0}});
    } else if (random.OneIn(20)) {
      call.Emit(FailedWith(RandomFailure(&random)));
    } else if (random.OneIn(40)) {
      call.Emit(Finished{.reason = FinishReason::kDegenerate, .usage = {3, 5, 0}, .detail = "x"});
    } else if (at < n_pieces) {
      call.EmitText(Piece(at++));
    } else {
      call.Emit(Finished{.usage = {3, static_cast<int64_t>(at), 0}});
    }
    ASSERT_TRUE(TextOf(n_pieces).starts_with(harness.client.text)) << harness.client.text;
  }
  if (!harness.client.over()) {
    for (const auto& provider : harness.providers) provider->FinishAll();
    harness.Advance(1000);
    harness.generation->Cancel();
  }
  // The answer is over: whatever still runs was told to stop.
  for (const auto& provider : harness.providers) {
    for (const auto& call : provider->calls()) EXPECT_TRUE(call->done() || call->cancels() > 0);
    provider->FinishAll();
  }
  CheckEnd(harness.client, *harness.observer);
  if (harness.client.finished && harness.client.finished->reason == FinishReason::kStop) {
    EXPECT_EQ(harness.client.text, TextOf(n_pieces));
  }
  EXPECT_EQ(harness.timers.size(), 0u);
}

TEST(RelayRandomTest, EveryScheduleHasOneEndAndOneText) {
  for (uint64_t seed = 1; seed <= 4000; ++seed) {
    RunSchedule(seed);
    ASSERT_FALSE(testing::Test::HasFailure());
  }
}

// Emits from a thread of its own for each call.
class ThreadedProvider final : public Provider {
 public:
  ThreadedProvider(std::string model, size_t n_pieces, uint64_t seed)
      : model_(std::move(model)), n_pieces_(n_pieces), seed_(seed) {}

  std::string_view model() const override { return model_; }
  Tier tier() const override { return Tier::kCloud; }

  std::unique_ptr<Generation> Start(GenerateRequest request, EventSink sink) override {
    auto cancelled = std::make_shared<std::atomic<bool>>(false);
    const size_t begin = PiecesBefore(request);
    const std::lock_guard lock(mutex_);
    threads_.emplace_back(
        [this, cancelled, begin, seed = ++seed_, sink = std::move(sink)]() mutable {
          Random random(seed);
          const size_t fails_at = random.Below(static_cast<uint32_t>(2 * n_pieces_));
          for (size_t i = begin; i < n_pieces_ && !*cancelled; ++i) {
            if (i == fails_at) return sink(FailedWith(FailureCode::kUnavailable));
            if (random.OneIn(4)) std::this_thread::yield();
            sink(TextDelta{Piece(i), {}});
          }
          sink(Finished{.reason = *cancelled ? FinishReason::kCancelled : FinishReason::kStop,
                        .usage = {3, 4, 0}});
        });
    return std::make_unique<Handle>(std::move(cancelled));
  }

  // Waits for every thread: what they own may own this provider.
  void Join() {
    for (std::jthread& thread : threads_) thread.join();
    threads_.clear();
  }

 private:
  class Handle final : public Generation {
   public:
    explicit Handle(std::shared_ptr<std::atomic<bool>> cancelled)
        : cancelled_(std::move(cancelled)) {}
    ~Handle() override { *cancelled_ = true; }
    void Cancel() override { *cancelled_ = true; }

   private:
    const std::shared_ptr<std::atomic<bool>> cancelled_;
  };

  const std::string model_;
  const size_t n_pieces_;
  std::mutex mutex_;
  uint64_t seed_;                      // guarded by mutex_
  std::vector<std::jthread> threads_;  // guarded by mutex_
};

TEST(RelayRandomTest, AnswersFromManyThreadsAreWhole) {
  constexpr size_t kPieces = 30;
  RealClock clock;
  for (uint64_t seed = 1; seed <= 150; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Random random(seed);
    TestClient client;
    auto observer = std::make_shared<TestObserver>();
    {
      ThreadTimers timers;
      std::vector<std::shared_ptr<ThreadedProvider>> providers;
      std::vector<Candidate> candidates;
      for (uint64_t i = 0; i < 3; ++i) {
        providers.push_back(std::make_shared<ThreadedProvider>("p", kPieces, seed * 100 + i * 10));
        candidates.push_back({.provider = providers.back(),
                              .target = "t",
                              .continuation = Continuation::kNativePrefix,
                              .hold_tokens = static_cast<int>(random.Below(4)),
                              .hedge_after = milliseconds(0),
                              .max_retries = 1});
      }
      Relay relay(candidates,
                  {.deadline = milliseconds(60'000),
                   .random = [] { return 0.0; },
                   .clock = &clock,
                   .timers = &timers},
                  observer);
      std::unique_ptr<Generation> generation =
          relay.Start({.messages = {{.role = "user", .content = "Count."}}}, client.Sink());
      std::jthread canceller;
      if (random.OneIn(2)) canceller = std::jthread([&] { generation->Cancel(); });
      // Where nobody cancels, the answer ends by itself.
      if (!canceller.joinable()) observer->WaitUntilDone();
      if (canceller.joinable()) canceller.join();
      generation.reset();
      observer->WaitUntilDone();
      for (const auto& provider : providers) provider->Join();
    }
    ASSERT_TRUE(TextOf(kPieces).starts_with(client.text)) << client.text;
    CheckEnd(client, *observer);
    if (client.finished && client.finished->reason == FinishReason::kStop) {
      EXPECT_EQ(client.text, TextOf(kPieces));
    }
  }
}

}  // namespace
}  // namespace tandem::gateway::relay
