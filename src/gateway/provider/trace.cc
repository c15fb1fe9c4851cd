#include "gateway/provider/trace.h"

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

std::string_view AttemptOutcomeName(AttemptOutcome outcome) {
  switch (outcome) {
    case AttemptOutcome::kAnswered:
      return "answered";
    case AttemptOutcome::kHandedOff:
      return "handed_off";
    case AttemptOutcome::kFailed:
      return "failed";
    case AttemptOutcome::kCancelled:
      return "cancelled";
    case AttemptOutcome::kSkipped:
      return "skipped";
  }
  return "unknown";
}

}  // namespace tandem::gateway
