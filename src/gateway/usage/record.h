// One record for each request: what was asked for, what was decided, who answered, what it cost and
// how long it took; complete enough for bills, savings and dashboards. Charter of gateway/usage:
// records, their prices, their storage and the figures made from them; it includes base/, store/,
// metrics/ and gateway/provider. Deliberately absent: making decisions and receipts (the caller
// gives their text), budgets (gateway/auth), and every word of a conversation.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/provider/privacy.h"
#include "gateway/provider/provider.h"
#include "gateway/provider/trace.h"
#include "gateway/usage/inter_token_times.h"
#include "gateway/usage/money.h"

namespace tandem::gateway::usage {

// "stop", "length", "cancelled", "content_filter", "degenerate".
std::string_view FinishReasonName(FinishReason reason);

// Counts as an upstream reports them may be anything: here none is negative or above 10^8 (more
// than any window holds, and few enough that sums of millions of records fit), and no more tokens
// are cached than there are in the prompt.
Usage Sane(const Usage& usage);

// Of the gaps between the pieces of an answer's text, as the client received them.
struct InterTokenSummary {
  double p50_ms = 0;
  double p95_ms = 0;
  double max_ms = 0;

  friend bool operator==(const InterTokenSummary&, const InterTokenSummary&) = default;
};
std::optional<InterTokenSummary> Summarise(const InterTokenTimes& times);

// An attempt and what it cost at the prices of its day.
struct PricedAttempt {
  Attempt attempt;
  std::optional<NanoUsd> cost;  // absent: not priced yet, or its model has no price
};

struct UsageRecord {
  // The server's own and unique. What a client sent as x-request-id is not: two requests may bear
  // the same, and the second must be recorded (and paid for) too.
  std::string request_id;
  std::string client_request_id;  // empty: none was sent
  int64_t started_at_ms = 0;      // since 1970: when the request arrived

  std::string key_id;
  // Under which the key's spending is summed: gateway/auth's Principal::account, which a rotation
  // does not change. Empty: the key's id.
  std::string account;
  std::string subject_digest;   // SHA-256 of the end user's or the conversation's name; or empty
  std::string requested_model;  // as the client wrote it
  std::string strategy;
  std::string strategy_version;
  std::string decision_json;  // facts, candidates, rejections; the caller's, kept as it is
  Privacy privacy = Privacy::kAny;
  bool streamed = false;

  // How it ended: exactly one of the two. A client that left is kCancelled.
  std::optional<FinishReason> finish_reason;
  std::optional<FailureCode> failure;
  bool client_gone = false;

  // Who gave the last of the answer; empty where nobody did.
  std::string target;
  std::string model;
  std::optional<Tier> tier;
  std::vector<PricedAttempt> attempts;  // in the order in which they were started

  Usage usage;            // as the client is told
  NanoUsd cost = 0;       // of all attempts, the losers of a race too
  NanoUsd reference = 0;  // what the cloud alone would have cost for the same tokens
  bool unpriced = false;  // some attempt used tokens of a model that has no price
  std::optional<double> ttft_ms;
  double e2e_ms = 0;
  std::optional<InterTokenSummary> itl;  // absent: no two pieces of text
  std::string receipt_json;              // the caller's, kept as it is; empty: none
  // For whoever makes the receipt just before the record is written; not kept by themselves.
  bool wants_receipt = false;
  std::string answer_sha256;  // of the answer's text, hexadecimal; empty: there was none
  bool trimmed = false;       // decision_json was dropped because the writer was behind
};

// "stop", "unavailable", ...: the finish reason's name or the failure code's.
std::string_view OutcomeName(const UsageRecord& record);

}  // namespace tandem::gateway::usage
