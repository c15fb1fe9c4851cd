#include "gateway/openai/error_table.h"

#include "base/check.h"
#include "gateway/openai/json_text.h"

namespace tandem::gateway::openai {
namespace {

struct Row {
  FailureCode failure;
  WireError wire;
};

// In the order of FailureCode. The three upper-case codes are the wire contract's.
constexpr Row kTable[] = {
    {FailureCode::kInvalidRequest, {400, "invalid_request_error", "invalid_request"}},
    {FailureCode::kUnsupported, {400, "invalid_request_error", "unsupported_value"}},
    {FailureCode::kContextLengthExceeded,
     {400, "invalid_request_error", "context_length_exceeded"}},
    {FailureCode::kUnauthenticated, {401, "authentication_error", "invalid_api_key"}},
    {FailureCode::kPermissionDenied, {403, "permission_error", "permission_denied"}},
    {FailureCode::kPrivacyRefused, {403, "permission_error", "privacy_refused"}},
    {FailureCode::kModelNotFound, {404, "invalid_request_error", "model_not_found"}},
    {FailureCode::kModelNotInstalled, {409, "invalid_request_error", "model_not_installed"}},
    {FailureCode::kNotFound, {404, "invalid_request_error", "not_found"}},
    {FailureCode::kMethodNotAllowed, {405, "invalid_request_error", "method_not_allowed"}},
    {FailureCode::kPayloadTooLarge, {413, "invalid_request_error", "payload_too_large"}},
    {FailureCode::kRateLimited, {429, "rate_limit_error", "rate_limit_exceeded"}},
    {FailureCode::kOutOfMemory, {503, "server_error", "OUT_OF_MEMORY"}},
    {FailureCode::kNpuContextCreateFailed, {503, "server_error", "NPU_CONTEXT_CREATE_FAILED"}},
    // 502: the gateway is well, what the model behind it said is not fit to pass on.
    {FailureCode::kOutputValidationFailed, {502, "server_error", "OUTPUT_VALIDATION_FAILED"}},
    // Nobody reads it over HTTP, the client left; 499 is what logs and proxies call that.
    {FailureCode::kCancelled, {499, "invalid_request_error", "request_cancelled"}},
    {FailureCode::kDeadlineExceeded, {504, "server_error", "deadline_exceeded"}},
    {FailureCode::kShuttingDown, {503, "server_error", "server_shutting_down"}},
    {FailureCode::kUnavailable, {503, "server_error", "unavailable"}},
    // The caller can do nothing about either: the operator's key or account is at fault.
    {FailureCode::kCredentialRejected, {502, "server_error", "upstream_credential_rejected"}},
    {FailureCode::kQuotaExhausted, {503, "server_error", "upstream_quota_exhausted"}},
    // OpenAI's own status and code for it.
    {FailureCode::kBudgetExceeded, {429, "insufficient_quota", "insufficient_quota"}},
    {FailureCode::kInternal, {500, "server_error", "internal_error"}},
};

constexpr bool InOrder() {
  int index = 0;
  for (const Row& row : kTable) {
    if (static_cast<int>(row.failure) != index++) return false;
  }
  return index == kFailureCodeCount;
}
static_assert(InOrder(), "kTable has one row for every FailureCode, in its order");

}  // namespace

const WireError& WireErrorOf(FailureCode code) {
  const int index = static_cast<int>(code);
  TANDEM_CHECK(index >= 0 && index < kFailureCodeCount);
  return kTable[index].wire;
}

std::string ErrorObject(const Failure& failure) {
  const WireError& wire = WireErrorOf(failure.code);
  std::string out = "{\"message\":";
  AppendJsonString(failure.message, &out);
  out += ",\"type\":";
  AppendJsonString(wire.type, &out);
  out += ",\"code\":";
  AppendJsonString(wire.code, &out);
  out += ",\"param\":";
  if (failure.param.empty()) {
    out += "null";
  } else {
    AppendJsonString(failure.param, &out);
  }
  out += '}';
  return out;
}

std::string ErrorBody(const Failure& failure) { return "{\"error\":" + ErrorObject(failure) + "}"; }

}  // namespace tandem::gateway::openai
