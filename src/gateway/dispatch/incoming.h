// A request on its way to a decision.
#pragma once

#include <optional>
#include <string>

#include "gateway/provider/provider.h"
#include "gateway/router/policy.h"

namespace tandem::gateway::dispatch {

// One request, checked and from a known caller.
struct Incoming {
  GenerateRequest request;        // with request_id: the server's own, unique
  std::string client_request_id;  // empty: none was sent
  std::string model;              // as the client wrote it
  std::string user;               // the end user; empty: unknown
  std::string conversation_id;    // empty: unknown
  std::optional<Mode> mode;
  bool may_fall_back = true;  // false: only the first candidate may answer
  bool streamed = false;
  std::optional<double> max_ttft_ms;
  std::optional<double> max_latency_ms;
  std::optional<double> max_cost_usd;
  KeyPolicy key;
  std::string key_id;
  std::string account;  // under which the key's spending is summed
};

}  // namespace tandem::gateway::dispatch
