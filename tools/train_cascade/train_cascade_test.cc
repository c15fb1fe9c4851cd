#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "train_cascade/dataset.h"
#include "train_cascade/exam.h"
#include "train_cascade/trainer.h"

namespace tandem::train_cascade {
namespace {

using gateway::TaskClass;
using gateway::dispatch::Calibrator;

std::filesystem::path Data(std::string_view name) {
  return std::filesystem::path(TANDEM_SOURCE_DIR) / "data/cascade" / name;
}

// Answers whose chance to be right is known: a logistic function of two of the features.
std::vector<Example> Drawn(size_t n) {
  std::vector<Example> examples;
  uint64_t state = 5;
  const auto random = [&] {
    state = state * 6364136223846793005U + 1442695040888963407U;
    return static_cast<double>(state >> 11) * 0x1.0p-53;
  };
  for (size_t i = 0; i < n; ++i) {
    Example& example = examples.emplace_back();
    example.confidence = {-2 * random(), -4 * random(), random(), random(), 2 * random()};
    example.task = random() < 0.5 ? TaskClass::kExtraction : TaskClass::kTranslation;
    const double logit = 3 + 2 * example.confidence.mean_logprob - example.confidence.high_entropy -
                         (example.task == TaskClass::kTranslation ? 1.5 : 0);
    example.correct = random() < 1 / (1 + std::exp(-logit));
  }
  return examples;
}

TEST(TrainCascadeTest, LineIsReadBack) {
  const Example example{.confidence = {-0.5, -1.25, 0.125, 0.75, 1.5},
                        .task = TaskClass::kExtraction,
                        .temperature = 0.7,
                        .correct = true};
  const auto again = ParseLine(ToLine(example));
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->confidence.Features(), example.confidence.Features());
  EXPECT_EQ(again->task, example.task);
  EXPECT_EQ(again->temperature, 0.7);
  EXPECT_TRUE(again->correct);
  EXPECT_FALSE(ParseLine("{}"));
  EXPECT_FALSE(ParseLine(R"({"class": "extraction", "correct": true})"));
}

TEST(TrainCascadeTest, KnownChancesAreFound) {
  const std::vector<Example> examples = Drawn(20'000);
  const auto calibrator = Train(std::span(examples).first(10'000), {});
  ASSERT_TRUE(calibrator) << calibrator.error().message;
  for (const Example& example : std::span(examples).last(10'000)) {
    const double logit = 3 + 2 * example.confidence.mean_logprob - example.confidence.high_entropy -
                         (example.task == TaskClass::kTranslation ? 1.5 : 0);
    ASSERT_NEAR(calibrator->Probability(example.confidence, example.task),
                1 / (1 + std::exp(-logit)), 0.06);
  }
  const auto result = Examine(std::span(examples).last(10'000), *calibrator);
  ASSERT_TRUE(result);
  EXPECT_LT(result->calibration_error, 0.02);
  EXPECT_GT(result->auc, result->auc_mean_logprob);
}

TEST(TrainCascadeTest, CalibrationErrorIsTheDistanceFromWhatCameTrue) {
  // Half of the answers are right, and everything is promised with 0.8.
  Calibrator::Parameters parameters;
  parameters.deviation.fill(1);
  parameters.bias = std::log(4);
  std::vector<Example> examples(1000);
  for (size_t i = 0; i < examples.size(); i += 2) examples[i].correct = true;
  const auto result = Examine(examples, Calibrator(parameters));
  ASSERT_TRUE(result);
  EXPECT_NEAR(result->calibration_error, 0.3, 1e-9);
  EXPECT_NEAR(result->brier, (0.04 + 0.64) / 2, 1e-9);
  EXPECT_NEAR(result->auc, 0.5, 1e-9);
  const Trade all = TradeAt(examples, Calibrator(parameters), 0.79);
  EXPECT_EQ(all.accepted, 1);
  EXPECT_EQ(all.right, 0.5);
  EXPECT_EQ(TradeAt(examples, Calibrator(parameters), 0.81).accepted, 0);
}

TEST(TrainCascadeTest, WhatCannotBeLearntFromIsRefused) {
  std::vector<Example> examples = Drawn(50);
  for (Example& example : examples) example.correct = true;
  EXPECT_FALSE(Train(examples, {}));
  EXPECT_FALSE(Train({}, {}));
  EXPECT_FALSE(Examine(examples, Calibrator::Builtin()));
}

TEST(TrainCascadeTest, BuiltinIsWhatTrainingMakesOfItsData) {
  const auto examples = ReadDataset(Data("train.jsonl"));
  ASSERT_TRUE(examples) << examples.error().message;
  const auto calibrator = Train(*examples, {});
  ASSERT_TRUE(calibrator) << calibrator.error().message;
  EXPECT_EQ(calibrator->ToJson(), Calibrator::Builtin().ToJson());
}

TEST(TrainCascadeTest, BuiltinFitsAnswersThatItHasNotSeen) {
  const auto examples = ReadDataset(Data("held_out.jsonl"));
  ASSERT_TRUE(examples) << examples.error().message;
  const auto result = Examine(*examples, Calibrator::Builtin());
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_LT(result->calibration_error, 0.05) << Report(*examples, Calibrator::Builtin(), *result);
  EXPECT_GT(result->auc, 0.95);
  // Sending on what is below 0.8 makes the rest better.
  EXPECT_GT(TradeAt(*examples, Calibrator::Builtin(), 0.8).right,
            TradeAt(*examples, Calibrator::Builtin(), 0).right + 0.03);
}

}  // namespace
}  // namespace tandem::train_cascade
