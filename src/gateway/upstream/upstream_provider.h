// Charter of gateway/upstream: a Provider over an OpenAI-compatible API in the cloud, and the only
// place where a conversation can leave this device: nothing is sent without an EgressPermit that
// covers the request. It may include base, crypto, net, provider and openai. Deliberately absent:
// the choice of an upstream (gateway/router) and what happens when it fails (gateway/relay).
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/error.h"
#include "gateway/provider/provider.h"
#include "gateway/upstream/quirks.h"
#include "net/http_client.h"

namespace tandem::gateway::upstream {

struct UpstreamOptions {
  std::string model;           // the id under which it answers here
  std::string upstream_model;  // what the upstream calls it; empty: the same
  std::string base_url;        // up to "/chat/completions": "https://api.deepseek.com/v1"
  std::string api_key;         // empty: no Authorization header; never logged, never in an answer
  // Which row of the table in quirks.h; absent: what the URL's host tells.
  std::optional<UpstreamKind> kind = std::nullopt;

  // Zero: no limit. What an upstream sends to keep the connection alive is no token.
  std::chrono::milliseconds connect_timeout{10'000};
  std::chrono::milliseconds first_token_timeout{60'000};  // from the request sent
  std::chrono::milliseconds between_tokens_timeout{60'000};
  std::chrono::milliseconds total_timeout{600'000};
};

// Errors: kInvalidArgument for a URL that is not http(s), has credentials, a query or a fragment;
// for http:// to anything but this machine, since the key and the text would travel in the clear.
Status Validate(const UpstreamOptions& options);

class UpstreamProvider final : public Provider {
 public:
  // `client` and `clock` outlive the provider and its generations.
  UpstreamProvider(UpstreamOptions options, net::HttpClient* client, const Clock* clock);

  std::string_view model() const override { return options_.model; }
  Tier tier() const override { return Tier::kCloud; }
  // Whether it goes on with GenerateRequest::assistant_prefix.
  bool continues() const { return quirks_.prefix != NativePrefix::kNone; }
  // Failures: kPrivacyRefused without a permit that covers the request, kUnsupported for one that
  // this kind of upstream would not answer as it was asked (CheckServable), both before any
  // connection is made; kUnavailable, kDeadlineExceeded, and the rest as FailureFromStatus says.
  // The terminal event says in `egress` what left this device: nothing where no connection was
  // made. Usage is zero where the upstream reported none.
  std::unique_ptr<Generation> Start(GenerateRequest request, EventSink sink) override;

 private:
  const UpstreamOptions options_;
  const Quirks& quirks_;
  const std::string destination_;  // host and port
  net::HttpClient* const client_;
  const Clock* const clock_;
};

}  // namespace tandem::gateway::upstream
