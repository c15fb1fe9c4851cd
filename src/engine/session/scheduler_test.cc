// The scheduler step by step, on one thread.
#include "engine/session/scheduler.h"

#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/session/testing/fixtures.h"

namespace tandem::session {
namespace {

using executor::FakeExecutor;
using executor::SlotStep;
using testing::Bytes;
using ::testing::ElementsAre;
using testing::HashedLetter;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::kEndOfTurn;
using testing::kVocabSize;
using testing::Prompt;
using testing::Recorder;
using testing::Says;

constexpr int32_t kContext = 256;

// An executor and a scheduler over it, stepped by the test.
struct Bench {
  explicit Bench(FakeExecutor::NextToken next_token, SchedulerOptions options = {})
      : executor(kVocabSize, kContext, {.max_tokens = 264, .max_logit_rows = 8},
                 std::move(next_token)) {
    executor.on_step = [this](std::span<const SlotStep> batch) -> Status {
      std::vector<size_t> sizes;
      for (const SlotStep& step : batch) sizes.push_back(step.token_ids.size());
      batches.push_back(std::move(sizes));
      if (step_error) return std::unexpected(*step_error);
      return {};
    };
    if (options.memory_limit_bytes == 0) options.memory_limit_bytes = uint64_t{1} << 40;
    scheduler.emplace(&executor, testing::MakeModel(kContext), options, &clock,
                      [this] { return Result<os::MemoryStatus>(machine); });
  }

  SubmissionId Submit(Submission submission, Recorder& recorder) {
    const auto id = scheduler->Submit(std::move(submission), recorder.Sink());
    EXPECT_TRUE(id) << id.error().message;
    return id.value_or(0);
  }
  void RunUntilIdle() {
    for (int i = 0; i < 10'000 && scheduler->RunStep(); ++i) {
    }
  }

  FakeClock clock;
  FakeExecutor executor;
  std::optional<Error> step_error;
  std::vector<std::vector<size_t>> batches;  // tokens by entry
  os::MemoryStatus machine{.available_bytes = uint64_t{1} << 40};
  std::optional<Scheduler> scheduler;
};

Submission Ask(std::vector<int32_t> prompt) {
  return {.prompt_ids = std::move(prompt), .sampling = {.temperature = 0}};
}
Submission Sampled(std::string_view prompt, uint64_t seed, int32_t max_tokens) {
  return {.prompt_ids = Bytes(prompt),
          .sampling = {.temperature = 5.0F,
                       .top_p = 0.9F,
                       .frequency_penalty = 0.5F,
                       .logit_bias = {{kEndOfTurn, -100.0F}},
                       .seed = seed},
          .max_tokens = max_tokens};
}

TEST(SchedulerTest, AnswersARequest) {
  Bench bench(Says("Hello world"));
  Recorder recorder;
  bench.Submit(Ask(Prompt("hi")), recorder);
  bench.RunUntilIdle();
  EXPECT_EQ(recorder.text(), "Hello world");
  ASSERT_TRUE(recorder.finished());
  EXPECT_EQ(recorder.finished()->reason, FinishReason::kStop);
  EXPECT_EQ(recorder.finished()->usage.prompt_tokens, 3);
  EXPECT_EQ(recorder.finished()->usage.completion_tokens, 12);
  EXPECT_EQ(recorder.n_terminal(), 1);
  EXPECT_FALSE(recorder.late_event());
  EXPECT_FALSE(bench.scheduler->RunStep());
  EXPECT_EQ(bench.scheduler->activity().n_running, 0);
}

TEST(SchedulerTest, SessionsDecodeTogetherInOneStep) {
  Bench bench(Says("abcdefgh"));
  std::vector<Recorder> recorders(3);
  for (Recorder& recorder : recorders) bench.Submit(Ask(Prompt("hi")), recorder);
  bench.RunUntilIdle();
  for (const Recorder& recorder : recorders) EXPECT_EQ(recorder.text(), "abcdefgh");
  // All three prompts fit into the first step; then a token of each.
  ASSERT_EQ(bench.batches.size(), 9U);
  EXPECT_THAT(bench.batches[0], ElementsAre(3, 3, 3));
  for (size_t i = 1; i < 9; ++i) EXPECT_THAT(bench.batches[i], ElementsAre(1, 1, 1));
}

TEST(SchedulerTest, LongPromptIsPrefilledInChunks) {
  Bench bench(Says("x"), {.prefill_chunk_tokens = 100});
  Recorder recorder;
  bench.Submit(Ask(Prompt(std::string(229, 'p'))), recorder);
  bench.RunUntilIdle();
  EXPECT_EQ(recorder.text(), "x");
  ASSERT_EQ(bench.batches.size(), 4U);
  EXPECT_THAT(bench.batches[0], ElementsAre(100));
  EXPECT_THAT(bench.batches[1], ElementsAre(100));
  EXPECT_THAT(bench.batches[2], ElementsAre(30));
  EXPECT_THAT(bench.batches[3], ElementsAre(1));
}

TEST(SchedulerTest, PrefillBesideDecodingIsSmallerAndNobodyWaits) {
  Bench bench(Says("abcdefghijkl"),
              {.prefill_chunk_tokens = 100, .mixed_prefill_chunk_tokens = 10});
  Recorder first;
  Recorder second;
  bench.Submit(Ask(Prompt("hi")), first);
  ASSERT_TRUE(bench.scheduler->RunStep());
  bench.Submit(Ask(Prompt(std::string(24, 'p'))), second);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(bench.scheduler->RunStep());
  EXPECT_THAT(bench.batches[1], ElementsAre(1, 10));
  EXPECT_THAT(bench.batches[2], ElementsAre(1, 10));
  EXPECT_THAT(bench.batches[3], ElementsAre(1, 5));
  EXPECT_EQ(first.text(), "abcd");
  EXPECT_EQ(second.text(), "a");
  bench.RunUntilIdle();
}

TEST(SchedulerTest, PrefillingSessionsTakeTurns) {
  Bench bench(Says("x"), {.prefill_chunk_tokens = 50});
  Recorder first;
  Recorder second;
  bench.Submit(Ask(Prompt(std::string(119, 'p'))), first);
  bench.Submit(Ask(Prompt(std::string(59, 'q'))), second);
  bench.RunUntilIdle();
  // first 50; second 50; first 50; second's last 10 and first's last 20 share a step.
  EXPECT_THAT(bench.batches[0], ElementsAre(50));
  EXPECT_THAT(bench.batches[1], ElementsAre(50));
  EXPECT_THAT(bench.batches[2], ElementsAre(50));
  EXPECT_THAT(bench.batches[3], ElementsAre(10, 20));
  EXPECT_EQ(first.text(), "x");
  EXPECT_EQ(second.text(), "x");
}

TEST(SchedulerTest, MoreThanMaxSessionsWaitTheirTurn) {
  Bench bench(Says("abc"), {.max_sessions = 2});
  std::vector<Recorder> recorders(5);
  for (Recorder& recorder : recorders) bench.Submit(Ask(Prompt("hi")), recorder);
  EXPECT_EQ(bench.scheduler->activity().n_queued, 5);
  ASSERT_TRUE(bench.scheduler->RunStep());
  EXPECT_EQ(bench.scheduler->activity().n_running, 2);
  EXPECT_EQ(bench.scheduler->activity().n_queued, 3);
  bench.RunUntilIdle();
  for (const Recorder& recorder : recorders) EXPECT_EQ(recorder.text(), "abc");
  for (const auto& batch : bench.batches) EXPECT_LE(batch.size(), 2U);
}

TEST(SchedulerTest, FullQueueRefusesAtOnce) {
  Bench bench(Says("abc"), {.max_queued = 2});
  std::vector<Recorder> recorders(3);
  bench.Submit(Ask(Prompt("hi")), recorders[0]);
  bench.Submit(Ask(Prompt("hi")), recorders[1]);
  const auto refused = bench.scheduler->Submit(Ask(Prompt("hi")), recorders[2].Sink());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kResourceExhausted);
  bench.RunUntilIdle();
  EXPECT_EQ(recorders[2].n_terminal(), 0);
  EXPECT_EQ(recorders[0].text(), "abc");
  // Room again.
  bench.Submit(Ask(Prompt("hi")), recorders[2]);
  bench.RunUntilIdle();
  EXPECT_EQ(recorders[2].text(), "abc");
}

TEST(SchedulerTest, WrongRequestIsRefusedBeforeItQueues) {
  Bench bench(Says("abc"));
  Recorder recorder;
  const auto refused =
      bench.scheduler->Submit(Ask(std::vector<int32_t>(kContext, 1)), recorder.Sink());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().param, "context");
  EXPECT_EQ(bench.scheduler->activity().n_queued, 0);
}

TEST(SchedulerTest, SameSeedGivesTheSameTokensWhateverElseRuns) {
  const auto alone = [](std::string_view prompt, uint64_t seed) {
    Bench bench(HashedLetter);
    Recorder recorder;
    bench.Submit(Sampled(prompt, seed, 40), recorder);
    bench.RunUntilIdle();
    return recorder.token_ids();
  };
  const std::vector<std::string> prompts = {"one", "another prompt", "a third and longer prompt",
                                            "4",   "the fifth",      "one"};
  Bench bench(HashedLetter,
              {.max_sessions = 4, .prefill_chunk_tokens = 7, .mixed_prefill_chunk_tokens = 3});
  std::vector<Recorder> recorders(prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    bench.Submit(Sampled(prompts[i], 100 + i, 40), recorders[i]);
    bench.scheduler->RunStep();
  }
  bench.RunUntilIdle();
  for (size_t i = 0; i < prompts.size(); ++i) {
    EXPECT_EQ(recorders[i].token_ids(), alone(prompts[i], 100 + i)) << i;
    EXPECT_EQ(recorders[i].token_ids().size(), 40U);
  }
  EXPECT_NE(recorders[0].token_ids(), recorders[5].token_ids());  // other seed
}

// ---- cancellation

TEST(SchedulerTest, CancelWhileWaiting) {
  Bench bench(Says("abcdef"), {.max_sessions = 1});
  Recorder running;
  Recorder waiting;
  bench.Submit(Ask(Prompt("hi")), running);
  const SubmissionId id = bench.Submit(Ask(Prompt("hi")), waiting);
  ASSERT_TRUE(bench.scheduler->RunStep());
  bench.scheduler->Cancel(id);
  EXPECT_EQ(waiting.n_terminal(), 0);  // only a step acts
  ASSERT_TRUE(bench.scheduler->RunStep());
  ASSERT_TRUE(waiting.finished());
  EXPECT_EQ(waiting.finished()->reason, FinishReason::kCancelled);
  EXPECT_EQ(waiting.finished()->usage.completion_tokens, 0);
  bench.RunUntilIdle();
  EXPECT_EQ(running.text(), "abcdef");
}

TEST(SchedulerTest, CancelDuringPrefillStopsComputing) {
  Bench bench(Says("abcdef"), {.prefill_chunk_tokens = 10});
  Recorder recorder;
  const SubmissionId id = bench.Submit(Ask(Prompt(std::string(200, 'p'))), recorder);
  ASSERT_TRUE(bench.scheduler->RunStep());
  bench.scheduler->Cancel(id);
  EXPECT_FALSE(bench.scheduler->RunStep());
  ASSERT_TRUE(recorder.finished());
  EXPECT_EQ(recorder.finished()->reason, FinishReason::kCancelled);
  EXPECT_EQ(bench.executor.n_computed_tokens(), 10);
  EXPECT_EQ(recorder.text(), "");
}

TEST(SchedulerTest, CancelDuringDecodeStopsAtTheNextStep) {
  Bench bench(Says("abcdef"));
  Recorder recorder;
  const SubmissionId id = bench.Submit(Ask(Prompt("hi")), recorder);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(bench.scheduler->RunStep());
  bench.scheduler->Cancel(id);
  bench.RunUntilIdle();
  EXPECT_EQ(recorder.text(), "abc");
  ASSERT_TRUE(recorder.finished());
  EXPECT_EQ(recorder.finished()->reason, FinishReason::kCancelled);
  EXPECT_EQ(recorder.finished()->usage.completion_tokens, 3);
  EXPECT_EQ(recorder.n_terminal(), 1);
  EXPECT_EQ(bench.scheduler->activity().n_running, 0);
}

TEST(SchedulerTest, CancelOfFinishedOrUnknownIdsIsIgnored) {
  Bench bench(Says("ab"));
  Recorder recorder;
  const SubmissionId id = bench.Submit(Ask(Prompt("hi")), recorder);
  bench.scheduler->Cancel(id + 1000);
  bench.RunUntilIdle();
  bench.scheduler->Cancel(id);
  Recorder next;
  bench.Submit(Ask(Prompt("hi")), next);
  bench.RunUntilIdle();
  EXPECT_EQ(recorder.n_terminal(), 1);
  EXPECT_EQ(next.finished()->reason, FinishReason::kStop);
}

TEST(SchedulerTest, SinkMayCancelItselfAndOthersAndSubmit) {
  Bench bench(Says("abcdef"));
  Recorder other;
  Recorder third;
  Recorder self;
  const SubmissionId other_id = bench.Submit(Ask(Prompt("hi")), other);
  SubmissionId self_id = 0;
  const auto id = bench.scheduler->Submit(Ask(Prompt("hi")), self.Sink([&](const Event& event) {
    if (std::holds_alternative<Finished>(event)) {
      bench.Submit(Ask(Prompt("hi")), third);
    } else {
      bench.scheduler->Cancel(self_id);
      bench.scheduler->Cancel(other_id);
    }
  }));
  ASSERT_TRUE(id);
  self_id = *id;
  bench.RunUntilIdle();
  EXPECT_EQ(self.finished()->reason, FinishReason::kCancelled);
  EXPECT_EQ(other.finished()->reason, FinishReason::kCancelled);
  EXPECT_EQ(self.text(), "a");
  EXPECT_EQ(third.text(), "abcdef");
}

TEST(SchedulerTest, CancelFromTheLastPieceOfTextComesTooLateAndIsForgotten) {
  Bench bench(Says("abcdef"));
  Recorder recorder;
  SubmissionId id = 0;
  Submission submission = Ask(Prompt("hi"));
  submission.max_tokens = 1;
  const auto submitted = bench.scheduler->Submit(
      std::move(submission), recorder.Sink([&](const Event&) { bench.scheduler->Cancel(id); }));
  ASSERT_TRUE(submitted);
  id = *submitted;
  bench.RunUntilIdle();
  EXPECT_EQ(recorder.finished()->reason, FinishReason::kLength);
  Recorder next;
  bench.Submit(Ask(Prompt("hi")), next);
  bench.RunUntilIdle();
  EXPECT_EQ(next.text(), "abcdef");
  EXPECT_EQ(recorder.n_terminal(), 1);
}

// ---- failures

TEST(SchedulerTest, FailedStepFailsOnlyTheSessionsInIt) {
  Bench bench(Says("abcd"), {.max_sessions = 2});
  std::vector<Recorder> recorders(3);
  for (Recorder& recorder : recorders) bench.Submit(Ask(Prompt("hi")), recorder);
  ASSERT_TRUE(bench.scheduler->RunStep());
  bench.step_error = Error{.code = ErrorCode::kInternal, .message = "broken kernel"};
  ASSERT_TRUE(bench.scheduler->RunStep());
  for (int i : {0, 1}) {
    ASSERT_TRUE(recorders[i].failed());
    EXPECT_EQ(recorders[i].failed()->message, "broken kernel");
    EXPECT_EQ(recorders[i].n_terminal(), 1);
  }
  EXPECT_EQ(recorders[2].n_terminal(), 0);
  // Slots of a failed step are not kept.
  EXPECT_EQ(bench.executor.n_slots(), 0);
  bench.step_error.reset();
  bench.RunUntilIdle();
  EXPECT_EQ(recorders[2].text(), "abcd");
}

TEST(SchedulerTest, LogitsThatAreNotFiniteFailTheirSessionOnly) {
  Bench bench(Says("abcd"));
  bench.executor.on_row = [](std::span<const int32_t> sequence, std::span<float> row) {
    if (sequence[0] == '!') row[0] = std::numeric_limits<float>::quiet_NaN();
  };
  Recorder bad;
  Recorder good;
  bench.Submit(Ask(Prompt("! hi")), bad);
  bench.Submit(Ask(Prompt("hi")), good);
  bench.RunUntilIdle();
  ASSERT_TRUE(bad.failed());
  EXPECT_EQ(bad.failed()->code, ErrorCode::kInternal);
  EXPECT_EQ(bad.n_terminal(), 1);
  EXPECT_EQ(good.text(), "abcd");
}

// ---- prefixes

TEST(SchedulerTest, NextTurnReusesTheCacheAndSaysTheSame) {
  const auto conversation = [](bool reuse, std::vector<int32_t>* cached) {
    Bench bench(HashedLetter);
    std::vector<int32_t> tokens = Bytes("system prompt of some length. first question");
    std::vector<std::vector<int32_t>> answers;
    for (int turn = 0; turn < 4; ++turn) {
      Recorder recorder;
      Submission submission = Ask(tokens);
      submission.sampling = {.temperature = 5.0F, .repetition_penalty = 1.2F, .seed = 9};
      submission.max_tokens = 12;
      submission.reuse_prefix = reuse;
      bench.Submit(std::move(submission), recorder);
      bench.RunUntilIdle();
      answers.push_back(recorder.token_ids());
      cached->push_back(recorder.finished()->usage.cached_tokens);
      tokens.insert(tokens.end(), answers.back().begin(), answers.back().end());
      for (int32_t id : Bytes(" next?")) tokens.push_back(id);
    }
    return answers;
  };
  std::vector<int32_t> cached_with;
  std::vector<int32_t> cached_without;
  EXPECT_EQ(conversation(true, &cached_with), conversation(false, &cached_without));
  // Everything but the last sampled token, which never ran: 44 + 12 - 1, then 18 more each turn.
  EXPECT_THAT(cached_with, ElementsAre(0, 55, 73, 91));
  EXPECT_THAT(cached_without, ElementsAre(0, 0, 0, 0));
}

TEST(SchedulerTest, SharedBeginningIsCopiedAndTheOtherChatKeepsItsOwn) {
  Bench bench(HashedLetter);
  const std::string system(40, 's');
  const auto run = [&](const std::string& prompt) {
    Recorder recorder;
    Submission submission = Ask(Bytes(prompt));
    submission.max_tokens = 20;
    bench.Submit(std::move(submission), recorder);
    bench.RunUntilIdle();
    return std::pair(recorder.text(), recorder.finished()->usage.cached_tokens);
  };
  const auto [a, a_cached] = run(system + "question of A");
  const auto [b, b_cached] = run(system + "quite another");
  EXPECT_EQ(a_cached, 0);
  EXPECT_EQ(b_cached, 42);  // system, and "qu"
  // A's next turn finds A's cache whole, although B came in between.
  const auto [next, next_cached] = run(system + "question of A" + a + "and?");
  EXPECT_EQ(next_cached, 72);
  Bench fresh(HashedLetter);
  Recorder recorder;
  Submission submission = Ask(Bytes(system + "quite another"));
  submission.max_tokens = 20;
  fresh.Submit(std::move(submission), recorder);
  fresh.RunUntilIdle();
  EXPECT_EQ(b, recorder.text());
}

TEST(SchedulerTest, WholePromptCachedStillRunsItsLastToken) {
  Bench bench(Says("abc"));
  for (int i = 0; i < 2; ++i) {
    Recorder recorder;
    bench.Submit(Ask(Prompt("hello there")), recorder);
    bench.RunUntilIdle();
    EXPECT_EQ(recorder.text(), "abc");
    EXPECT_EQ(recorder.finished()->usage.cached_tokens, i == 0 ? 0 : 11);
  }
}

TEST(SchedulerTest, RequestWithoutReuseNeitherTakesNorLeaves) {
  Bench bench(Says("abc"));
  for (int i = 0; i < 3; ++i) {
    Recorder recorder;
    Submission submission = Ask(Prompt("hello there"));
    submission.reuse_prefix = i == 2;
    bench.Submit(std::move(submission), recorder);
    bench.RunUntilIdle();
    EXPECT_EQ(recorder.finished()->usage.cached_tokens, 0);
    EXPECT_EQ(bench.executor.n_slots(), i == 2 ? 1 : 0);
  }
}

// ---- memory

TEST(SchedulerTest, FiguresCountRunningAndKeptCaches) {
  Bench bench(Says("abc"), {.memory_limit_bytes = 1 << 20});
  EXPECT_EQ(bench.scheduler->memory().weights_bytes, bench.executor.weights);
  EXPECT_GT(bench.scheduler->memory().scratch_bytes, bench.executor.scratch);  // rows of logits
  EXPECT_EQ(bench.scheduler->memory().limit_bytes, 1U << 20);
  EXPECT_EQ(bench.scheduler->memory().kv_cache_bytes, 0U);
  std::vector<Recorder> recorders(2);
  bench.Submit(Ask(Prompt("one of the prompts")), recorders[0]);
  bench.Submit(Ask(Prompt("another prompt")), recorders[1]);
  ASSERT_TRUE(bench.scheduler->RunStep());
  EXPECT_EQ(bench.scheduler->memory().kv_cache_bytes, 2 * bench.executor.bytes_per_slot);
  bench.RunUntilIdle();
  EXPECT_EQ(bench.scheduler->memory().kv_cache_bytes, 2 * bench.executor.bytes_per_slot);  // kept
}

// A limit with room for so many slots.
uint64_t LimitFor(uint64_t n_slots) {
  Bench bench(Says(""));
  const MemoryFigures figures = bench.scheduler->memory();
  return figures.weights_bytes + figures.scratch_bytes + n_slots * bench.executor.bytes_per_slot;
}

TEST(SchedulerTest, SessionWaitsForMemoryThatARunningOneHolds) {
  Bench bench(Says("abcdef"), {.memory_limit_bytes = LimitFor(1)});
  Recorder first;
  Recorder second;
  bench.Submit(Ask(Prompt("one")), first);
  bench.Submit(Ask(Prompt("two")), second);
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(bench.scheduler->RunStep());
    EXPECT_EQ(bench.scheduler->activity().n_queued, 1);
  }
  bench.RunUntilIdle();
  EXPECT_EQ(first.text(), "abcdef");
  EXPECT_EQ(second.text(), "abcdef");
  for (const auto& batch : bench.batches) EXPECT_EQ(batch.size(), 1U);
}

TEST(SchedulerTest, KeptCachesGoFirstUnderPressure) {
  Bench bench(Says("abc"), {.max_kept_slots = 4, .memory_limit_bytes = LimitFor(2)});
  for (const char* prompt : {"first prompt", "second prompt", "third prompt"}) {
    Recorder recorder;
    bench.Submit(Ask(Prompt(prompt)), recorder);
    bench.RunUntilIdle();
    EXPECT_EQ(recorder.text(), "abc");
    EXPECT_LE(bench.scheduler->memory().kv_cache_bytes, 2 * bench.executor.bytes_per_slot);
  }
  EXPECT_EQ(bench.executor.n_slots(), 2);
  // The first one's was the least recently used.
  Recorder recorder;
  bench.Submit(Ask(Prompt("third prompt")), recorder);
  bench.RunUntilIdle();
  EXPECT_EQ(recorder.finished()->usage.cached_tokens, 12);
}

TEST(SchedulerTest, SharedBeginningTakesTheSlotWhereACopyDoesNotFit) {
  Bench bench(HashedLetter, {.memory_limit_bytes = LimitFor(1)});
  for (const char* end : {"A", "B"}) {
    Recorder recorder;
    Submission submission = Ask(Bytes(std::string(40, 's') + end + std::string(20, 'x')));
    submission.max_tokens = 5;
    bench.Submit(std::move(submission), recorder);
    bench.RunUntilIdle();
    EXPECT_EQ(recorder.finished()->usage.cached_tokens, *end == 'A' ? 0 : 40);
  }
  EXPECT_EQ(bench.executor.n_slots(), 1);
}

TEST(SchedulerTest, MemoryThatNobodyWillGiveBackIsATypedError) {
  Bench bench(Says("abc"));
  bench.machine.available_bytes = 999;
  Recorder recorder;
  bench.Submit(Ask(Prompt("hi")), recorder);
  bench.RunUntilIdle();
  ASSERT_TRUE(recorder.failed());
  EXPECT_EQ(recorder.failed()->code, ErrorCode::kResourceExhausted);
  EXPECT_THAT(recorder.failed()->message, HasSubstr("needs 1000 bytes and 999 are available"));
  EXPECT_EQ(bench.scheduler->activity().n_queued, 0);
}

TEST(SchedulerTest, MachineMemoryCountsWhatRunningSessionsWillFill) {
  Bench bench(Says("abcdef"));
  bench.machine.available_bytes = 1900;  // a slot is reserved, hardly filled: 1900 - 1000 < 1000
  Recorder first;
  Recorder second;
  bench.Submit(Ask(Prompt("one")), first);
  bench.Submit(Ask(Prompt("two")), second);
  ASSERT_TRUE(bench.scheduler->RunStep());
  EXPECT_EQ(bench.scheduler->activity().n_running, 1);
  EXPECT_EQ(bench.scheduler->activity().n_queued, 1);
  bench.RunUntilIdle();
  EXPECT_EQ(second.text(), "abcdef");
}

// ---- the end

TEST(SchedulerTest, ShutdownFailsEverythingOnceAndRefusesWhatComes) {
  Bench bench(Says("abcdef"), {.max_sessions = 1});
  Recorder running;
  Recorder waiting;
  Recorder late;
  bench.Submit(Ask(Prompt("hi")), running);
  bench.Submit(Ask(Prompt("hi")), waiting);
  ASSERT_TRUE(bench.scheduler->RunStep());
  bench.scheduler->Shutdown();
  bench.scheduler->Shutdown();
  for (const Recorder* recorder : {&running, &waiting}) {
    ASSERT_TRUE(recorder->failed());
    EXPECT_EQ(recorder->failed()->code, ErrorCode::kCancelled);
    EXPECT_EQ(recorder->n_terminal(), 1);
  }
  EXPECT_EQ(running.text(), "a");
  const auto refused = bench.scheduler->Submit(Ask(Prompt("hi")), late.Sink());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kCancelled);
  EXPECT_EQ(bench.scheduler->activity().n_running, 0);
  EXPECT_EQ(bench.executor.n_slots(), 0);
  EXPECT_FALSE(bench.scheduler->RunStep());
}

}  // namespace
}  // namespace tandem::session
