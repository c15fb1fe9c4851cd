// tandem serve.
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "app/configuration_live.h"
#include "app/serve.h"
#include "base/log.h"
#include "cli/command.h"

namespace tandem::cli {
namespace {

struct ServeFlags {
  std::string config;
  app::ConfigurationFlags configuration;
  EngineFlags engine;
  DataDirOption data_dir;
};

Status RunServe(const ServeFlags& flags) {
  app::ConfigurationFlags overlay = flags.configuration;
  if (flags.engine.options.context_tokens > 0)
    overlay.context = flags.engine.options.context_tokens;
  if (flags.engine.options.n_threads > 0) overlay.threads = flags.engine.options.n_threads;
  if (!flags.engine.memory_limit.empty()) overlay.memory_limit = flags.engine.memory_limit;
  if (!flags.engine.kv_type.empty()) overlay.kv_type = flags.engine.kv_type;
  if (!flags.engine.speculation.empty()) overlay.speculation = flags.engine.speculation;
  if (!flags.engine.huge_pages.empty()) overlay.huge_pages = flags.engine.huge_pages;
  std::optional<std::filesystem::path> file;
  if (!flags.config.empty()) file = flags.config;
  TANDEM_ASSIGN_OR_RETURN(const auto live, app::LiveConfiguration::Open(file, overlay));
  TANDEM_ASSIGN_OR_RETURN(const auto data_dir, flags.data_dir.Get());
  return app::Serve(live.get(), data_dir, [](const app::ListenAddress& address) {
    // Nobody has to read it: a server goes on without.
    if (const Status printed =
            Print(fmt::format("listening on http://{}\n", app::FormatAddress(address)));
        !printed) {
      log::Warning("{}", printed.error().message);
    }
  });
}

}  // namespace

void AddServeCommand(CLI::App* app, Action* action) {
  auto flags = std::make_shared<ServeFlags>();
  app::ConfigurationFlags& overlay = flags->configuration;
  CLI::App* command = app->add_subcommand("serve", "Answer the OpenAI API over HTTP");
  command->add_option("--config", flags->config,
                      "A configuration in TOML or JSON; other options win over it");
  command->add_option("--listen", overlay.listen, "HOST:PORT (default 127.0.0.1:7070)");
  command
      ->add_option("--alias", overlay.aliases,
                   "NAME=MODEL: let a model answer to another name; repeatable")
      ->allow_extra_args(false);
  command
      ->add_option("--upstream", overlay.upstreams,
                   "MODEL=BASE_URL: answer to MODEL through an OpenAI-compatible API; repeatable")
      ->allow_extra_args(false);
  command
      ->add_option("--upstream-model", overlay.upstream_models,
                   "MODEL=NAME: what that upstream calls the model, if not MODEL; repeatable")
      ->allow_extra_args(false);
  command
      ->add_option("--max-in-flight", overlay.max_in_flight,
                   "Chats that are answered at the same time; more get 429")
      ->check(CLI::PositiveNumber);
  command->add_option("--io-threads", overlay.io_threads, "Threads for sockets (1)")
      ->check(CLI::PositiveNumber);
  command->add_option("--cors-origin", overlay.cors_allow_origin,
                      "Let browsers of this origin call, or * for all (default: none)");
  command
      ->add_option("--drain-timeout", overlay.drain_timeout_s,
                   "Seconds that running answers get after SIGTERM (30)")
      ->check(CLI::NonNegativeNumber);
  command
      ->add_option("--keep-alive", overlay.keep_alive_s,
                   "Seconds after which a model that nobody uses is unloaded (900); 0: never")
      ->check(CLI::NonNegativeNumber);
  flags->engine.Add(command);
  flags->data_dir.Add(command);
  command->callback([flags, action] { *action = [flags] { return RunServe(*flags); }; });
}

}  // namespace tandem::cli
