// tandem serve.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "app/serve.h"
#include "base/log.h"
#include "cli/command.h"

namespace tandem::cli {
namespace {

struct ServeFlags {
  std::string listen = "127.0.0.1:7070";
  std::vector<std::string> aliases;
  std::vector<std::string> upstreams;
  std::vector<std::string> upstream_models;
  int drain_seconds = 30;
  app::ServeOptions options;
  EngineFlags engine;
  DataDirOption data_dir;
};

Status RunServe(const ServeFlags& flags) {
  app::ServeOptions options = flags.options;
  auto listen = app::ParseListenAddress(flags.listen);
  if (!listen) return Wrap(std::move(listen).error(), "--listen");
  options.listen = std::move(*listen);
  TANDEM_ASSIGN_OR_RETURN(options.data_dir, flags.data_dir.Get());
  TANDEM_ASSIGN_OR_RETURN(options.engine, flags.engine.Get());
  options.drain_timeout = std::chrono::seconds(flags.drain_seconds);
  for (const std::string& alias : flags.aliases) {
    const size_t equals = alias.find('=');
    if (equals == std::string::npos) {
      return Err(ErrorCode::kInvalidArgument, "--alias {}: write NAME=MODEL", alias);
    }
    options.models.aliases.push_back({alias.substr(0, equals), alias.substr(equals + 1)});
  }
  for (const std::string& text : flags.upstreams) {
    TANDEM_ASSIGN_OR_RETURN(auto upstream, app::ParseUpstream(text));
    options.models.upstreams.push_back(std::move(upstream));
  }
  for (const std::string& text : flags.upstream_models) {
    const size_t equals = text.find('=');
    const auto named = std::ranges::find(options.models.upstreams, text.substr(0, equals),
                                         &gateway::upstream::UpstreamOptions::model);
    if (equals == std::string::npos || named == options.models.upstreams.end()) {
      return Err(ErrorCode::kInvalidArgument,
                 "--upstream-model {}: write MODEL=NAME, MODEL being that of an --upstream", text);
    }
    named->upstream_model = text.substr(equals + 1);
  }
  return app::Serve(options, [](const app::ListenAddress& address) {
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
  CLI::App* command = app->add_subcommand("serve", "Answer the OpenAI API over HTTP");
  command->add_option("--listen", flags->listen, "HOST:PORT (default 127.0.0.1:7070)");
  command
      ->add_option("--alias", flags->aliases,
                   "NAME=MODEL: let a model answer to another name; repeatable")
      ->allow_extra_args(false);
  command
      ->add_option("--upstream", flags->upstreams,
                   "MODEL=BASE_URL: answer to MODEL through an OpenAI-compatible API; repeatable")
      ->allow_extra_args(false);
  command
      ->add_option("--upstream-model", flags->upstream_models,
                   "MODEL=NAME: what that upstream calls the model, if not MODEL; repeatable")
      ->allow_extra_args(false);
  command
      ->add_option("--max-in-flight", flags->options.max_in_flight,
                   "Chats that are answered at the same time; more get 429")
      ->check(CLI::PositiveNumber);
  command->add_option("--io-threads", flags->options.io_threads, "Threads for sockets (1)")
      ->check(CLI::PositiveNumber);
  command->add_option("--cors-origin", flags->options.cors_allow_origin,
                      "Let browsers of this origin call, or * for all (default: none)");
  command
      ->add_option("--drain-timeout", flags->drain_seconds,
                   "Seconds that running answers get after SIGTERM (30)")
      ->check(CLI::NonNegativeNumber);
  flags->engine.Add(command);
  flags->data_dir.Add(command);
  command->callback([flags, action] { *action = [flags] { return RunServe(*flags); }; });
}

}  // namespace tandem::cli
