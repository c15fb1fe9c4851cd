// The gate before a provider that is not on this device.
#pragma once

#include <memory>
#include <string_view>
#include <utility>

#include "gateway/privacy/redactor.h"
#include "gateway/provider/provider.h"

namespace tandem::gateway::privacy {

// Wraps an outside provider and does what the request's privacy says, which whoever starts it has
// set to the strictest that applies (router's Decision has it):
//   on_device, local_only   Failed{kPrivacyRefused}; the inner provider is not called
//   redacted                secrets are replaced, the permit is made for what is left, and the
//   answer's
//                           text comes back with them (without log probabilities)
//   any                     the request goes as it is, with a permit
// A permit that a request brings along is thrown away. Failures of the inner provider pass
// unchanged: their messages may have placeholders in them, never what those stand for. Thread: any,
// like every Provider.
class EgressGate final : public Provider {
 public:
  // `at_least`: what the inner provider's requests are subject to, whatever they say themselves.
  EgressGate(std::shared_ptr<Provider> inner, std::shared_ptr<const Redactor> redactor,
             Privacy at_least = Privacy::kAny)
      : inner_(std::move(inner)), redactor_(std::move(redactor)), at_least_(at_least) {}

  std::string_view model() const override { return inner_->model(); }
  Tier tier() const override { return inner_->tier(); }
  // Failures beside the inner provider's: kPrivacyRefused; kUnsupported where the answer does not
  // go on with the part of assistant_prefix that was kept from it (Redaction::withheld_prefix).
  std::unique_ptr<Generation> Start(GenerateRequest request, EventSink sink) override;

 private:
  const std::shared_ptr<Provider> inner_;
  const std::shared_ptr<const Redactor> redactor_;
  const Privacy at_least_;
};

}  // namespace tandem::gateway::privacy
