// Makes the permits without which gateway/upstream sends nothing.
#pragma once

#include <expected>
#include <utility>

#include "gateway/provider/egress_permit.h"
#include "gateway/provider/provider.h"
#include "gateway/router/policy.h"

namespace tandem::gateway {

namespace privacy {
class Redactor;
}  // namespace privacy

// A request in which every secret is a placeholder. gateway/privacy's Redactor alone makes one, so
// having one is the proof that it looked; the request inside can be read, not changed.
class RedactedRequest {
 public:
  const GenerateRequest& request() const { return request_; }

 private:
  friend class privacy::Redactor;
  friend class EgressPolicy;
  explicit RedactedRequest(GenerateRequest request) : request_(std::move(request)) {}
  GenerateRequest request_;
};

class EgressPolicy {
 public:
  // For text as it is. `privacy` and `mode` are the strictest that apply beside the request's own
  // (Decision has them).
  // Errors: kPrivacyRefused where the request must stay on the device or be redacted first, or says
  // so itself (GenerateRequest::local_only); kInternal for a request without an id, which no permit
  // could name.
  static std::expected<EgressPermit, Failure> Permit(const GenerateRequest& request,
                                                     Privacy privacy, Mode mode);

  // For text without its secrets: gives the request back with its permit in it, so that the permit
  // and the text that it was made for are never apart. Errors: as above, but kRedacted may go.
  static std::expected<GenerateRequest, Failure> Permit(RedactedRequest redacted, Privacy privacy,
                                                        Mode mode);
};

}  // namespace tandem::gateway
