#include <csignal>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "app/version.h"
#include "base/log.h"
#include "cli/command.h"

namespace tandem::cli {
namespace {

// CLI11's message, or the word that was not understood where a command is missing, which its own
// message leaves out.
std::string UsageMessage(const CLI::App* app, const CLI::Error& error) {
  const CLI::App* last = app;
  while (!last->get_subcommands().empty()) last = last->get_subcommands().back();
  const std::vector<std::string> unknown = app->remaining(true);
  const bool lacks_command = last->get_require_subcommand_min() > 0 && !unknown.empty();
  const std::string problem =
      lacks_command
          ? fmt::format("there is no {} '{}'",
                        unknown.front().starts_with('-') ? "option" : "command", unknown.front())
          : error.what();
  return fmt::format("tandem: {}\nRun 'tandem --help', or 'tandem COMMAND --help'.\n", problem);
}

int Main(int argc, char** argv) {
  ReserveStandardDescriptors();
  // A reader that goes away is an error of the write, not the end of the process.
  std::signal(SIGPIPE, SIG_IGN);

  CLI::App app(
      "Tandem: chat requests answered on the device, or in the cloud when that is better.");
  app.name("tandem");
  app.set_version_flag("--version", std::string(app::Version()));
  app.require_subcommand(1);
  app.failure_message(UsageMessage);
  std::string log_level = "warning";
  app.add_option("--log-level", log_level, "debug, info, warning, error or off")
      ->envname("TANDEM_LOG");
  app.fallthrough();

  Action action;
  AddServeCommand(&app, &action);
  AddRouteCommand(&app, &action);
  AddCanaryCommand(&app, &action);
  AddConfigCommand(&app, &action);
  AddRunCommand(&app, &action);
  AddModelCommands(&app, &action);
  AddPackCommand(&app, &action);
  AddDeployCommands(&app, &action);
  AddBenchCommand(&app, &action);
  AddCatalogueCommand(&app, &action);
  AddPlanCommand(&app, &action);
  AddDoctorCommand(&app, &action);
  AddPublishCommand(&app, &action);
  AddKeysCommand(&app, &action);
  AddAuditCommand(&app, &action);
  AddUsageCommand(&app, &action);
  AddReceiptCommand(&app, &action);
  AddTokenizeCommand(&app, &action);
  AddLogitsCommand(&app, &action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  const auto level = log::ParseLevel(log_level);
  if (!level) {
    PrintError(fmt::format("tandem: {}\n", level.error().message));
    return 2;
  }
  log::SetLevel(*level);
  if (const Status status = action(); !status) {
    PrintError(fmt::format("tandem: {}\n", status.error().message));
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace tandem::cli

int main(int argc, char** argv) { return tandem::cli::Main(argc, argv); }
