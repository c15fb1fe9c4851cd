// Charter of gateway/privacy: what may leave this device of a conversation, in which form, and the
// proof of it: finding and replacing secrets (redactor.h), the one gate that a request for an
// outside provider passes (egress_gate.h), which conversations have to stay (conversations.h), and
// signed receipts (receipt.h). It may include base, os, crypto, store, provider and router.
// Deliberately absent: sockets (gateway/upstream sends), the choice of a provider (gateway/router),
// the storage of receipts (gateway/usage).
#pragma once

#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "gateway/privacy/redaction_map.h"
#include "gateway/privacy/secret_finder.h"
#include "gateway/provider/provider.h"
#include "gateway/router/egress_policy.h"

namespace tandem::gateway::privacy {

// A request without its secrets, and what puts them back into its answer.
struct Redaction {
  RedactedRequest request;
  std::shared_ptr<const RedactionMap> map;
  // Of GenerateRequest::assistant_prefix: its end, where that stops within a secret of this
  // conversation ("write to alice@exa"). It was not sent; the answer has to begin with it, and it
  // is taken off again.
  std::string withheld_prefix;
};

// Immutable; thread: any.
class Redactor {
 public:
  // `names` are hidden wherever they stand, beside everything that SecretFinder finds by itself.
  explicit Redactor(std::span<const std::string> names) : finder_(names) {}

  // Replaces the secrets in everything that a provider is sent: messages with their names, calls
  // and ids, tools, the answer's beginning and stop strings. JSON stays JSON. What was a secret in
  // one place is replaced everywhere. Log probabilities are not asked for: they would be those of
  // placeholders.
  // Failures: kPrivacyRefused where something cannot be replaced (the name of a function is part of
  // the upstream's protocol) or not be looked into (tools that are no JSON).
  // Cost: linear in the request's text.
  std::expected<Redaction, Failure> Redact(GenerateRequest request) const;

  // One text by itself.
  std::string RedactText(std::string_view text, RedactionMap* map) const;

 private:
  SecretFinder finder_;
};

}  // namespace tandem::gateway::privacy
