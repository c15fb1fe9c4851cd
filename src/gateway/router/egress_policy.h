// Makes the permits without which gateway/upstream sends nothing.
#pragma once

#include <expected>

#include "gateway/provider/egress_permit.h"
#include "gateway/provider/provider.h"
#include "gateway/router/policy.h"

namespace tandem::gateway {

class EgressPolicy {
 public:
  // `privacy` and `mode` are the strictest that apply beside the request's own (Decision has them).
  // Errors: kPrivacyRefused where the request must stay on the device, or says so itself
  // (GenerateRequest::local_only); kInternal for a request without an id, which no permit could
  // name. kRedacted is refused as well until what leaves can be redacted.
  static std::expected<EgressPermit, Failure> Permit(const GenerateRequest& request,
                                                     Privacy privacy, Mode mode);
};

}  // namespace tandem::gateway
