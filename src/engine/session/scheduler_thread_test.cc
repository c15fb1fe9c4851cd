// The scheduler on its own thread, with others submitting, cancelling and shutting down.
#include <atomic>
#include <semaphore>
#include <thread>

#include <gtest/gtest.h>

#include "engine/session/scheduler.h"
#include "engine/session/testing/fixtures.h"

namespace tandem::session {
namespace {

using executor::FakeExecutor;
using executor::SlotStep;
using testing::Bytes;
using testing::HashedLetter;
using testing::kVocabSize;
using testing::Recorder;

constexpr int32_t kContext = 4096;

class SchedulerThreadTest : public ::testing::Test {
 protected:
  void Start(SchedulerOptions options = {}) {
    options.memory_limit_bytes = uint64_t{1} << 40;
    scheduler_.emplace(&executor_, testing::MakeModel(kContext), options, &clock_,
                       [] { return Result<os::MemoryStatus>({.available_bytes = 1ULL << 40}); });
    thread_ = std::jthread([this](const std::stop_token& stop) { scheduler_->Run(stop); });
  }
  void Stop() {
    thread_.request_stop();
    thread_.join();
  }

  static Submission Sampled(std::string_view prompt, uint64_t seed, int32_t max_tokens) {
    return {.prompt_ids = Bytes(prompt),
            .sampling = {.temperature = 5.0F,
                         .logit_bias = {{testing::kEndOfTurn, -100.0F}},
                         .seed = seed},
            .max_tokens = max_tokens};
  }

  RealClock clock_;
  FakeExecutor executor_{
      kVocabSize, kContext, {.max_tokens = 300, .max_logit_rows = 8}, HashedLetter};
  std::optional<Scheduler> scheduler_;
  std::jthread thread_;
};

TEST_F(SchedulerThreadTest, ManyThreadsGetWhatEachWouldGetAlone) {
  constexpr int kThreads = 4;
  constexpr int kEach = 6;
  const auto prompt = [](int thread, int i) {
    return "thread " + std::to_string(thread) + " request " + std::to_string(i);
  };
  std::vector<std::vector<int32_t>> alone;
  Start();
  for (int n = 0; n < kThreads * kEach; ++n) {
    Recorder recorder;
    ASSERT_TRUE(scheduler_->Submit(Sampled(prompt(n / kEach, n % kEach), n, 50), recorder.Sink()));
    recorder.Wait();
    alone.push_back(recorder.token_ids());
  }
  Stop();

  Start({.max_sessions = 3, .mixed_prefill_chunk_tokens = 5});
  std::vector<std::vector<int32_t>> together(kThreads * kEach);
  {
    std::vector<std::jthread> clients;
    for (int thread = 0; thread < kThreads; ++thread) {
      clients.emplace_back([&, thread] {
        for (int i = 0; i < kEach; ++i) {
          const int n = thread * kEach + i;
          Recorder recorder;
          Recorder cancelled;
          const auto id = scheduler_->Submit(Sampled("to be cancelled", n, 4000), cancelled.Sink());
          ASSERT_TRUE(id);
          ASSERT_TRUE(scheduler_->Submit(Sampled(prompt(thread, i), n, 50), recorder.Sink()));
          cancelled.WaitForTokens(static_cast<size_t>(i));
          scheduler_->Cancel(*id);
          cancelled.Wait();
          EXPECT_EQ(cancelled.finished()->reason, FinishReason::kCancelled);
          recorder.Wait();
          EXPECT_EQ(recorder.n_terminal(), 1);
          together[static_cast<size_t>(n)] = recorder.token_ids();
        }
      });
    }
  }
  EXPECT_EQ(together, alone);
  Stop();
}

TEST_F(SchedulerThreadTest, StopWhileGeneratingEndsEverySubmissionOnce) {
  Start({.max_sessions = 2});
  std::vector<Recorder> recorders(5);
  for (Recorder& recorder : recorders) {
    ASSERT_TRUE(scheduler_->Submit(Sampled("on and on", 1, 4000), recorder.Sink()));
  }
  recorders[0].WaitForTokens(3);
  Stop();
  for (const Recorder& recorder : recorders) {
    EXPECT_EQ(recorder.n_terminal(), 1);
    ASSERT_TRUE(recorder.failed());
    EXPECT_EQ(recorder.failed()->code, ErrorCode::kCancelled);
    EXPECT_FALSE(recorder.late_event());
  }
  EXPECT_EQ(executor_.n_slots(), 0);
}

TEST_F(SchedulerThreadTest, SubmitsThatRaceWithTheStopEndOnceOrAreRefused) {
  Start();
  std::atomic<int> n_accepted = 0;
  std::vector<std::unique_ptr<Recorder>> recorders(400);
  for (auto& recorder : recorders) recorder = std::make_unique<Recorder>();
  std::binary_semaphore started(0);
  std::jthread client([&] {
    for (size_t i = 0; i < recorders.size(); ++i) {
      if (i == 20) started.release();
      if (scheduler_->Submit(Sampled("x", i, 2), recorders[i]->Sink())) ++n_accepted;
    }
  });
  started.acquire();
  Stop();
  client.join();
  int n_ended = 0;
  for (const auto& recorder : recorders) {
    EXPECT_LE(recorder->n_terminal(), 1);
    n_ended += recorder->n_terminal();
  }
  EXPECT_EQ(n_ended, n_accepted);
}

TEST_F(SchedulerThreadTest, ExclusiveJobRunsBetweenStepsAndGivesItsResultBack) {
  std::atomic<bool> stepping = false;
  executor_.on_step = [&](std::span<const SlotStep>) -> Status {
    stepping = true;
    return {};
  };
  executor_.on_row = [&](std::span<const int32_t>, std::span<float>) { stepping = false; };
  Start();
  Recorder recorder;
  ASSERT_TRUE(scheduler_->Submit(Sampled("on and on", 1, 3000), recorder.Sink()));
  recorder.WaitForTokens(1);
  std::vector<std::jthread> clients;
  for (int i = 0; i < 3; ++i) {
    clients.emplace_back([&] {
      bool was_stepping = true;
      uint64_t kv_bytes = 0;
      const Status status = scheduler_->RunExclusive(
          executor::KvPrecision::kF32, [&](executor::Executor&, executor::Slot& slot) -> Status {
            was_stepping = stepping;
            kv_bytes = scheduler_->memory().kv_cache_bytes;
            EXPECT_EQ(slot.length(), 0);
            return Err(ErrorCode::kIo, "the job's own");
          });
      EXPECT_FALSE(was_stepping);
      EXPECT_EQ(kv_bytes, 3 * executor_.bytes_per_slot);  // the session's, and twice that for f32
      EXPECT_EQ(status.error().message, "the job's own");
    });
  }
  clients.clear();
  Stop();
}

TEST_F(SchedulerThreadTest, ExclusiveJobThatWaitsAtTheStopIsCancelled) {
  std::binary_semaphore in_step(0);
  std::binary_semaphore go_on(0);
  executor_.on_step = [&, first = true](std::span<const SlotStep>) mutable -> Status {
    if (!first) return {};
    first = false;
    in_step.release();
    go_on.acquire();
    return {};
  };
  Start();
  Recorder recorder;
  ASSERT_TRUE(scheduler_->Submit(Sampled("x", 1, 100), recorder.Sink()));
  in_step.acquire();
  // While the step is held up, the job queues and the stop comes: the job must not run.
  Status status;
  std::jthread client([&] {
    status = scheduler_->RunExclusive(executor::KvPrecision::kF16,
                                      [](executor::Executor&, executor::Slot&) -> Status {
                                        ADD_FAILURE() << "ran";
                                        return {};
                                      });
  });
  thread_.request_stop();
  go_on.release();
  thread_.join();
  client.join();
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kCancelled);
}

}  // namespace
}  // namespace tandem::session
