// tandem deploy, rollback: which package answers to a model's name, on which executor. tandem
// driver: what accelerators' drivers are asked in processes of their own.
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <boost/json.hpp>

#include "app/byte_size.h"
#include "app/deployer.h"
#include "app/models.h"
#include "base/clock.h"
#include "cli/command.h"
#include "cli/progress.h"

namespace tandem::cli {
namespace {

namespace json = boost::json;

// What every command here works with.
struct Workshop {
  RealClock clock;
  std::unique_ptr<fleet::Fleet> fleet;
  std::optional<app::Packages> packages;
  std::unique_ptr<app::Accelerators> accelerators;
  std::unique_ptr<fleet::Deployments> deployments;
  std::mt19937_64 random{std::random_device{}()};
  std::mutex mutex;
  std::condition_variable_any pause;

  app::Deployer MakeDeployer(const std::filesystem::path& data_dir,
                             const engine::EngineOptions& engine, const std::stop_token& stop) {
    return app::Deployer(
        {.fleet = fleet.get(),
         .packages = &*packages,
         .accelerators = accelerators.get(),
         .deployments = deployments.get(),
         .clock = &clock,
         .random = [this] { return static_cast<double>(random() >> 11) * 0x1p-53; },
         .wait =
             [this, stop](std::chrono::milliseconds time) {
               std::unique_lock lock(mutex);
               pause.wait_for(lock, stop, time, [] { return false; });
               return !stop.stop_requested();
             }},
        data_dir, engine);
  }
};

Result<std::unique_ptr<Workshop>> OpenWorkshop(const std::filesystem::path& data_dir,
                                               const std::vector<std::string>& drivers) {
  auto shop = std::make_unique<Workshop>();
  TANDEM_ASSIGN_OR_RETURN(shop->fleet, app::OpenFleet(data_dir));
  shop->packages.emplace(data_dir);
  TANDEM_ASSIGN_OR_RETURN(
      shop->accelerators,
      app::Accelerators::Open({.data_dir = data_dir, .drivers = {drivers.begin(), drivers.end()}},
                              &shop->clock));
  TANDEM_ASSIGN_OR_RETURN(shop->deployments,
                          fleet::Deployments::Open(data_dir / "deployments.json"));
  return shop;
}

struct DeployFlags {
  app::DeployRequest request;
  std::string memory_limit;
  bool no_fallback = false;
  bool as_json = false;
  std::vector<std::string> drivers;
  EngineFlags engine;
  DataDirOption data_dir;
};

Status Report(const fleet::Deployment& deployment, bool as_json) {
  if (as_json) {
    return Print(
        json::serialize(json::object{{"deployment_id", deployment.id},
                                     {"model_id", deployment.model},
                                     {"executor", deployment.executor},
                                     {"software_fallback", deployment.software_fallback},
                                     {"batch_size", deployment.batch_size},
                                     {"attempts", deployment.attempts},
                                     {"memory_bytes", deployment.memory_bytes},
                                     {"reason", deployment.reason},
                                     {"package", deployment.package},
                                     {"package_digest", "sha256:" + deployment.package_digest}}) +
        "\n");
  }
  return Print(fmt::format(
      "{}: {} on {}{}, {} answers at a time, {} of memory\n{}\n", deployment.model, deployment.id,
      deployment.executor, deployment.software_fallback ? " (software fallback)" : "",
      deployment.batch_size, app::FormatByteSize(deployment.memory_bytes), deployment.reason));
}

Status RunDeploy(const DeployFlags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const auto data_dir, flags.data_dir.Get());
  TANDEM_ASSIGN_OR_RETURN(const auto engine, flags.engine.Get());
  TANDEM_ASSIGN_OR_RETURN(const auto shop, OpenWorkshop(data_dir, flags.drivers));
  app::DeployRequest request = flags.request;
  request.software_fallback = !flags.no_fallback;
  const StopOnInterrupt stop;
  auto deployer = shop->MakeDeployer(data_dir, engine, stop.token());
  PackProgress progress(fmt::format("deploying {}", request.model));
  auto deployed = deployer.Deploy(
      request,
      [&](uint64_t done_bytes, uint64_t total_bytes) { progress.Show(done_bytes, total_bytes); },
      stop.token());
  progress.End();
  if (!deployed) return std::unexpected(std::move(deployed).error());
  return Report(*deployed, flags.as_json);
}

struct RollBackFlags {
  std::string model;
  bool as_json = false;
  DataDirOption data_dir;
};

Status RunRollBack(const RollBackFlags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const auto data_dir, flags.data_dir.Get());
  TANDEM_ASSIGN_OR_RETURN(const auto shop, OpenWorkshop(data_dir, {}));
  auto deployer = shop->MakeDeployer(data_dir, {}, {});
  TANDEM_ASSIGN_OR_RETURN(const auto back, deployer.RollBack(flags.model));
  return Report(back, flags.as_json);
}

struct DriverFlags {
  std::string driver;
  std::string package;
};

}  // namespace

void AddDeployCommands(CLI::App* app, Action* action) {
  auto deploy = std::make_shared<DeployFlags>();
  CLI::App* command = app->add_subcommand(
      "deploy", "Test a model's package and let its name stand for it, on the best executor");
  command->add_option("model", deploy->request.model, "An installed model")->required();
  command->add_flag("--accelerator", deploy->request.accelerator,
                    "Try this machine's accelerators first");
  command->add_flag("--no-software-fallback", deploy->no_fallback,
                    "Fail where no accelerator can be used, in place of using the cores");
  command->add_option("--driver", deploy->drivers,
                      "An accelerator's driver beside those in DATA_DIR/drivers; repeatable");
  command->add_flag("--json", deploy->as_json, "Print JSON");
  deploy->engine.Add(command);
  deploy->data_dir.Add(command);
  command->callback([deploy, action] { *action = [deploy] { return RunDeploy(*deploy); }; });

  auto back = std::make_shared<RollBackFlags>();
  command = app->add_subcommand("rollback", "Go back to a model's deployment before this one");
  command->add_option("model", back->model, "A model that was deployed")->required();
  command->add_flag("--json", back->as_json, "Print JSON");
  back->data_dir.Add(command);
  command->callback([back, action] { *action = [back] { return RunRollBack(*back); }; });

  auto driver = std::make_shared<DriverFlags>();
  CLI::App* group = app->add_subcommand(
      "driver", "Ask an accelerator's driver, in this process: one line of JSON");
  group->require_subcommand(1);
  command = group->add_subcommand("probe", "What it says of itself and its device");
  command->add_option("driver", driver->driver, "Its library")->required();
  command->callback([driver, action] {
    *action = [driver] { return Print(app::ProbeDriverJson(driver->driver) + "\n"); };
  });
  command = group->add_subcommand("check", "The known-answer test with one package");
  command->add_option("driver", driver->driver, "Its library")->required();
  command->add_option("package", driver->package, "A package; 'tandem pack' makes one")->required();
  command->callback([driver, action] {
    *action = [driver] {
      return Print(app::CheckDriverJson(driver->driver, driver->package, RealClock()) + "\n");
    };
  });
  command = group->add_subcommand("reset", "Tear its device's contexts down");
  command->add_option("driver", driver->driver, "Its library")->required();
  command->callback([driver, action] {
    *action = [driver] { return Print(app::ResetDriverJson(driver->driver) + "\n"); };
  });
}

}  // namespace tandem::cli
