// tandem-train-classify: trains the prompt classifier and examines it.
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "gateway/classify/linear_model.h"
#include "train_classify/exam.h"
#include "train_classify/keyword_baseline.h"
#include "train_classify/trainer.h"

namespace tandem::train_classify {
namespace {

struct Arguments {
  std::string training = "data/classify/train.jsonl";
  std::string words = "data/classify/words.jsonl";
  int rounds = kWordRounds;
  std::string held_out = "data/classify/held_out.jsonl";
  std::string model = "data/classify/model.bin";
  TrainingOptions options;
  int folds = 5;
  bool show_mistakes = false;
  std::string prompt;
};

ClassifyFunction UseKeywords() {
  return [](const Example& example) { return ClassifyByKeywords(example.text); };
}

void PrintMistakes(const ExamResult& result) {
  for (const auto& [example, said] : result.mistakes) {
    fmt::print("{} {} {}: said {}: {:.160}\n", example->language, example->family,
               gateway::TaskClassName(example->task), gateway::TaskClassName(said), example->text);
  }
}

Result<Dataset> ReadTraining(const Arguments& arguments) {
  TANDEM_ASSIGN_OR_RETURN(Dataset training, ReadDataset(arguments.training));
  TANDEM_RETURN_IF_ERROR(AddWords(arguments.words, arguments.rounds, &training));
  return training;
}

Status RunTrain(const Arguments& arguments) {
  TANDEM_ASSIGN_OR_RETURN(const Dataset training, ReadTraining(arguments));
  const gateway::LinearModel model = Train(training.examples, training.digest, arguments.options);
  std::ofstream file(arguments.model, std::ios::binary);
  file << model.Serialise();
  file.close();
  if (!file) return Err(ErrorCode::kIo, "cannot write {}", arguments.model);
  const ExamResult result = Examine(training.examples, UseModel(model));
  fmt::print("{}: {} prompts, macro-F1 on them {:.1f} %\n", arguments.model,
             training.examples.size(), 100 * MacroF1(result.all));
  return {};
}

Status RunExam(const Arguments& arguments) {
  TANDEM_ASSIGN_OR_RETURN(const Dataset held_out, ReadDataset(arguments.held_out));
  std::ifstream file(arguments.model, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  TANDEM_ASSIGN_OR_RETURN(const gateway::LinearModel model, gateway::LinearModel::Parse(bytes));
  const ExamResult result = Examine(held_out.examples, UseModel(model));
  if (arguments.show_mistakes) PrintMistakes(result);
  fmt::print("{} held-out prompts\n{}", held_out.examples.size(),
             Report(result, Examine(held_out.examples, UseKeywords())));
  return {};
}

// Settings are chosen by this, never by the held-out file: each family of the training file is
// examined once by a model that has not seen it.
Status RunFolds(const Arguments& arguments) {
  TANDEM_ASSIGN_OR_RETURN(const Dataset training, ReadTraining(arguments));
  double sum = 0;
  for (int fold = 0; fold < arguments.folds; ++fold) {
    std::vector<Example> learn;
    std::vector<Example> examine;
    for (const Example& example : training.examples) {
      const bool kept_back =
          !ListsWords(example) &&
          gateway::Fnv1a(example.family) % 1009 % static_cast<uint64_t>(arguments.folds) ==
              static_cast<uint64_t>(fold);
      (kept_back ? examine : learn).push_back(example);
    }
    const gateway::LinearModel model = Train(learn, 0, arguments.options);
    const ExamResult result = Examine(examine, UseModel(model));
    if (arguments.show_mistakes) PrintMistakes(result);
    fmt::print("fold {}: {} of {} prompts, macro-F1 {:.2f} %, complex AUC {:.3f}\n", fold,
               examine.size(), training.examples.size(), 100 * MacroF1(result.all),
               result.complex_auc);
    sum += MacroF1(result.all);
  }
  fmt::print("mean macro-F1 {:.2f} %\n", 100 * sum / arguments.folds);
  return {};
}

Status RunPrompt(const Arguments& arguments) {
  const gateway::Classification said = gateway::Classify(arguments.prompt);
  fmt::print("{} (confidence {:.2f}, by {}), complexity {:.2f}\n",
             gateway::TaskClassName(said.task), said.confidence, said.reason, said.complexity);
  return {};
}

}  // namespace
}  // namespace tandem::train_classify

int main(int argc, char** argv) {
  using namespace tandem::train_classify;
  CLI::App app("Trains the prompt classifier of gateway/classify and examines it.");
  app.require_subcommand(1);
  Arguments arguments;
  CLI::App* train = app.add_subcommand("train", "fit a model to the training file and write it");
  CLI::App* exam = app.add_subcommand(
      "exam", "figures on the held-out file, beside those of a list of keywords");
  CLI::App* folds =
      app.add_subcommand("folds", "cross-validation over the training file's families");
  CLI::App* prompt = app.add_subcommand("prompt", "classify one text with the build's own model");
  for (CLI::App* command : {train, folds}) {
    command->add_option("--training", arguments.training)->capture_default_str();
    command->add_option("--words", arguments.words)->capture_default_str();
    command->add_option("--rounds", arguments.rounds)->capture_default_str();
    command->add_option("--epochs", arguments.options.epochs)->capture_default_str();
    command->add_option("--rate", arguments.options.learning_rate)->capture_default_str();
    command->add_option("--decay", arguments.options.decay)->capture_default_str();
    command->add_option("--dropout", arguments.options.dropout)->capture_default_str();
    command->add_option("--prior", arguments.options.prior)->capture_default_str();
    command->add_option("--smoothing", arguments.options.smoothing)->capture_default_str();
    command->add_option("--min-sources", arguments.options.min_sources)->capture_default_str();
    command->add_option("--seed", arguments.options.seed)->capture_default_str();
  }
  for (CLI::App* command : {train, exam}) {
    command->add_option("--model", arguments.model)->capture_default_str();
  }
  exam->add_option("--held-out", arguments.held_out)->capture_default_str();
  folds->add_option("--folds", arguments.folds)->check(CLI::Range(2, 100))->capture_default_str();
  for (CLI::App* command : {exam, folds}) {
    command->add_flag("--mistakes", arguments.show_mistakes, "print what was taken for what");
  }
  prompt->add_option("text", arguments.prompt)->required();
  CLI11_PARSE(app, argc, argv);

  tandem::Status status;
  if (*train) status = RunTrain(arguments);
  if (*exam) status = RunExam(arguments);
  if (*folds) status = RunFolds(arguments);
  if (*prompt) status = RunPrompt(arguments);
  if (!status) {
    fmt::print(stderr, "tandem-train-classify: {}\n", status.error().message);
    return 1;
  }
  return 0;
}
