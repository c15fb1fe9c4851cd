// What the gateway may ask about models: names and targets to providers, over the models on this
// device and those at upstreams.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "app/engine_pool.h"
#include "base/clock.h"
#include "fleet/deploy/deployments.h"
#include "fleet/fleet.h"
#include "gateway/dispatch/routing_table.h"
#include "gateway/gateway.h"
#include "gateway/upstream/upstream_provider.h"
#include "net/http_client.h"

namespace tandem::app {

// One model answers to another's name.
struct Alias {
  std::string name;   // what clients say
  std::string model;  // a model reference
};

struct ServedModelsOptions {
  std::vector<Alias> aliases;
  std::vector<gateway::upstream::UpstreamOptions> upstreams;
  // Why an upstream that is configured cannot be called, by its model.
  std::map<std::string, std::string, std::less<>> disabled = {};
  // What serves a strategy's target, by the target's model, where that is another name.
  std::map<std::string, std::string, std::less<>> bound = {};
};

// Thread: any. The fleet, the pool, the client, the clock and the deployments must outlive it and
// its providers.
class ServedModels final : public gateway::ModelDirectory, public gateway::dispatch::TargetSource {
 public:
  // Errors: kInvalidArgument for an alias that hides another model or names itself, for an upstream
  // whose URL is wrong or whose name is taken; those of Fleet::Resolve for what an alias points to.
  static Result<std::unique_ptr<ServedModels>> Create(const fleet::Fleet* fleet, EnginePool* pool,
                                                      net::HttpClient* client, const Clock* clock,
                                                      const ServedModelsOptions& options,
                                                      const engine::EngineOptions& engine = {},
                                                      fleet::Deployments* deployments = nullptr);

  // Another configuration in two steps, so that nothing changes where another part refuses it.
  // Errors: those of Create.
  struct Configured;
  Result<std::shared_ptr<const Configured>> Prepare(const ServedModelsOptions& options) const;
  // In force from now on. Requests that run keep what they have.
  void Adopt(std::shared_ptr<const Configured> configured);

  // gateway::ModelDirectory:
  std::vector<Model> List() override;
  Result<Memory> ReadMemory() override;

  // gateway::dispatch::TargetSource. What the disk says about a model counts for kRecheck.
  Found Find(const gateway::Target& target) override;
  std::expected<gateway::Target, gateway::Failure> Resolve(std::string_view model) override;
  gateway::DeviceState ReadDevice() override;

  static constexpr std::chrono::milliseconds kRecheck{1000};
  // The disk is asked again at once.
  void Recheck();

 private:
  // A model on this device, or why there is none of that name.
  struct Local {
    std::string name;
    std::filesystem::path path;
    std::shared_ptr<gateway::Provider> provider;  // null: not installed
    Error error;                                  // meaningful then
    gateway::Tier tier = gateway::Tier::kDeviceSmall;
    std::optional<uint64_t> planned_bytes;
    int32_t context_tokens = 0;
    SteadyTime checked{};
  };

  ServedModels(const fleet::Fleet* fleet, EnginePool* pool, net::HttpClient* client,
               const Clock* clock, const engine::EngineOptions& engine,
               fleet::Deployments* deployments)
      : fleet_(fleet),
        pool_(pool),
        client_(client),
        clock_(clock),
        engine_(engine),
        deployments_(deployments) {}

  std::shared_ptr<const Configured> configured() const;
  static const Alias* FindAlias(const Configured& configured, std::string_view name);
  Local FindLocal(const std::string& model);
  // The file that stands for a model: its deployment's package, else what is installed.
  std::filesystem::path FileOf(const fleet::ResolvedModel& resolved);

  const fleet::Fleet* const fleet_;
  EnginePool* const pool_;
  net::HttpClient* const client_;
  const Clock* const clock_;
  const engine::EngineOptions engine_;     // with which models are loaded: for their memory plans
  fleet::Deployments* const deployments_;  // null: none
  mutable std::mutex mutex_;               // guards all below
  std::shared_ptr<const Configured> configured_;
  std::map<std::string, Local, std::less<>> locals_;  // by the name that was looked for
  // By file: a model that is replaced by another version has another file.
  std::map<std::filesystem::path, Local> by_path_;
  std::optional<gateway::DeviceState> power_;
  SteadyTime power_checked_{};
  std::map<std::string, std::string, std::less<>> deployed_;  // by model: the id of its deployment
};

}  // namespace tandem::app
