#include "gateway/router/egress_policy.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

namespace tandem::gateway {
namespace {

// Why a request may not leave in a form that fulfils `allowed`; nothing where it may.
std::optional<Failure> Refusal(const GenerateRequest& request, Privacy privacy, Mode mode,
                               Privacy allowed) {
  if (request.request_id.empty()) {
    return Failure{FailureCode::kInternal, "a request without an id cannot be permitted to leave"};
  }
  const Privacy strictest = std::max(privacy, request.privacy);
  if (request.local_only || strictest > allowed || mode == Mode::kOnlyOnDevice) {
    return Failure{
        FailureCode::kPrivacyRefused,
        fmt::format("this request may not leave the device (local_only {}, privacy {}, mode {}); "
                    "name a model that is installed here",
                    request.local_only, PrivacyName(strictest), ModeName(mode))};
  }
  return std::nullopt;
}

}  // namespace

std::expected<EgressPermit, Failure> EgressPolicy::Permit(const GenerateRequest& request,
                                                          Privacy privacy, Mode mode) {
  if (auto refusal = Refusal(request, privacy, mode, Privacy::kAny)) {
    return std::unexpected(*std::move(refusal));
  }
  return EgressPermit(request.request_id);
}

std::expected<GenerateRequest, Failure> EgressPolicy::Permit(RedactedRequest redacted,
                                                             Privacy privacy, Mode mode) {
  if (auto refusal = Refusal(redacted.request_, privacy, mode, Privacy::kRedacted)) {
    return std::unexpected(*std::move(refusal));
  }
  GenerateRequest request = std::move(redacted.request_);
  request.egress = EgressPermit(request.request_id);
  return request;
}

}  // namespace tandem::gateway
