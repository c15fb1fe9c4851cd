#include "gateway/provider/provider.h"

namespace tandem::gateway {

std::string_view TierName(Tier tier) {
  switch (tier) {
    case Tier::kDeviceSmall:
      return "device_small";
    case Tier::kDeviceLarge:
      return "device_large";
    case Tier::kCloud:
      return "cloud";
  }
  return "unknown";
}

}  // namespace tandem::gateway
