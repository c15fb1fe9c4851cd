// What the gateway may ask about models: names to providers, over the models on this device.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "app/engine_pool.h"
#include "fleet/fleet.h"
#include "gateway/gateway.h"

namespace tandem::app {

// One model answers to another's name.
struct Alias {
  std::string name;   // what clients say
  std::string model;  // a model reference
};

// Thread: any. The fleet and the pool must outlive it and its providers.
class LocalDirectory final : public gateway::ModelDirectory {
 public:
  // Errors: kInvalidArgument for an alias that hides an installed model or names itself; those of
  // Fleet::Resolve for what an alias points to.
  static Result<std::unique_ptr<LocalDirectory>> Create(const fleet::Fleet* fleet, EnginePool* pool,
                                                        std::vector<Alias> aliases);

  std::expected<Resolution, gateway::Failure> Resolve(std::string_view name) override;
  std::vector<Model> List() override;
  Result<Memory> ReadMemory() override;

 private:
  LocalDirectory(const fleet::Fleet* fleet, EnginePool* pool, std::vector<Alias> aliases)
      : fleet_(fleet), pool_(pool), aliases_(std::move(aliases)) {}

  const Alias* FindAlias(std::string_view name) const;

  const fleet::Fleet* const fleet_;
  EnginePool* const pool_;
  const std::vector<Alias> aliases_;
  std::mutex mutex_;
  // By file: a model that is replaced by another version has another file.
  std::map<std::filesystem::path, std::shared_ptr<gateway::Provider>> providers_;
};

}  // namespace tandem::app
