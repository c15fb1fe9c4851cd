#include "app/configuration_door.h"

namespace tandem::app {

ConfigurationDoor::Version ConfigurationDoor::Current() {
  const ConfigurationVersion current = live_->Current();
  return {.number = current.number,
          .sha256 = current.sha256,
          .file = live_->file() ? live_->file()->string() : std::string(),
          .text = FormatConfigurationWithOrigins(*current.value)};
}

}  // namespace tandem::app
