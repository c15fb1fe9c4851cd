#include <map>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "train_classify/exam.h"
#include "train_classify/keyword_baseline.h"
#include "train_classify/trainer.h"

namespace tandem::train_classify {
namespace {

constexpr std::string_view kFolder = TANDEM_SOURCE_DIR "/data/classify/";

Dataset Read(std::string_view name) {
  Result<Dataset> dataset = ReadDataset(fmt::format("{}{}", kFolder, name));
  EXPECT_TRUE(dataset) << dataset.error().message;
  return dataset ? std::move(dataset).value() : Dataset{};
}

Dataset ReadTraining() {
  Dataset training = Read("train.jsonl");
  const Status status = AddWords(fmt::format("{}words.jsonl", kFolder), kWordRounds, &training);
  EXPECT_TRUE(status) << status.error().message;
  return training;
}

// ---- the model that is shipped
// -------------------------------------------------------------------

TEST(ShippedClassifierTest, IsRightOnWhatItHasNotSeen) {
  const Dataset held_out = Read("held_out.jsonl");
  const ExamResult result = Examine(held_out.examples, UseModel(gateway::EmbeddedModel()));
  const ExamResult keywords = Examine(
      held_out.examples, [](const Example& example) { return ClassifyByKeywords(example.text); });
  EXPECT_GE(MacroF1(result.all), 0.92) << Report(result, keywords);
  EXPECT_LE(MacroF1(keywords.all), 0.50);
  EXPECT_EQ(result.by_language.size(), 7U);
  for (const auto& [language, confusion] : result.by_language) {
    EXPECT_GE(MacroF1(confusion), 0.87) << language;
  }
  ASSERT_GT(result.adversarial.total, 200);
  EXPECT_GE(result.adversarial.right, result.adversarial.total * 85 / 100);
  EXPECT_GE(result.complex_auc, 0.80);
  // A confident answer is right, an unsure one often is not: routing may rely on the figure.
  const Share& sure = result.by_confidence[9];
  EXPECT_GE(sure.right, sure.total * 97 / 100);
}

TEST(ShippedClassifierTest, RulesAreAlmostNeverWrong) {
  Dataset all = Read("held_out.jsonl");
  for (Example& example : Read("train.jsonl").examples) all.examples.push_back(std::move(example));
  const ExamResult result = Examine(all.examples, UseModel(gateway::EmbeddedModel()));
  for (const auto& [reason, share] : result.by_reason) {
    if (reason == "model" || reason == "context") continue;
    EXPECT_GE(share.right, share.total * 98 / 100) << reason << " of " << share.total;
  }
  EXPECT_GT(result.by_reason.at("translation").total, 100);
  EXPECT_GT(result.by_reason.at("code_fence").total, 20);
}

TEST(ShippedClassifierTest, WasTrainedOnTheseFilesWithTheseFeatures) {
  const Dataset training = ReadTraining();
  const auto& provenance = gateway::EmbeddedModel().provenance();
  EXPECT_EQ(provenance.training_digest, training.digest)
      << "data/classify changed: run tandem-train-classify train";
  EXPECT_EQ(provenance.feature_digest, DatasetFeatureDigest(training.examples))
      << "feature extraction changed: run tandem-train-classify train";
}

TEST(ShippedDataTest, NoFamilyAndNoTextIsInBothFiles) {
  const Dataset training = Read("train.jsonl");
  const Dataset held_out = Read("held_out.jsonl");
  EXPECT_GE(training.examples.size() + held_out.examples.size(), 2000U);
  std::set<std::string> families;
  std::set<std::string> texts;
  for (const Example& example : training.examples) {
    families.insert(example.family);
    texts.insert(example.text + "\n" + example.context);
  }
  std::map<std::pair<std::string, TaskClass>, int> cells;
  for (const Example& example : held_out.examples) {
    EXPECT_FALSE(families.contains(example.family)) << example.family;
    EXPECT_FALSE(texts.contains(example.text + "\n" + example.context)) << example.text;
    EXPECT_FALSE(ListsWords(example)) << example.text;
    ++cells[{example.language, example.task}];
  }
  EXPECT_EQ(cells.size(), 7U * kTaskClassCount);
  for (const auto& [cell, n] : cells) EXPECT_GE(n, 10) << cell.first;
}

// ---- the tool
// ------------------------------------------------------------------------------------

TEST(DatasetTest, LinesBecomeExamples) {
  const Result<Dataset> dataset = ParseDataset(
      R"({"text":"and 7?","context":"2+2","class":"math_reasoning","language":"en","family":"f"})"
      "\n\n"
      R"({"text":"x","class":"extraction","language":"de","family":"g","complex":true})",
      "d.jsonl");
  ASSERT_TRUE(dataset) << dataset.error().message;
  ASSERT_EQ(dataset->examples.size(), 2U);
  EXPECT_EQ(dataset->examples[0].context, "2+2");
  EXPECT_EQ(dataset->examples[0].task, TaskClass::kMathReasoning);
  EXPECT_FALSE(dataset->examples[0].complex_reasoning);
  EXPECT_TRUE(dataset->examples[1].complex_reasoning);
}

TEST(DatasetTest, ErrorsNameTheLineAndTheField) {
  const auto message = [](std::string_view line) {
    const Result<Dataset> dataset = ParseDataset(fmt::format("\n{}", line), "d.jsonl");
    return dataset ? "" : dataset.error().message;
  };
  EXPECT_EQ(message("{"), "d.jsonl:2: no JSON object");
  EXPECT_EQ(message("[]"), "d.jsonl:2: no JSON object");
  EXPECT_EQ(message(R"({"text":1})"), "d.jsonl:2: 'text' is missing or no text");
  EXPECT_TRUE(message(R"({"text":"x","class":"maths"})")
                  .starts_with("d.jsonl:2: unknown task class 'maths'"));
  EXPECT_TRUE(ReadDataset("no/such/file").error().message.starts_with("cannot open no/such/file"));
  Dataset dataset;
  EXPECT_EQ(
      AddParsedWords(R"({"class":"extraction","language":"en","words":[1]})", "w", 1, &dataset)
          .error()
          .message,
      "w:1: a word is no text");
}

TEST(DatasetTest, EveryWordIsThereOnceARound) {
  Dataset dataset;
  ASSERT_TRUE(
      AddParsedWords(R"({"class":"extraction","language":"en","words":["aa","bb","cc","dd","ee"]})",
                     "w", 4, &dataset));
  std::map<std::string, int> counts;
  for (const Example& example : dataset.examples) {
    EXPECT_TRUE(ListsWords(example));
    std::string word;
    for (const char c : example.text + " ") {
      if (c != ' ') {
        word += c;
        continue;
      }
      ++counts[word];
      word.clear();
    }
  }
  EXPECT_EQ(counts,
            (std::map<std::string, int>{{"aa", 4}, {"bb", 4}, {"cc", 4}, {"dd", 4}, {"ee", 4}}));
}

std::vector<Example> Toy() {
  std::vector<Example> examples;
  for (int i = 0; i < 20; ++i) {
    examples.push_back({.text = "apple banana cherry",
                        .task = TaskClass::kExtraction,
                        .language = "en",
                        .family = fmt::format("a{}", i)});
    examples.push_back({.text = "delta echo foxtrot",
                        .task = TaskClass::kTranslation,
                        .language = "en",
                        .family = fmt::format("b{}", i),
                        .complex_reasoning = true});
  }
  return examples;
}

TEST(TrainerTest, LearnsWhatTellsClassesApartAndIsReproducible) {
  const std::vector<Example> examples = Toy();
  const gateway::LinearModel model = Train(examples, 5, {});
  const auto banana = gateway::ClassifyWith(model, "a banana");
  EXPECT_EQ(banana.task, TaskClass::kExtraction);
  EXPECT_FALSE(banana.complex_reasoning);
  const auto echo = gateway::ClassifyWith(model, "the echo");
  EXPECT_EQ(echo.task, TaskClass::kTranslation);
  EXPECT_TRUE(echo.complex_reasoning);
  EXPECT_EQ(model.provenance().training_digest, 5U);
  EXPECT_EQ(Train(examples, 5, {}).Serialise(), model.Serialise());
  EXPECT_NE(Train(examples, 5, {.seed = 2}).Serialise(), model.Serialise());
}

TEST(TrainerTest, FeaturesOfOneSourceAloneAreLeftOut) {
  std::vector<Example> examples = Toy();
  examples.push_back(
      {.text = "zulu", .task = TaskClass::kExtraction, .language = "en", .family = "single"});
  const gateway::LinearModel once = Train(examples, 0, {});
  const gateway::LinearModel kept = Train(examples, 0, {.min_sources = 1});
  const auto lead = [](const gateway::LinearModel& model) {
    return gateway::ClassifyWith(model, "zulu").confidence;
  };
  EXPECT_GT(lead(kept), lead(once));
}

TEST(ExamTest, FiguresAreThoseOfTheDefinition) {
  // Three of class 0: two right, one taken for 1. One of class 1: right.
  Confusion confusion = {};
  confusion[0][0] = 2;
  confusion[0][1] = 1;
  confusion[1][1] = 1;
  EXPECT_DOUBLE_EQ(ClassF1(confusion, static_cast<TaskClass>(0)), 0.8);
  EXPECT_DOUBLE_EQ(ClassF1(confusion, static_cast<TaskClass>(1)), 2.0 / 3);
  EXPECT_DOUBLE_EQ(MacroF1(confusion), (0.8 + 2.0 / 3) / 2);
  EXPECT_EQ(MacroF1({}), 0);

  std::vector<Example> examples(4);
  examples[1].complex_reasoning = examples[3].complex_reasoning = true;
  examples[0].text = "0.1";
  examples[1].text = "0.4";
  examples[2].text = "0.6";
  examples[3].text = "0.8";
  const ExamResult result = Examine(examples, [](const Example& example) {
    return gateway::Classification{.complexity = std::stof(example.text), .reason = "model"};
  });
  EXPECT_DOUBLE_EQ(result.complex_auc, 0.75);  // 3 of 4 pairs are in order
}

TEST(KeywordBaselineTest, IsAsNaiveAsItIsMeantToBe) {
  EXPECT_EQ(ClassifyByKeywords("What is the number of your support line?").task,
            TaskClass::kMathReasoning);
  EXPECT_EQ(ClassifyByKeywords("Translate this function").task, TaskClass::kCodeGeneration);
  EXPECT_EQ(ClassifyByKeywords("好无聊").task, TaskClass::kGeneralConversation);
}

}  // namespace
}  // namespace tandem::train_classify
