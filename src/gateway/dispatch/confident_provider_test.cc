#include "gateway/dispatch/confident_provider.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gateway/provider/fake_provider.h"

namespace tandem::gateway::dispatch {
namespace {

using std::chrono::milliseconds;

class ConfidentProviderTest : public ::testing::Test {
 protected:
  ~ConfidentProviderTest() override { inner_->FinishAll(); }
  void Start(GenerateRequest request = {}) {
    generation_ = provider_.Start(std::move(request), [this](GenerateEvent event) {
      if (auto* delta = std::get_if<TextDelta>(&event)) {
        text_ += delta->text;
        n_logprobs_ += delta->logprobs.size();
        for (const TokenLogprob& token : delta->logprobs) n_alternatives_ += token.top.size();
      }
      if (auto* finished = std::get_if<Finished>(&event)) finished_ = *finished;
      if (auto* failed = std::get_if<Failed>(&event)) failed_ = *failed;
    });
  }
  void Token(float logprob) { inner_->last_call()->Emit(TextDelta{"x", {{"x", logprob, {}}}}); }

  FakeClock clock_;
  std::shared_ptr<FakeProvider> inner_ = std::make_shared<FakeProvider>("m");
  ConfidentProvider provider_{
      inner_, &clock_, {.tokens = 4, .time = milliseconds(400), .min_mean_logprob = -1.0}};
  std::unique_ptr<Generation> generation_;
  std::string text_;
  size_t n_logprobs_ = 0;
  size_t n_alternatives_ = 0;
  std::optional<Finished> finished_;
  std::optional<Failed> failed_;
};

TEST_F(ConfidentProviderTest, SureAnswerFlowsAfterItsBeginning) {
  Start();
  EXPECT_EQ(inner_->last_call()->request().top_logprobs, 0);
  for (int i = 0; i < 3; ++i) Token(-0.1F);
  EXPECT_EQ(text_, "");
  Token(-0.1F);
  EXPECT_EQ(text_, "xxxx");
  Token(-9.0F);  // what comes later is not looked at
  EXPECT_EQ(text_, "xxxxx");
  EXPECT_EQ(n_logprobs_, 0u) << "the client did not ask for them";
  inner_->last_call()->Emit(Finished{});
  EXPECT_TRUE(finished_);
}

TEST_F(ConfidentProviderTest, UnsureAnswerIsCancelledUnseenAndItsUsageKept) {
  Start();
  for (int i = 0; i < 4; ++i) Token(-2.0F);
  EXPECT_EQ(inner_->last_call()->cancels(), 1);
  EXPECT_FALSE(failed_) << "the terminal event of the inner call comes first";
  Token(-0.1F);
  inner_->last_call()->Emit(Finished{.reason = FinishReason::kCancelled, .usage = {7, 5, 0}});
  ASSERT_TRUE(failed_);
  EXPECT_EQ(text_, "");
  EXPECT_EQ(failed_->failure.code, FailureCode::kOutputValidationFailed);
  EXPECT_EQ(failed_->usage.completion_tokens, 5);
}

TEST_F(ConfidentProviderTest, SlowModelIsJudgedByWhatThereIsAfterTheTime) {
  Start();
  Token(-0.5F);
  clock_.Advance(milliseconds(400));
  Token(-0.5F);
  EXPECT_EQ(text_, "xx");
}

TEST_F(ConfidentProviderTest, ShortAnswerIsJudgedAtItsEnd) {
  Start();
  Token(-3.0F);
  inner_->last_call()->Emit(Finished{.usage = {7, 1, 0}});
  EXPECT_TRUE(failed_);
  EXPECT_FALSE(finished_);
}

TEST_F(ConfidentProviderTest, FailureAndCancellationOfTheInnerCallPass) {
  Start();
  Token(-3.0F);
  generation_->Cancel();
  EXPECT_EQ(inner_->last_call()->cancels(), 1);
  inner_->last_call()->Emit(Finished{.reason = FinishReason::kCancelled});
  EXPECT_EQ(finished_.value().reason, FinishReason::kCancelled);
  Start();
  inner_->last_call()->Emit(Failed{{FailureCode::kOutOfMemory, "no memory"}});
  EXPECT_EQ(failed_.value().failure.message, "no memory");
}

TEST_F(ConfidentProviderTest, AnswerWithoutLogProbabilitiesIsPassedOn) {
  Start();
  inner_->last_call()->EmitText("hello");
  inner_->last_call()->Emit(Finished{});
  EXPECT_EQ(text_, "hello");
  EXPECT_TRUE(finished_);
}

TEST_F(ConfidentProviderTest, ClientThatAskedGetsItsLogProbabilities) {
  GenerateRequest request;
  request.top_logprobs = 2;
  Start(request);
  EXPECT_EQ(inner_->last_call()->request().top_logprobs, 2);
  for (int i = 0; i < 4; ++i) Token(-0.1F);
  EXPECT_EQ(n_logprobs_, 4u);
}

// The calibrated decision.
class CalibratedProviderTest : public ConfidentProviderTest {
 protected:
  CalibratedProviderTest() {
    // By the margin alone: even odds at 0.5.
    Calibrator::Parameters parameters;
    parameters.deviation.fill(1);
    parameters.mean[2] = 0.5;
    parameters.weight[2] = 10;
    parameters.task_bias[static_cast<size_t>(TaskClass::kTranslation)] = -100;
    need_.calibrator = std::make_shared<const Calibrator>(parameters);
  }
  void Answer(double first, double second, std::optional<int32_t> wanted = {}) {
    provider_ = std::make_unique<ConfidentProvider>(inner_, &clock_, need_);
    generation_.reset();
    text_.clear();
    failed_.reset();
    GenerateRequest request;
    request.top_logprobs = wanted;
    generation_ = provider_->Start(std::move(request), [this](GenerateEvent event) {
      if (auto* delta = std::get_if<TextDelta>(&event)) {
        text_ += delta->text;
        for (const TokenLogprob& token : delta->logprobs) n_alternatives_ += token.top.size();
      }
      if (auto* failed = std::get_if<Failed>(&event)) failed_ = *failed;
    });
    for (int i = 0; i < 4; ++i) {
      const auto log = [](double p) { return static_cast<float>(std::log(p)); };
      inner_->last_call()->Emit(
          TextDelta{"x", {{"x", log(first), {{"x", log(first)}, {"y", log(second)}}}}});
    }
    inner_->last_call()->Emit(Finished{});
  }

  ConfidenceNeed need_{
      .tokens = 4, .min_probability = 0.6, .min_mean_logprob = 1};  // which nothing could meet
  std::unique_ptr<ConfidentProvider> provider_;
};

TEST_F(CalibratedProviderTest, ProbabilityDecidesNotTheMean) {
  Answer(0.8, 0.1);  // a margin of 0.7: 0.88
  EXPECT_EQ(inner_->last_call()->request().top_logprobs, TokenConfidence::kAlternatives);
  EXPECT_EQ(text_, "xxxx");
  EXPECT_FALSE(failed_);
  Answer(0.5, 0.3);  // 0.2: 0.05
  ASSERT_TRUE(failed_);
  EXPECT_EQ(text_, "");
  EXPECT_EQ(failed_->failure.code, FailureCode::kOutputValidationFailed);
  EXPECT_THAT(
      failed_->failure.message,
      ::testing::HasSubstr("first 4 tokens the answer is right with a probability of 0.05"));
}

TEST_F(CalibratedProviderTest, TaskCounts) {
  need_.task = TaskClass::kTranslation;
  Answer(0.8, 0.1);
  EXPECT_TRUE(failed_);
}

TEST_F(CalibratedProviderTest, ClientGetsAsManyAlternativesAsItAskedFor) {
  Answer(0.8, 0.1, 1);
  EXPECT_EQ(text_, "xxxx");
  EXPECT_EQ(n_alternatives_, 4u);
  EXPECT_EQ(inner_->last_call()->request().top_logprobs, TokenConfidence::kAlternatives);
  Answer(0.8, 0.1, 20);
  EXPECT_EQ(inner_->last_call()->request().top_logprobs, 20);
}

TEST_F(CalibratedProviderTest, WithoutAlternativesTheMeanDecides) {
  provider_ = std::make_unique<ConfidentProvider>(inner_, &clock_, need_);
  generation_ = provider_->Start({}, [this](GenerateEvent event) {
    if (auto* failed = std::get_if<Failed>(&event)) failed_ = *failed;
  });
  for (int i = 0; i < 4; ++i) Token(-0.1F);
  inner_->last_call()->Emit(Finished{});
  ASSERT_TRUE(failed_);
  EXPECT_THAT(failed_->failure.message, ::testing::HasSubstr("mean log probability"));
}

TEST_F(ConfidentProviderTest, DestroyingTheHandleReleasesTheInnerCall) {
  Start();
  generation_.reset();
  EXPECT_TRUE(inner_->last_call()->released());
  inner_->last_call()->Emit(Finished{.reason = FinishReason::kCancelled});
}

}  // namespace
}  // namespace tandem::gateway::dispatch
