// The configuration in force as the gateway's admin API sees it.
#pragma once

#include <string_view>

#include "app/configuration_live.h"
#include "gateway/admin/admin.h"

namespace tandem::app {

class ConfigurationDoor final : public gateway::admin::ConfigurationDoor {
 public:
  // `live` outlives it.
  explicit ConfigurationDoor(LiveConfiguration* live) : live_(live) {}

  Version Current() override;
  Status Reload() override { return live_->Reload(); }
  Status Replace(std::string_view text, std::string_view expected_sha256) override {
    return live_->Replace(text, expected_sha256);
  }

 private:
  LiveConfiguration* const live_;
};

}  // namespace tandem::app
