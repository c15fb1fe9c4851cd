// Nobody but EgressPolicy makes a permit to leave the device, and nobody but the Redactor the proof
// that a request was redacted. What is not marked compiles.
#include <string>
#include <utility>

#include "gateway/router/egress_policy.h"

namespace tandem::gateway {

bool Covers(const EgressPermit& permit) { return permit.Covers("req-1"); }

EgressPermit MakePermit() {
  return EgressPermit("req-1");  // expected-error {{calling a private constructor}}
}

EgressPermit MakeEmptyPermit() {
  return {};  // expected-error {{no matching constructor}}
  // expected-note@gateway/provider/egress_permit.h:* 0+ {{}}
}

std::expected<GenerateRequest, Failure> Send(RedactedRequest redacted) {
  return EgressPolicy::Permit(std::move(redacted), Privacy::kRedacted, Mode::kPreferInCloud);
}

std::expected<GenerateRequest, Failure> SendAsItIs(GenerateRequest request) {
  return Send(
      RedactedRequest(std::move(request)));  // expected-error {{calling a private constructor}}
  // expected-note@gateway/router/egress_policy.h:* 0+ {{declared private here}}
}

std::string Read(const RedactedRequest& redacted) { return redacted.request().request_id; }

void Change(RedactedRequest& redacted) {
  redacted.request().request_id = "req-2";  // expected-error {{no viable overloaded '='}}
  // expected-note@* 0+ {{candidate}}
}

class Impostor : public RedactedRequest {
 public:
  explicit Impostor(GenerateRequest request)
      : RedactedRequest(std::move(request)) {}  // expected-error {{has private constructor}}
};

}  // namespace tandem::gateway
