// tandem-train-cascade: calibrates the cascade and examines it.
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "train_cascade/collect.h"
#include "train_cascade/exam.h"
#include "train_cascade/trainer.h"

namespace tandem::train_cascade {
namespace {

struct Arguments {
  CollectOptions collect{.model = "models/demo/tandem-demo-q4_0.gguf",
                         .exam = "models/demo/exam.jsonl"};
  std::vector<double> temperatures = {0, 1, 1.6, 2};
  std::string training = "data/cascade/train.jsonl";
  std::string held_out = "data/cascade/held_out.jsonl";
  std::string calibration = "data/cascade/calibration.json";
  TrainingOptions options;
};

Status RunCollect(Arguments arguments) {
  for (const double temperature : arguments.temperatures) {
    arguments.collect.temperature = temperature;
    TANDEM_RETURN_IF_ERROR(Collect(
        arguments.collect, [](const Example& example) { fmt::print("{}\n", ToLine(example)); }));
  }
  return {};
}

Status RunTrain(const Arguments& arguments) {
  TANDEM_ASSIGN_OR_RETURN(const auto examples, ReadDataset(arguments.training));
  TANDEM_ASSIGN_OR_RETURN(const auto calibrator, Train(examples, arguments.options));
  std::ofstream file(arguments.calibration);
  file << calibrator.ToJson();
  file.close();
  if (!file) return Err(ErrorCode::kIo, "cannot write {}", arguments.calibration);
  TANDEM_ASSIGN_OR_RETURN(const ExamResult result, Examine(examples, calibrator));
  fmt::print("{}: on its own {} answers the calibration error is {:.3f}\n", arguments.calibration,
             examples.size(), result.calibration_error);
  return {};
}

Status RunExam(const Arguments& arguments) {
  TANDEM_ASSIGN_OR_RETURN(const auto examples, ReadDataset(arguments.held_out));
  std::ifstream file(arguments.calibration);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  TANDEM_ASSIGN_OR_RETURN(const auto calibrator, gateway::dispatch::Calibrator::Parse(text));
  TANDEM_ASSIGN_OR_RETURN(const ExamResult result, Examine(examples, calibrator));
  fmt::print("{}", Report(examples, calibrator, result));
  return {};
}

int Main(int argc, char** argv) {
  CLI::App app("Calibrates the cascade by answers whose references are known");
  app.require_subcommand(1);
  Arguments arguments;
  CLI::App* collect = app.add_subcommand("collect", "Ask a model an exam; a line for each answer");
  collect->add_option("--model", arguments.collect.model)->capture_default_str();
  collect->add_option("--exam", arguments.collect.exam)->capture_default_str();
  collect->add_option("--temperatures", arguments.temperatures)->delimiter(',');
  collect->add_option("--seed", arguments.collect.seed)->capture_default_str();
  collect->add_option("--tokens", arguments.collect.tokens)->capture_default_str();
  CLI::App* train = app.add_subcommand("train", "Write the calibration");
  train->add_option("--data", arguments.training)->capture_default_str();
  train->add_option("--out", arguments.calibration)->capture_default_str();
  CLI::App* exam =
      app.add_subcommand("exam", "Print how well it fits answers that it has not seen");
  exam->add_option("--data", arguments.held_out)->capture_default_str();
  exam->add_option("--calibration", arguments.calibration)->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const Status status = collect->parsed() ? RunCollect(arguments)
                        : train->parsed() ? RunTrain(arguments)
                                          : RunExam(arguments);
  if (status) return 0;
  fmt::print(stderr, "tandem-train-cascade: {}\n", status.error().message);
  return 1;
}

}  // namespace
}  // namespace tandem::train_cascade

int main(int argc, char** argv) { return tandem::train_cascade::Main(argc, argv); }
