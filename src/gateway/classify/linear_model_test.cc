#include "gateway/classify/linear_model.h"

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace tandem::gateway {
namespace {

ModelScores ScoresOf(const LinearModel& model, std::string_view text) {
  FeatureSet features;
  ExtractFeatures(text, &features);
  return model.Score(features);
}

FeatureSet FeaturesOf(std::string_view text) {
  FeatureSet features;
  ExtractFeatures(text, &features);
  return features;
}

// Weight 1 for one class and 0.5 for the difficulty, for every feature of `text`.
LinearModel ModelFor(std::string_view text, TaskClass task) {
  std::vector<float> weights(size_t{FeatureTable::kSlots} * kModelColumns);
  const FeatureSet features = FeaturesOf(text);
  FeatureTable table;
  for (const uint32_t hash : features.instruction()) {
    table.Insert(hash);
    const size_t row = size_t{table.Find(hash)} * kModelColumns;
    weights[row + static_cast<size_t>(task)] = 1;
    weights[row + kComplexColumn] = 0.5F;
  }
  ModelScores bias = {};
  bias[0] = 0.25F;
  return LinearModel::Quantise(std::move(table), weights, bias,
                               {.training_digest = 3, .feature_digest = 4});
}

TEST(FeatureTableTest, FindsWhatWasInsertedAndNothingElse) {
  FeatureTable table;
  EXPECT_EQ(table.Find(0), FeatureTable::kNone);
  table.Insert(0);  // the tag 0 means an empty slot, so this one is stored as another
  table.Insert(0);
  EXPECT_EQ(table.Find(0), 0U);
  table.Insert(0x00000005);  // the same slot: takes its neighbour
  EXPECT_EQ(table.Find(0x00000005), 1U);
  table.Insert(0x00000006);  // both are taken
  EXPECT_EQ(table.Find(0x00000006), FeatureTable::kNone);
  EXPECT_EQ(table.Find(0x80000005), FeatureTable::kNone);
  table.Insert(0xFFFFFFFF);
  EXPECT_EQ(table.Find(0xFFFFFFFF), FeatureTable::kSlots - 1);
}

TEST(LinearModelTest, ScoreIsTheWeightedSumOverTheVectorsLength) {
  const LinearModel model = ModelFor("solve for x", TaskClass::kTranslation);
  const FeatureSet features = FeaturesOf("solve for x");
  const ModelScores scores = model.Score(features);
  // n features of weight kInstructionWeight each: sum n * 4, length 4 * sqrt(n).
  const float root = std::sqrt(static_cast<float>(features.instruction().size()));
  EXPECT_NEAR(scores[static_cast<size_t>(TaskClass::kTranslation)], root, 1e-3);
  EXPECT_NEAR(scores[kComplexColumn], root / 2, 1e-3);
  EXPECT_FLOAT_EQ(scores[0], 0.25F);  // the bias alone
  EXPECT_FLOAT_EQ(scores[1], 0);
}

TEST(LinearModelTest, UnknownFeaturesChangeNothing) {
  const LinearModel model = ModelFor("solve", TaskClass::kTranslation);
  FeatureSet features = FeaturesOf("solve");
  const ModelScores before = model.Score(features);
  for (uint32_t i = 1; i < 500; ++i) features.Add(i * 2654435761U);
  features.EndInstruction();
  EXPECT_EQ(model.Score(features), before);
}

TEST(LinearModelTest, EmptyTextScoresItsBiasAndFigures) {
  const LinearModel model = ModelFor("solve for x", TaskClass::kTranslation);
  for (const float score : ScoresOf(model, "")) EXPECT_TRUE(std::isfinite(score));
}

TEST(LinearModelTest, FileRoundTrips) {
  const LinearModel model = ModelFor("write a poem", TaskClass::kCreativeWriting);
  const Result<LinearModel> read = LinearModel::Parse(model.Serialise());
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->provenance().training_digest, 3U);
  EXPECT_EQ(read->provenance().feature_digest, 4U);
  EXPECT_EQ(ScoresOf(*read, "write a poem now"), ScoresOf(model, "write a poem now"));
}

TEST(LinearModelTest, BytesThatAreNoModelAreRefused) {
  const std::string good = ModelFor("x y z", TaskClass::kExtraction).Serialise();
  const auto message = [](std::string bytes) {
    const Result<LinearModel> parsed = LinearModel::Parse(bytes);
    EXPECT_FALSE(parsed);
    if (parsed) return std::string();
    EXPECT_EQ(parsed.error().code, ErrorCode::kCorrupt);
    return parsed.error().message;
  };
  EXPECT_NE(message("").find("cut short"), std::string::npos);
  EXPECT_NE(message(good.substr(0, good.size() - 1)).find("train again"), std::string::npos);
  EXPECT_NE(message(good + "x").find("train again"), std::string::npos);
  std::string changed = good;
  changed[0] = 'X';
  EXPECT_NE(message(changed).find("not a classifier model"), std::string::npos);
  changed = good;
  changed[8] = 16;  // slot bits
  EXPECT_NE(message(changed).find("16 slot bits"), std::string::npos);
  changed = good;
  changed.replace(32, 4, "\xFF\xFF\xFF\x7F");  // a scale that is NaN
  EXPECT_NE(message(changed).find("no number"), std::string::npos);
}

TEST(LinearModelTest, EmbeddedModelIsOneForTheseFeatures) {
  EXPECT_NE(EmbeddedModel().provenance().training_digest, 0U);
}

TEST(LinearModelTest, FeatureDigestTellsTextsApart) {
  EXPECT_EQ(FeatureDigest("one two"), FeatureDigest("One  TWO"));
  EXPECT_NE(FeatureDigest("one two"), FeatureDigest("two one"));
  EXPECT_NE(FeatureDigest("one", FeatureDigest("two")), FeatureDigest("two", FeatureDigest("one")));
}

}  // namespace
}  // namespace tandem::gateway
