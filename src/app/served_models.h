// What the gateway may ask about models: names to providers, over the models on this device and
// those at upstreams.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "app/engine_pool.h"
#include "fleet/fleet.h"
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
};

// Thread: any. The fleet, the pool, the client and the clock must outlive it and its providers.
class ServedModels final : public gateway::ModelDirectory {
 public:
  // Errors: kInvalidArgument for an alias that hides another model or names itself, for an upstream
  // whose URL is wrong or whose name is taken; those of Fleet::Resolve for what an alias points to.
  static Result<std::unique_ptr<ServedModels>> Create(const fleet::Fleet* fleet, EnginePool* pool,
                                                      net::HttpClient* client, const Clock* clock,
                                                      const ServedModelsOptions& options);

  std::expected<Resolution, gateway::Failure> Resolve(std::string_view name) override;
  std::vector<Model> List() override;
  Result<Memory> ReadMemory() override;

 private:
  ServedModels(const fleet::Fleet* fleet, EnginePool* pool, std::vector<Alias> aliases)
      : fleet_(fleet), pool_(pool), aliases_(std::move(aliases)) {}

  const Alias* FindAlias(std::string_view name) const;

  const fleet::Fleet* const fleet_;
  EnginePool* const pool_;
  const std::vector<Alias> aliases_;
  std::map<std::string, std::shared_ptr<gateway::Provider>, std::less<>> upstreams_;  // by model
  std::mutex mutex_;
  // By file: a model that is replaced by another version has another file.
  std::map<std::filesystem::path, std::shared_ptr<gateway::Provider>> providers_;
};

}  // namespace tandem::app
