// tandem publish: a model into this machine's depot, as a package for others.
#include <memory>
#include <string>

#include <fmt/format.h>
#include <boost/json.hpp>

#include "app/byte_size.h"
#include "app/models.h"
#include "app/publish.h"
#include "cli/command.h"
#include "cli/progress.h"

namespace tandem::cli {
namespace {

namespace json = boost::json;

struct PublishFlags {
  app::PublishOptions options;
  std::string license_file;
  bool as_json = false;
  DataDirOption data_dir;
};

Status RunPublish(const PublishFlags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const auto data_dir, flags.data_dir.Get());
  TANDEM_ASSIGN_OR_RETURN(const auto models, app::OpenFleet(data_dir));
  TANDEM_ASSIGN_OR_RETURN(const auto depot, fleet::Depot::Open(app::DepotDirectory(data_dir)));
  TANDEM_ASSIGN_OR_RETURN(const auto key, fleet::OpenDepotKey(app::DepotKeyFile(data_dir)));
  app::PublishOptions options = flags.options;
  options.license_file = flags.license_file;
  const StopOnInterrupt stop;
  options.stop = stop.token();
  PackProgress progress(fmt::format("packing {}", options.model));
  options.progress = [&](uint64_t done_bytes, uint64_t total_bytes) {
    progress.Show(done_bytes, total_bytes);
  };
  auto published = app::PublishModel(*models, depot, key, RealClock(), options);
  progress.End();
  if (!published) return std::unexpected(std::move(published).error());
  if (flags.as_json) {
    json::array files;
    for (const auto& file : published->files) {
      files.push_back({{"name", file.name},
                       {"media_type", file.media_type},
                       {"size_bytes", file.size_bytes},
                       {"sha256", file.sha256}});
    }
    return Print(json::serialize(json::object{{"name", published->name},
                                              {"digest", "sha256:" + published->digest()},
                                              {"key_id", key.Public().Id()},
                                              {"files", std::move(files)}}) +
                 "\n");
  }
  return Print(fmt::format("{} ({}) sha256:{}\n", published->name,
                           app::FormatByteSize(published->size_bytes()), published->digest()));
}

}  // namespace

void AddPublishCommand(CLI::App* app, Action* action) {
  auto flags = std::make_shared<PublishFlags>();
  CLI::App* command =
      app->add_subcommand("publish", "Put a model into this machine's depot, packed and signed");
  command->add_option("model", flags->options.model, "An installed model, a GGUF file or a package")
      ->required();
  command->add_option("--as", flags->options.name,
                      "NAME:TAG in the depot (default: the catalogue's name and variant)");
  command->add_option("--scheme", flags->options.scheme, "Of packing, as in tandem pack (auto)");
  command->add_option("--license-file", flags->license_file, "The licence's text, to go with it");
  command->add_flag("--json", flags->as_json, "Print JSON");
  flags->data_dir.Add(command);
  command->callback([flags, action] { *action = [flags] { return RunPublish(*flags); }; });
}

}  // namespace tandem::cli
