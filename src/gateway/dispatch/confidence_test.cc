#include "gateway/dispatch/confidence.h"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::gateway::dispatch {
namespace {

using ::testing::HasSubstr;

TokenLogprob Token(std::vector<double> probabilities, size_t chosen = 0) {
  TokenLogprob token{"x", static_cast<float>(std::log(probabilities[chosen])), {}};
  for (const double p : probabilities) token.top.push_back({"x", static_cast<float>(std::log(p))});
  return token;
}

TEST(ConfidenceTest, TokenIsReadFromItsAlternatives) {
  const auto read = ReadConfidence(Token({0.5, 0.25, 0.125}, 1));
  ASSERT_TRUE(read);
  EXPECT_NEAR(read->logprob, std::log(0.25), 1e-6);
  EXPECT_NEAR(read->margin, 0.25, 1e-6);
  // The rest, an eighth, counts as one alternative more.
  EXPECT_NEAR(read->entropy, (0.5 * 1 + 0.25 * 2 + 2 * 0.125 * 3) * std::log(2), 1e-6);
}

TEST(ConfidenceTest, TokenWithoutAlternativesTellsNothing) {
  EXPECT_FALSE(ReadConfidence({"x", -1, {}}));
  EXPECT_FALSE(ReadConfidence(Token({0.9})));
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(ReadConfidence({"x", nan, {{"x", nan}, {"y", nan}}}));
}

TEST(ConfidenceTest, WhatCannotBeIsBounded) {
  const float infinity = std::numeric_limits<float>::infinity();
  const auto read = ReadConfidence({"x", -infinity, {{"x", 0.5F}, {"y", -infinity}}});
  ASSERT_TRUE(read);
  EXPECT_EQ(read->logprob, -20);
  EXPECT_EQ(read->margin, 1);
  EXPECT_NEAR(read->entropy, 0, 1e-6);
}

TEST(ConfidenceTest, TailsStandBesideTheMean) {
  std::vector<TokenConfidence> tokens;
  for (int i = 0; i <= 10; ++i) tokens.push_back({-0.1 * i, 0.1 * i, 0.2 * i});
  const AnswerConfidence answer = Summarise(tokens);
  EXPECT_NEAR(answer.mean_logprob, -0.5, 1e-12);
  EXPECT_NEAR(answer.low_logprob, -0.9, 1e-12);
  EXPECT_NEAR(answer.low_margin, 0.1, 1e-12);
  EXPECT_NEAR(answer.mean_entropy, 1, 1e-12);
  EXPECT_NEAR(answer.high_entropy, 1.8, 1e-12);
  const AnswerConfidence one = Summarise(std::span(tokens).subspan(3, 1));
  EXPECT_EQ(one.low_logprob, one.mean_logprob);
  EXPECT_EQ(one.low_margin, tokens[3].margin);
}

TEST(CalibratorTest, ProbabilityIsThatOfTheFormula) {
  Calibrator::Parameters parameters;
  parameters.mean = {-1, 0, 0, 0, 0};
  parameters.deviation = {2, 1, 1, 1, 1};
  parameters.weight = {3, 0, 0, 0, -1};
  parameters.bias = 0.5;
  parameters.task_bias[static_cast<size_t>(TaskClass::kTranslation)] = -2;
  const Calibrator calibrator(parameters);
  AnswerConfidence confidence{.mean_logprob = 1, .high_entropy = 0.25};
  const double logit = 0.5 + 3 * (1 + 1) / 2.0 - 0.25;
  EXPECT_NEAR(calibrator.Probability(confidence, TaskClass::kExtraction),
              1 / (1 + std::exp(-logit)), 1e-12);
  EXPECT_NEAR(calibrator.Probability(confidence, TaskClass::kTranslation),
              1 / (1 + std::exp(2 - logit)), 1e-12);
}

TEST(CalibratorTest, TextIsReadBack) {
  Calibrator::Parameters parameters;
  parameters.mean = {-0.25, -1.5, 0.5, 0.125, 1};
  parameters.deviation = {1, 2, 3, 4, 5};
  parameters.weight = {0.5, -0.25, 1, 2, -3};
  parameters.bias = 1.25;
  parameters.task_bias[0] = 0.75;
  const Calibrator calibrator(parameters);
  const auto again = Calibrator::Parse(calibrator.ToJson());
  ASSERT_TRUE(again) << again.error().message;
  const AnswerConfidence confidence{-0.5, -2, 0.25, 0.5, 1.5};
  for (int task = 0; task < kTaskClassCount; ++task) {
    EXPECT_EQ(again->Probability(confidence, static_cast<TaskClass>(task)),
              calibrator.Probability(confidence, static_cast<TaskClass>(task)));
  }
}

TEST(CalibratorTest, WhatIsWrongIsNamed) {
  const std::string good = Calibrator::Builtin().ToJson();
  ASSERT_TRUE(Calibrator::Parse(good));
  const auto message = [&](std::string_view from, std::string_view to) {
    std::string text = good;
    text.replace(text.find(from), from.size(), to);
    const auto parsed = Calibrator::Parse(text);
    return parsed ? "valid" : parsed.error().message;
  };
  EXPECT_THAT(message("\"format\": 1", "\"format\": 2"), HasSubstr("format"));
  EXPECT_THAT(message("\"bias\"", "\"b\""), HasSubstr("'bias'"));
  EXPECT_THAT(message("\"low_margin\"", "\"x\""), HasSubstr("'low_margin'"));
  EXPECT_THAT(message("\"deviation\": ", "\"deviation\": -"), HasSubstr("not above 0"));
  EXPECT_THAT(message("\"weight\": ", "\"weight\": \"1\", \"w\": "), HasSubstr("'weight'"));
  EXPECT_THAT(message("\"task_bias\"", "\"t\""), HasSubstr("'task_bias'"));
  for (const std::string_view text : {"", "[]", "7", "{", "{\"format\":1}"}) {
    EXPECT_EQ(Calibrator::Parse(text).error().code, ErrorCode::kInvalidArgument) << text;
  }
}

TEST(CalibratorTest, BuiltinTrustsWhoIsSure) {
  const Calibrator& calibrator = Calibrator::Builtin();
  const AnswerConfidence sure{-0.01, -0.02, 0.98, 0.02, 0.05};
  const AnswerConfidence unsure{-1.5, -3.5, 0.05, 1.2, 2};
  EXPECT_GT(calibrator.Probability(sure, TaskClass::kProductQuestion), 0.8);
  EXPECT_LT(calibrator.Probability(unsure, TaskClass::kProductQuestion), 0.3);
}

}  // namespace
}  // namespace tandem::gateway::dispatch
