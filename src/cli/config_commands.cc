// tandem config.
#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "app/configuration.h"
#include "app/configuration_upstreams.h"
#include "cli/command.h"

namespace tandem::cli {
namespace {

struct ConfigFlags {
  std::string file;
  bool origin = false;
  bool as_json = false;
};

Result<app::Configuration> Load(const ConfigFlags& flags) {
  if (flags.file.empty()) return app::ShippedConfiguration();
  return app::LoadConfiguration(flags.file);
}

Status Check(const ConfigFlags& flags) {
  const auto configuration = Load(flags);
  if (!configuration) {
    // One mistake a line, as compilers do, so that editors find them.
    PrintError(configuration.error().message + "\n");
    return Err(configuration.error().code, "{} cannot be used", flags.file);
  }
  std::string text = fmt::format("{} is valid\n", flags.file);
  for (const app::UpstreamSettings& upstream : configuration->upstreams) {
    text += fmt::format("upstream {}: {}\n", upstream.model,
                        app::DescribeUpstreamKey(upstream, configuration->directory));
  }
  return Print(text);
}

Status Show(const ConfigFlags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const app::Configuration configuration, Load(flags));
  if (!flags.as_json) {
    return Print(flags.origin ? app::FormatConfigurationWithOrigins(configuration)
                              : app::FormatConfiguration(configuration));
  }
  const auto table = app::DescribeConfiguration(configuration);
  if (!flags.origin) return Print(app::FormatJsonDocument(table));
  // {"server.listen": {"value": ..., "origin": ...}, ...}
  app::DocumentNode::Table values;
  const auto add = [&](std::string path, app::DocumentNode value, std::string origin) {
    app::DocumentNode::Table entry;
    entry.push_back({"value", std::move(value)});
    entry.push_back({"origin", {.value = std::move(origin)}});
    values.push_back({std::move(path), {.value = std::move(entry)}});
  };
  for (const auto& [path, value] : app::FlattenDocument(table)) {
    const auto origin = configuration.origins.find(path);
    add(path, value,
        app::FormatOrigin(origin == configuration.origins.end() ? app::Origin() : origin->second));
  }
  for (size_t i = 0; i < configuration.upstreams.size(); ++i) {
    // Where its key is; the key itself is never shown.
    add(fmt::format("upstream[{}].api_key", i), {.value = app::DocumentNode::Other{"null"}},
        app::DescribeUpstreamKey(configuration.upstreams[i], configuration.directory));
  }
  return Print(app::FormatJsonDocument(values));
}

}  // namespace

void AddConfigCommand(CLI::App* app, Action* action) {
  CLI::App* config = app->add_subcommand("config", "What 'tandem serve' is configured with");
  config->require_subcommand(1);

  auto check = std::make_shared<ConfigFlags>();
  CLI::App* command = config->add_subcommand("check", "Say everything that is wrong with a file");
  command->add_option("file", check->file, "TOML, or JSON")->required();
  command->callback([check, action] { *action = [check] { return Check(*check); }; });

  auto show = std::make_shared<ConfigFlags>();
  command = config->add_subcommand("show", "Every value that is in force with a file, as TOML");
  command->add_option("file", show->file, "TOML, or JSON (default: what comes with Tandem)");
  command->add_flag("--origin", show->origin, "Say where each value came from");
  command->add_flag("--json", show->as_json, "Print JSON");
  command->callback([show, action] { *action = [show] { return Show(*show); }; });
}

}  // namespace tandem::cli
