#include <csignal>
#include <cstdio>
#include <string>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "app/version.h"
#include "base/log.h"
#include "cli/command.h"

namespace tandem::cli {
namespace {

int Main(int argc, char** argv) {
  // A reader that goes away is an error of the write, not the end of the process.
  std::signal(SIGPIPE, SIG_IGN);

  CLI::App app(
      "Tandem: chat requests answered on the device, or in the cloud when that is better.");
  app.name("tandem");
  app.set_version_flag("--version", std::string(app::Version()));
  app.require_subcommand(1);
  app.failure_message(CLI::FailureMessage::simple);
  std::string log_level = "warning";
  app.add_option("--log-level", log_level, "debug, info, warning, error or off")
      ->envname("TANDEM_LOG");
  app.fallthrough();

  Action action;
  AddServeCommand(&app, &action);
  AddRunCommand(&app, &action);
  AddModelCommands(&app, &action);
  AddKeysCommand(&app, &action);
  AddTokenizeCommand(&app, &action);
  AddLogitsCommand(&app, &action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  const auto level = log::ParseLevel(log_level);
  if (!level) {
    fmt::print(stderr, "tandem: {}\n", level.error().message);
    return 2;
  }
  log::SetLevel(*level);
  if (const Status status = action(); !status) {
    fmt::print(stderr, "tandem: {}\n", status.error().message);
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace tandem::cli

int main(int argc, char** argv) { return tandem::cli::Main(argc, argv); }
