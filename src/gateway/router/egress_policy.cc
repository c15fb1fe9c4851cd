#include "gateway/router/egress_policy.h"

#include <algorithm>

#include <fmt/format.h>

namespace tandem::gateway {

std::expected<EgressPermit, Failure> EgressPolicy::Permit(const GenerateRequest& request,
                                                          Privacy privacy, Mode mode) {
  if (request.request_id.empty()) {
    return std::unexpected(
        Failure{FailureCode::kInternal, "a request without an id cannot be permitted to leave"});
  }
  const Privacy strictest = std::max(privacy, request.privacy);
  if (request.local_only || strictest != Privacy::kAny || mode == Mode::kOnlyOnDevice) {
    return std::unexpected(Failure{
        FailureCode::kPrivacyRefused,
        fmt::format("this request may not leave the device (local_only {}, privacy {}, mode {}); "
                    "name a model that is installed here",
                    request.local_only, PrivacyName(strictest), ModeName(mode))});
  }
  return EgressPermit(request.request_id);
}

}  // namespace tandem::gateway
