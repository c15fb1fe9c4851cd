// A TargetSource over providers that a test makes.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "gateway/dispatch/routing_table.h"

namespace tandem::gateway::dispatch {

class FakeTargetSource final : public TargetSource {
 public:
  Found Find(const Target& target) override {
    const auto found = providers.find(target.model);
    if (found == providers.end()) {
      Found none;
      none.state.installed = false;
      none.state.remedy = "not here";
      return none;
    }
    return {found->second, states[target.model], continues};
  }
  std::expected<Target, Failure> Resolve(std::string_view model) override {
    if (model == "absent") {
      return std::unexpected(Failure{FailureCode::kModelNotInstalled, "run: tandem pull absent"});
    }
    const auto found = providers.find(model);
    if (found == providers.end()) {
      return std::unexpected(Failure{FailureCode::kModelNotFound, "no such model"});
    }
    return Target{
        .id = std::string(model), .model = std::string(model), .tier = found->second->tier()};
  }
  DeviceState ReadDevice() override { return device; }

  std::map<std::string, std::shared_ptr<Provider>, std::less<>> providers;  // by model
  std::map<std::string, TargetState> states;
  bool continues = true;
  DeviceState device;
};

}  // namespace tandem::gateway::dispatch
