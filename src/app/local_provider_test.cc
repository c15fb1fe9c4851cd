#include "app/local_provider.h"

#include <condition_variable>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace tandem::app {
namespace {

const std::filesystem::path kDemo =
    std::filesystem::path(TANDEM_SOURCE_DIR) / "models/demo/tandem-demo-q4_0.gguf";

// Collects one answer. Shared with the sink, which may outlive the test's interest in it.
struct Recorder {
  std::mutex mutex;
  std::condition_variable changed;
  std::string text;
  int deltas = 0;
  int ends = 0;
  std::optional<gateway::Finished> finished;
  std::optional<gateway::Failure> failure;

  static gateway::EventSink SinkOf(const std::shared_ptr<Recorder>& recorder) {
    return [recorder](gateway::GenerateEvent event) {
      std::lock_guard lock(recorder->mutex);
      if (auto* delta = std::get_if<gateway::TextDelta>(&event)) {
        recorder->text += delta->text;
        ++recorder->deltas;
      } else if (auto* finished = std::get_if<gateway::Finished>(&event)) {
        recorder->finished = *finished;
        ++recorder->ends;
      } else {
        recorder->failure = std::get<gateway::Failed>(event).failure;
        ++recorder->ends;
      }
      recorder->changed.notify_all();
    };
  }
  void WaitForEnd() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return ends > 0; });
  }
  void WaitForText() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return deltas > 0 || ends > 0; });
  }
};

class LocalProviderTest : public testing::Test {
 protected:
  static gateway::GenerateRequest Ask(std::string question) {
    gateway::GenerateRequest request;
    request.messages = {{.role = "user", .content = std::move(question)}};
    request.sampling.temperature = 0.0F;
    return request;
  }
  std::shared_ptr<Recorder> Answer(gateway::GenerateRequest request) {
    auto recorder = std::make_shared<Recorder>();
    const auto generation = provider_.Start(std::move(request), Recorder::SinkOf(recorder));
    recorder->WaitForEnd();
    return recorder;
  }

  EnginePool pool_{{.engine = {.n_threads = 1, .context_tokens = 512}}};
  LocalProvider provider_{"demo", gateway::Tier::kDeviceSmall, kDemo, &pool_};
};

TEST_F(LocalProviderTest, AnswersWithTextUsageAndOneEnd) {
  const auto answer = Answer(Ask("Hello"));
  ASSERT_TRUE(answer->finished) << (answer->failure ? answer->failure->message : "");
  EXPECT_FALSE(answer->text.empty());
  EXPECT_EQ(answer->ends, 1);
  EXPECT_GT(answer->finished->usage.prompt_tokens, 0);
  EXPECT_GT(answer->finished->usage.completion_tokens, 0);
}

TEST_F(LocalProviderTest, SamplingFieldsReachTheEngine) {
  gateway::GenerateRequest hot = Ask("zq 7 blue xv");
  hot.sampling.temperature = 2.0F;
  hot.max_tokens = 12;
  std::set<std::string> texts;
  for (int seed = 0; seed < 20; ++seed) {
    hot.sampling.seed = seed;
    const auto answer = Answer(hot);
    EXPECT_EQ(answer->text, Answer(hot)->text) << seed;
    EXPECT_LE(answer->finished->usage.completion_tokens, 12);
    texts.insert(answer->text);
  }
  EXPECT_GT(texts.size(), 1u) << "the seed or the temperature did not arrive";
}

TEST_F(LocalProviderTest, AnAnswerThatHasBegunIsContinuedToTheSameText) {
  const auto whole = Answer(Ask("Do you ship to Singapore?"));
  ASSERT_GT(whole->text.size(), 20u);
  for (size_t cut = 0; cut <= whole->text.size(); ++cut) {
    gateway::GenerateRequest rest = Ask("Do you ship to Singapore?");
    rest.assistant_prefix = whole->text.substr(0, cut);
    const auto answer = Answer(rest);
    ASSERT_TRUE(answer->finished) << answer->failure->message;
    EXPECT_EQ(rest.assistant_prefix + answer->text, whole->text);
    const gateway::Usage& usage = answer->finished->usage;
    EXPECT_EQ(usage.prompt_tokens + usage.completion_tokens,
              whole->finished->usage.prompt_tokens + whole->finished->usage.completion_tokens);
  }
}

TEST_F(LocalProviderTest, LogprobsComeWithTheirAlternatives) {
  gateway::GenerateRequest request = Ask("Hello");
  request.top_logprobs = 2;
  request.max_tokens = 3;
  auto recorder = std::make_shared<Recorder>();
  std::vector<gateway::TokenLogprob> tokens;
  const auto generation = provider_.Start(
      request, [&tokens, sink = Recorder::SinkOf(recorder)](gateway::GenerateEvent event) mutable {
        if (auto* delta = std::get_if<gateway::TextDelta>(&event)) {
          tokens.insert(tokens.end(), delta->logprobs.begin(), delta->logprobs.end());
        }
        sink(std::move(event));
      });
  recorder->WaitForEnd();
  ASSERT_EQ(tokens.size(), static_cast<size_t>(recorder->finished->usage.completion_tokens));
  for (const auto& token : tokens) {
    ASSERT_EQ(token.top.size(), 2u);
    EXPECT_EQ(token.top[0].token, token.token) << "greedy takes the best";
  }
}

TEST_F(LocalProviderTest, CancelEndsTheAnswerOnceAndEarly) {
  gateway::GenerateRequest request = Ask("Hello");
  request.sampling.temperature = 2.0F;
  request.sampling.seed = 3;
  auto recorder = std::make_shared<Recorder>();
  const auto generation = provider_.Start(request, Recorder::SinkOf(recorder));
  recorder->WaitForText();
  generation->Cancel();
  recorder->WaitForEnd();
  generation->Cancel();
  EXPECT_EQ(recorder->ends, 1);
}

TEST_F(LocalProviderTest, CancelBeforeTheModelIsLoadedGeneratesNothing) {
  auto recorder = std::make_shared<Recorder>();
  {
    const auto generation = provider_.Start(Ask("Hello"), Recorder::SinkOf(recorder));
  }
  recorder->WaitForEnd();
  ASSERT_TRUE(recorder->finished);
  EXPECT_EQ(recorder->finished->reason, gateway::FinishReason::kCancelled);
}

TEST_F(LocalProviderTest, APromptThatDoesNotFitNamesTheFigures) {
  const auto answer = Answer(Ask(std::string(20'000, 'x')));
  ASSERT_TRUE(answer->failure);
  EXPECT_EQ(answer->failure->code, gateway::FailureCode::kContextLengthExceeded);
  EXPECT_NE(answer->failure->message.find("512"), std::string::npos) << answer->failure->message;
}

TEST_F(LocalProviderTest, AMissingFileFailsTheRequestNotTheProcess) {
  LocalProvider missing("gone", gateway::Tier::kDeviceSmall, "/nonexistent/model.gguf", &pool_);
  auto recorder = std::make_shared<Recorder>();
  const auto generation = missing.Start(Ask("Hello"), Recorder::SinkOf(recorder));
  recorder->WaitForEnd();
  EXPECT_TRUE(recorder->failure);
}

TEST_F(LocalProviderTest, DestroyingThePoolEndsWhatRuns) {
  auto pool = std::make_unique<EnginePool>(
      EnginePoolOptions{.engine = {.n_threads = 1, .context_tokens = 512}});
  LocalProvider provider("demo", gateway::Tier::kDeviceSmall, kDemo, pool.get());
  gateway::GenerateRequest request = Ask("Hello");
  request.sampling.temperature = 2.0F;
  auto recorder = std::make_shared<Recorder>();
  const auto generation = provider.Start(request, Recorder::SinkOf(recorder));
  recorder->WaitForText();
  pool.reset();
  recorder->WaitForEnd();
  EXPECT_EQ(recorder->ends, 1);
  generation->Cancel();  // after the engine has gone
}

}  // namespace
}  // namespace tandem::app
