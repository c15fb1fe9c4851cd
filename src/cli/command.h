// Charter of cli/: the words of the command line and what is printed for them; everything that is
// done, app/ does. It may include base, os and app.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "app/database.h"
#include "app/inspect.h"
#include "base/error.h"

namespace tandem::cli {

// What a finished command line asks for. An error is printed and the process exits with 1; wrong
// usage is CLI11's business and exits with 2.
using Action = std::function<Status()>;

// Options that several commands share, filled while the command line is parsed.
struct DataDirOption {
  std::string text;
  void Add(CLI::App* command);
  // The given directory, else the XDG one. Not created here.
  Result<std::filesystem::path> Get() const;
};

// Where keys and usage records are: with --config, what that file's [store] says.
struct StateOption {
  DataDirOption data_dir;
  std::string config;
  void Add(CLI::App* command);
  Result<app::StatePlace> Get() const;
};

struct EngineFlags {
  engine::EngineOptions options;
  std::string memory_limit;  // "2.1GB", "512MiB"; empty: the machine's
  std::string kv_type;       // empty: the engine's default
  std::string speculation;   // likewise
  std::string huge_pages;    // empty: off
  void Add(CLI::App* command);
  Result<engine::EngineOptions> Get() const;
};

// Opens 0, 1 and 2 where the caller closed them, so that no model, database or socket gets their
// numbers and then our messages. Reading the first and writing the others fails, as it would have.
void ReserveStandardDescriptors();

// Writes to standard output and reports when that failed (a closed pipe, a full disk).
Status Print(std::string_view text);

// Left-aligned columns with a header, to standard output. Errors: those of Print.
Status PrintTable(const std::vector<std::string>& header,
                  const std::vector<std::vector<std::string>>& rows);

// Writes to standard error. Where that fails nobody can be told, and the command goes on.
void PrintError(std::string_view text);

// Everything on standard input. Errors: kIo, kResourceExhausted above 256 MiB.
Result<std::string> ReadStandardInput();

// Each adds its subcommand; `*action` is set when it was the one called.
void AddTokenizeCommand(CLI::App* app, Action* action);
void AddLogitsCommand(CLI::App* app, Action* action);
void AddRunCommand(CLI::App* app, Action* action);
void AddPackCommand(CLI::App* app, Action* action);
void AddBenchCommand(CLI::App* app, Action* action);
void AddModelCommands(CLI::App* app, Action* action);  // pull, verify, repair, list, show, rm
void AddPublishCommand(CLI::App* app, Action* action);
void AddDeployCommands(CLI::App* app, Action* action);  // deploy, rollback, driver
void AddCatalogueCommand(CLI::App* app, Action* action);
void AddPlanCommand(CLI::App* app, Action* action);
void AddDoctorCommand(CLI::App* app, Action* action);
void AddKeysCommand(CLI::App* app, Action* action);
void AddAuditCommand(CLI::App* app, Action* action);
void AddUsageCommand(CLI::App* app, Action* action);
void AddReceiptCommand(CLI::App* app, Action* action);  // verify, key
void AddServeCommand(CLI::App* app, Action* action);
void AddRouteCommand(CLI::App* app, Action* action);
void AddCanaryCommand(CLI::App* app, Action* action);
void AddConfigCommand(CLI::App* app, Action* action);  // check, show

}  // namespace tandem::cli
