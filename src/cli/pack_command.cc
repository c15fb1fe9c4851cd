// tandem pack: a model file as a package.
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <boost/json.hpp>

#include "app/byte_size.h"
#include "app/models.h"
#include "app/packages.h"
#include "cli/command.h"
#include "cli/progress.h"

namespace tandem::cli {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

struct PackFlags {
  std::string model;
  std::string out;
  bool verify = false;
  bool as_json = false;
  engine::PackOptions options;
  DataDirOption data_dir;
};

// "model.gguf" becomes "model.tandem" in the current directory.
fs::path DefaultOut(const fs::path& model) {
  return fs::path(model.filename()).replace_extension(".tandem");
}

std::string ErrorText(double relative_error) {
  return relative_error == 0 ? "exact" : fmt::format("{:.3f} %", 100 * relative_error);
}

json::object ToJson(const fs::path& out, const engine::PackSummary& summary) {
  json::array tensors;
  for (const auto& tensor : summary.tensors) {
    tensors.push_back({{"name", tensor.name},
                       {"source", tensor.source},
                       {"type", tensor.type},
                       {"rows", tensor.n_rows},
                       {"cols", tensor.n_cols},
                       {"bytes", tensor.n_bytes},
                       {"error", tensor.relative_error}});
  }
  return {{"path", out.string()},
          {"size_bytes", summary.file_bytes},
          {"bits_per_weight", summary.bits_per_weight},
          {"bits_per_read_weight", summary.bits_per_read_weight},
          {"tensors", std::move(tensors)}};
}

Status RunVerify(const fs::path& package) {
  const StopOnInterrupt stop;
  TANDEM_RETURN_IF_ERROR(engine::VerifyPackage(package, {}, stop.token()));
  return Print(fmt::format("{}: every byte is as it was packed\n", package.string()));
}

Status RunPack(const PackFlags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const auto data_dir, flags.data_dir.Get());
  TANDEM_ASSIGN_OR_RETURN(const fs::path model, app::FindModelFile(data_dir, flags.model));
  if (flags.verify) return RunVerify(model);
  const fs::path out = flags.out.empty() ? DefaultOut(model) : fs::path(flags.out);
  engine::PackOptions options = flags.options;
  const StopOnInterrupt stop;
  options.stop = stop.token();
  PackProgress progress(fmt::format("packing {}", model.filename().string()));
  options.progress = [&](uint64_t done_bytes, uint64_t total_bytes) {
    progress.Show(done_bytes, total_bytes);
  };
  const auto started = std::chrono::steady_clock::now();
  auto summary = engine::Pack(model, out, options);
  progress.End();
  if (!summary) return std::unexpected(std::move(summary).error());
  if (flags.as_json) return Print(json::serialize(ToJson(out, *summary)) + "\n");
  std::vector<std::vector<std::string>> rows;
  for (const auto& tensor : summary->tensors) {
    rows.push_back({tensor.name, fmt::format("{} x {}", tensor.n_rows, tensor.n_cols),
                    tensor.source, tensor.type, app::FormatByteSize(tensor.n_bytes),
                    ErrorText(tensor.relative_error)});
  }
  TANDEM_RETURN_IF_ERROR(PrintTable({"TENSOR", "SHAPE", "SOURCE", "TYPE", "SIZE", "ERROR"}, rows));
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  return Print(fmt::format(
      "{}: {}, {:.3f} bits a weight ({:.3f} of those that each token reads), {:.1f} s\n",
      out.string(), app::FormatByteSize(summary->file_bytes), summary->bits_per_weight,
      summary->bits_per_read_weight, seconds));
}

}  // namespace

void AddPackCommand(CLI::App* app, Action* action) {
  auto flags = std::make_shared<PackFlags>();
  CLI::App* command = app->add_subcommand("pack", "Write a model as a package, ready to run");
  command->add_option("model", flags->model, "A GGUF file or an installed model")->required();
  command->add_option("-o,--out", flags->out, "The package (default: MODEL.tandem, here)");
  command
      ->add_option("--scheme", flags->options.scheme,
                   "auto: about the bits of the model, Q4_0 and Q8_0 exactly; int4: 4.2 bits a "
                   "weight; int4planes: 4.6, of which a token reads 4.1; or int4g128, int4g32, "
                   "int8g128, int8g32 for all")
      ->capture_default_str();
  command->add_option("--threads", flags->options.n_threads, "That compute (0: every core)")
      ->check(CLI::NonNegativeNumber);
  command->add_flag("--verify", flags->verify, "Check the package MODEL instead of making one");
  command->add_flag("--json", flags->as_json, "Print JSON");
  flags->data_dir.Add(command);
  command->callback([flags, action] { *action = [flags] { return RunPack(*flags); }; });
}

}  // namespace tandem::cli
