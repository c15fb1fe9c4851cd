#include "gateway/provider/privacy.h"

namespace tandem::gateway {

std::string_view PrivacyName(Privacy privacy) {
  switch (privacy) {
    case Privacy::kAny:
      return "any";
    case Privacy::kRedacted:
      return "redacted";
    case Privacy::kOnDevice:
      return "on_device";
  }
  return "unknown";
}

Result<Privacy> ParsePrivacy(std::string_view name) {
  for (const Privacy privacy : {Privacy::kAny, Privacy::kRedacted, Privacy::kOnDevice}) {
    if (name == PrivacyName(privacy)) return privacy;
  }
  return Err(ErrorCode::kInvalidArgument,
             "unknown privacy '{}'; use one of any, redacted, on_device", name);
}

}  // namespace tandem::gateway
