// A gateway provider over an engine on this device: where the two wings meet.
#pragma once

#include <filesystem>
#include <string>

#include "app/engine_pool.h"
#include "gateway/provider/provider.h"

namespace tandem::app {

class LocalProvider final : public gateway::Provider {
 public:
  // `model`: the id under which it answers. `pool` must outlive the provider.
  LocalProvider(std::string model, gateway::Tier tier, std::filesystem::path path, EnginePool* pool)
      : model_(std::move(model)), tier_(tier), path_(std::move(path)), pool_(pool) {}

  std::string_view model() const override { return model_; }
  gateway::Tier tier() const override { return tier_; }
  // Loads the model where that has not happened yet; never waits for it.
  std::unique_ptr<gateway::Generation> Start(gateway::GenerateRequest request,
                                             gateway::EventSink sink) override;

 private:
  const std::string model_;
  const gateway::Tier tier_;
  const std::filesystem::path path_;
  EnginePool* const pool_;
};

}  // namespace tandem::app
