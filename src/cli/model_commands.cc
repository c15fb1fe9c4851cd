// tandem pull, verify, repair, list, show, rm.
#include <unistd.h>

#include <chrono>
#include <ctime>
#include <memory>
#include <string>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <boost/json.hpp>

#include "app/byte_size.h"
#include "app/models.h"
#include "cli/command.h"
#include "cli/progress.h"

namespace tandem::cli {
namespace {

namespace json = boost::json;

// What the commands share.
struct ModelFlags {
  std::string model;
  bool as_json = false;
  std::vector<std::string> from;  // pull, repair
  std::string limit;              // "2MB": a second
  EngineFlags engine;
  DataDirOption data_dir;

  Result<std::unique_ptr<fleet::Fleet>> OpenFleet() const {
    TANDEM_ASSIGN_OR_RETURN(const auto directory, data_dir.Get());
    return app::OpenFleet(directory);
  }
};

Status PrintJson(const json::value& value) { return Print(json::serialize(value) + "\n"); }

json::object ToJson(const fleet::ModelInfo& model) {
  json::array files;
  for (const auto& file : model.files) {
    files.push_back(
        {{"name", file.name}, {"size_bytes", file.size_bytes}, {"sha256", file.sha256}});
  }
  return {{"name", model.name},
          {"kind", fleet::ModelKindName(model.kind)},
          {"complete", model.complete},
          {"path", model.path.string()},
          {"size_bytes", model.size_bytes},
          {"present_bytes", model.present_bytes},
          {"repo", model.repo},
          {"revision", model.revision},
          {"quantization", model.quant},
          {"license", model.license},
          {"installed_at", model.installed_at_s},
          {"files", std::move(files)}};
}

std::string FormatDate(int64_t seconds) {
  if (seconds == 0) return "-";
  const std::time_t time = seconds;
  return fmt::format("{:%Y-%m-%d %H:%M}", fmt::localtime(time));
}

// One line that is drawn over itself on a terminal; elsewhere a line for each stage.
class ProgressLine {
 public:
  explicit ProgressLine(bool quiet) : quiet_(quiet), terminal_(::isatty(STDERR_FILENO) != 0) {}

  void Show(const fleet::PullProgress& progress) {
    using Stage = fleet::PullProgress::Stage;
    if (quiet_) return;
    const auto now = std::chrono::steady_clock::now();
    const bool new_stage = !drawn_ || progress.stage != stage_;
    if (!new_stage && (!terminal_ || now - last_ < std::chrono::milliseconds(100))) return;
    if (new_stage && progress.stage == Stage::kDownloading) {
      started_ = now;
      started_bytes_ = progress.done_bytes;
    }
    stage_ = progress.stage;
    last_ = now;
    drawn_ = true;
    const std::string line = Describe(progress, now);
    if (terminal_) {
      PrintError(fmt::format("\r\x1b[2K{}", line));
    } else {
      PrintError(line + "\n");
    }
  }

  void End() {
    if (terminal_ && drawn_) PrintError("\n");
    drawn_ = false;
  }

 private:
  std::string Describe(const fleet::PullProgress& progress,
                       std::chrono::steady_clock::time_point now) const {
    using Stage = fleet::PullProgress::Stage;
    switch (progress.stage) {
      case Stage::kResolving:
        return "asking where it is";
      case Stage::kWaiting:
        return fmt::format("waiting for another download of {}", progress.file);
      case Stage::kChecking:
        return fmt::format("checking what is here of {}", progress.file);
      case Stage::kInstalling:
        return "installing";
      case Stage::kRetrying:
        return fmt::format("{}; trying again in {:.1f} s", progress.problem,
                           static_cast<double>(progress.pause.count()) / 1000);
      case Stage::kDownloading:
        break;
    }
    if (progress.total_bytes == 0) {
      return fmt::format("{}  {}", progress.file, app::FormatByteSize(progress.done_bytes));
    }
    constexpr int kWidth = 24;
    const double share =
        static_cast<double>(progress.done_bytes) / static_cast<double>(progress.total_bytes);
    const int filled = static_cast<int>(share * kWidth);
    const double seconds = std::chrono::duration<double>(now - started_).count();
    const double rate =
        seconds > 0.5 ? static_cast<double>(progress.done_bytes - started_bytes_) / seconds : 0;
    std::string eta;
    if (rate > 0) {
      const double left = static_cast<double>(progress.total_bytes - progress.done_bytes) / rate;
      eta = fmt::format("  {}/s  {:.0f} s left", app::FormatByteSize(static_cast<uint64_t>(rate)),
                        left);
    }
    return fmt::format(
        "[{}{}] {:3.0f} %  {} of {}{}", std::string(static_cast<size_t>(filled), '='),
        std::string(static_cast<size_t>(kWidth - filled), ' '), 100 * share,
        app::FormatByteSize(progress.done_bytes), app::FormatByteSize(progress.total_bytes), eta);
  }

  const bool quiet_;
  const bool terminal_;
  bool drawn_ = false;
  fleet::PullProgress::Stage stage_ = fleet::PullProgress::Stage::kResolving;
  std::chrono::steady_clock::time_point last_;
  std::chrono::steady_clock::time_point started_;
  uint64_t started_bytes_ = 0;
};

Result<fleet::PullOptions> PullOptionsOf(const ModelFlags& flags) {
  fleet::PullOptions options{.from = flags.from};
  if (!flags.limit.empty()) {
    TANDEM_ASSIGN_OR_RETURN(options.max_bytes_per_second, app::ParseByteSize(flags.limit));
  }
  return options;
}

Status RunVerify(const ModelFlags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const auto models, flags.OpenFleet());
  const StopOnInterrupt stop;
  TANDEM_ASSIGN_OR_RETURN(const auto outcome, models->Verify(flags.model, {}, stop.token()));
  if (flags.as_json) {
    json::array files;
    for (const auto& file : outcome.files) {
      files.push_back({{"name", file.name}, {"good", file.good}, {"problem", file.problem}});
    }
    TANDEM_RETURN_IF_ERROR(
        PrintJson({{"name", outcome.name}, {"good", outcome.good}, {"files", std::move(files)}}));
  } else {
    for (const auto& file : outcome.files) {
      TANDEM_RETURN_IF_ERROR(
          Print(fmt::format("{}: {}\n", file.name, file.good ? "good" : file.problem)));
    }
  }
  if (outcome.good) return {};
  return Err(ErrorCode::kCorrupt, "'{}' is damaged; 'tandem repair {}' fetches what is wrong",
             outcome.name, outcome.name);
}

Status RunRepair(const ModelFlags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const auto models, flags.OpenFleet());
  TANDEM_ASSIGN_OR_RETURN(const auto options, PullOptionsOf(flags));
  ProgressLine line(flags.as_json && ::isatty(STDERR_FILENO) == 0);
  const StopOnInterrupt stop;
  auto outcome = models->Repair(
      flags.model, [&](const fleet::PullProgress& progress) { line.Show(progress); }, stop.token(),
      options);
  line.End();
  if (!outcome) return std::unexpected(std::move(outcome).error());
  if (flags.as_json) {
    return PrintJson({{"name", outcome->name},
                      {"repaired", json::value_from(outcome->repaired)},
                      {"received_bytes", outcome->received_bytes}});
  }
  if (outcome->repaired.empty())
    return Print(fmt::format("{}: nothing to repair\n", outcome->name));
  return Print(fmt::format("{}: repaired {} of its files with {} from the network\n", outcome->name,
                           outcome->repaired.size(), app::FormatByteSize(outcome->received_bytes)));
}

Status RunPull(const ModelFlags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const auto models, flags.OpenFleet());
  TANDEM_ASSIGN_OR_RETURN(const auto options, PullOptionsOf(flags));
  ProgressLine line(flags.as_json && ::isatty(STDERR_FILENO) == 0);
  const StopOnInterrupt stop;
  auto outcome = models->Pull(
      flags.model, [&](const fleet::PullProgress& progress) { line.Show(progress); }, stop.token(),
      options);
  line.End();
  if (!outcome) return std::unexpected(std::move(outcome).error());
  if (flags.as_json) {
    json::object object = ToJson(outcome->model);
    object["already_installed"] = outcome->already_installed;
    object["received_bytes"] = outcome->received_bytes;
    return PrintJson(object);
  }
  return Print(fmt::format("{} {} ({})\n", outcome->model.name,
                           outcome->already_installed ? "is installed" : "installed",
                           app::FormatByteSize(outcome->model.size_bytes)));
}

Status RunList(const ModelFlags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const auto models, flags.OpenFleet());
  TANDEM_ASSIGN_OR_RETURN(const auto list, models->List());
  if (flags.as_json) {
    json::array array;
    for (const auto& model : list) array.push_back(ToJson(model));
    return PrintJson(array);
  }
  std::vector<std::vector<std::string>> rows;
  for (const auto& model : list) {
    const std::string state =
        model.complete
            ? std::string(fleet::ModelKindName(model.kind))
            : fmt::format("incomplete, {} here", app::FormatByteSize(model.present_bytes));
    rows.push_back({model.name, app::FormatByteSize(model.size_bytes),
                    model.quant.empty() ? "-" : model.quant, FormatDate(model.installed_at_s),
                    state});
  }
  return PrintTable({"NAME", "SIZE", "QUANTIZATION", "INSTALLED", "STATE"}, rows);
}

Status RunShow(const ModelFlags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const auto models, flags.OpenFleet());
  TANDEM_ASSIGN_OR_RETURN(const auto options, flags.engine.Get());
  TANDEM_ASSIGN_OR_RETURN(const auto shown, app::DescribeModel(*models, flags.model, options));
  const auto& [installed, model, memory] = shown;
  if (flags.as_json) {
    json::object object = ToJson(installed);
    if (model) {
      object["architecture"] = model->architecture;
      object["title"] = model->name;
      object["parameters"] = model->n_parameters;
      object["types"] = model->quantization;
      object["context_length"] = model->context_length;
      object["layers"] = model->n_layers;
      object["vocab_size"] = model->vocab_size;
      object["bits_per_weight"] = model->bits_per_weight();
      object["bytes_per_token"] = model->bytes_per_token;
      object["products_per_token"] = model->products_per_token;
      object["head_products"] = model->head_products;
    }
    if (memory) {
      object["memory"] = {{"context_tokens", memory->context_tokens},
                          {"weights_bytes", memory->weights_bytes},
                          {"kv_cache_bytes", memory->kv_cache_bytes},
                          {"scratch_bytes", memory->scratch_bytes},
                          {"reserve_bytes", memory->reserve_bytes},
                          {"total_bytes", memory->total_bytes()},
                          {"limit_bytes", memory->limit_bytes},
                          {"fits", memory->fits()},
                          {"full_context_tokens", memory->full_context_tokens}};
    }
    return PrintJson(object);
  }
  std::vector<std::pair<std::string, std::string>> rows = {
      {"name", installed.name},
      {"kind", std::string(fleet::ModelKindName(installed.kind))},
      {"file", installed.path.string()},
      {"size", app::FormatByteSize(installed.size_bytes)},
  };
  if (!installed.complete) {
    rows.emplace_back("state",
                      fmt::format("incomplete, {} here; 'tandem pull {}' goes on",
                                  app::FormatByteSize(installed.present_bytes), installed.name));
  }
  if (!installed.repo.empty()) rows.emplace_back("source", "hf.co/" + installed.repo);
  if (!installed.license.empty()) rows.emplace_back("license", installed.license);
  if (model) {
    rows.emplace_back("title", model->name);
    rows.emplace_back("architecture",
                      fmt::format("{}, {} layers", model->architecture, model->n_layers));
    rows.emplace_back("parameters",
                      fmt::format("{:.2f} M", static_cast<double>(model->n_parameters) / 1e6));
    rows.emplace_back("types", fmt::format("{}; {:.2f} bits a weight that each token reads",
                                           model->quantization, model->bits_per_weight()));
    rows.emplace_back("context", fmt::format("{} tokens", model->context_length));
    rows.emplace_back("vocabulary", fmt::format("{}", model->vocab_size));
  }
  if (memory) {
    rows.emplace_back(
        "memory",
        fmt::format("{} at {} tokens of context: weights {}, KV cache {}, scratch {}, reserve {}",
                    app::FormatByteSize(memory->total_bytes()), memory->context_tokens,
                    app::FormatByteSize(memory->weights_bytes),
                    app::FormatByteSize(memory->kv_cache_bytes),
                    app::FormatByteSize(memory->scratch_bytes),
                    app::FormatByteSize(memory->reserve_bytes)));
    if (!memory->fits()) {
      rows.emplace_back("", fmt::format("more than the limit of {}; see --memory-limit, --context",
                                        app::FormatByteSize(memory->limit_bytes)));
    } else if (memory->shrunk()) {
      rows.emplace_back(
          "", fmt::format("{} tokens do not fit into the limit of {}", memory->full_context_tokens,
                          app::FormatByteSize(memory->limit_bytes)));
    }
  }
  std::string text;
  for (const auto& [label, value] : rows) text += fmt::format("{:<13} {}\n", label, value);
  return Print(text);
}

Status RunRemove(const ModelFlags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const auto directory, flags.data_dir.Get());
  TANDEM_ASSIGN_OR_RETURN(const auto removed, app::RemoveModel(directory, flags.model));
  if (flags.as_json) {
    return PrintJson({{"name", removed.name}, {"freed_bytes", removed.freed_bytes}});
  }
  return Print(fmt::format("removed {}, {} freed\n", removed.name,
                           app::FormatByteSize(removed.freed_bytes)));
}

CLI::App* AddModelCommand(CLI::App* app, Action* action, const std::string& name,
                          const std::string& help, Status (*run)(const ModelFlags&),
                          const std::string& model_help) {
  auto flags = std::make_shared<ModelFlags>();
  CLI::App* command = app->add_subcommand(name, help);
  if (!model_help.empty()) command->add_option("model", flags->model, model_help)->required();
  command->add_flag("--json", flags->as_json, "Print JSON");
  if (name == "show") flags->engine.Add(command);
  if (name == "pull" || name == "repair") {
    command
        ->add_option(
            "--from", flags->from,
            "A depot that has it too, http://HOST:PORT; repeatable: they stand in for each "
            "other")
        ->allow_extra_args(false);
    command->add_option("--limit", flags->limit, "At most so many bytes a second, for example 2MB");
  }
  flags->data_dir.Add(command);
  command->callback([flags, action, run] { *action = [flags, run] { return run(*flags); }; });
  return command;
}

}  // namespace

void AddModelCommands(CLI::App* app, Action* action) {
  AddModelCommand(app, action, "pull", "Download a model, or go on with a download", RunPull,
                  "phi-4-mini, hf.co/USER/REPO[:QUANT], or http://HOST:PORT/NAME:TAG of a depot");
  AddModelCommand(app, action, "verify", "Read a model and compare it with its digests", RunVerify,
                  "An installed model");
  AddModelCommand(app, action, "repair", "Fetch what is damaged of a model", RunRepair,
                  "An installed model");
  AddModelCommand(app, action, "list", "The models on this device", RunList, "");
  AddModelCommand(app, action, "show", "What a model is and what it needs", RunShow,
                  "An installed model or a GGUF file");
  AddModelCommand(app, action, "rm", "Remove a model and what only it uses", RunRemove,
                  "An installed model");
}

}  // namespace tandem::cli
