// tandem bench: what a model's steps cost on this machine.
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "app/bench.h"
#include "app/models.h"
#include "app/packages.h"
#include "cli/command.h"
#include "cli/progress.h"

namespace tandem::cli {
namespace {

struct BenchFlags {
  std::string model;
  std::vector<std::string> decodes;
  bool as_json = false;
  bool commands = false;
  app::BenchOptions bench;
  EngineFlags engine;
  DataDirOption data_dir;
};

// A line of standard input without its line break; empty at the end.
std::optional<std::string> NextLine() {
  std::string line;
  int c;
  while ((c = std::getc(stdin)) != EOF && c != '\n') line.push_back(static_cast<char>(c));
  if (c == EOF && line.empty()) return std::nullopt;
  return line;
}

Status RunMachine(const app::BenchOptions& options, bool as_json) {
  TANDEM_ASSIGN_OR_RETURN(const app::MachineReport report, app::ProbeMachine(options));
  return Print(as_json ? app::ToJson(report) + "\n" : app::ToText(report));
}

Status RunBench(const BenchFlags& flags) {
  app::BenchOptions options = flags.bench;
  TANDEM_ASSIGN_OR_RETURN(options.engine, flags.engine.Get());
  if (flags.model.empty()) return RunMachine(options, flags.as_json);
  if (!flags.decodes.empty()) options.decodes.clear();
  for (const std::string& text : flags.decodes) {
    auto load = app::ParseDecodeLoad(text);
    if (!load) return Wrap(std::move(load).error(), "--decode");
    options.decodes.push_back(*load);
  }
  TANDEM_ASSIGN_OR_RETURN(const auto data_dir, flags.data_dir.Get());
  TANDEM_ASSIGN_OR_RETURN(const auto file, app::FindModelFile(data_dir, flags.model));
  TANDEM_ASSIGN_OR_RETURN(options.model, PackOnce(data_dir, file));
  if (flags.commands) {
    return app::BenchCommands(
        options, NextLine, [](std::string_view line) { return Print(fmt::format("{}\n", line)); });
  }
  const StopOnInterrupt stop;
  options.stop = stop.token();
  options.progress = [](std::string_view what) { PrintError(fmt::format("{}\n", what)); };
  TANDEM_ASSIGN_OR_RETURN(const app::BenchReport report, app::Bench(options));
  return Print(flags.as_json ? app::ToJson(report) + "\n" : app::ToText(report));
}

}  // namespace

void AddBenchCommand(CLI::App* app, Action* action) {
  auto flags = std::make_shared<BenchFlags>();
  CLI::App* command = app->add_subcommand("bench", "Measure a model's speed on this machine");
  command->add_option("model", flags->model,
                      "An installed model, a package or a GGUF file; without one only the machine "
                      "is measured");
  command->add_option("--prefill", flags->bench.prompts, "Prompts of so many tokens (64,512)")
      ->delimiter(',')
      ->check(CLI::PositiveNumber);
  command
      ->add_option("--decode", flags->decodes,
                   "SEQUENCES or SEQUENCESxDEPTH that generate together (1,4,8,1x512)")
      ->delimiter(',');
  command->add_option("--steps", flags->bench.decode_steps, "Tokens that each generates, once")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--repetitions", flags->bench.repetitions, "How often each is measured")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_flag("--json", flags->as_json, "Print JSON");
  command->add_flag("--commands", flags->commands,
                    "Measure what lines of standard input ask for, one JSON answer each");
  flags->engine.Add(command);
  flags->data_dir.Add(command);
  command->callback([flags, action] { *action = [flags] { return RunBench(*flags); }; });
}

}  // namespace tandem::cli
