// Why a request was not answered, as the gateway's rooms tell each other. It is finer than
// base/error.h where clients match on the difference (OUT_OF_MEMORY is not "too many requests"),
// and knows nothing of HTTP: gateway/openai/error_table.h maps every code to a status and a body.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace tandem::gateway {

enum class FailureCode {
  kInvalidRequest,          // the body or a field of it is wrong; `param` names it
  kUnsupported,             // well-formed, but this server does not do it
  kContextLengthExceeded,   // the prompt does not fit the model's window
  kUnauthenticated,         // no key, or not a valid one
  kPermissionDenied,        // a valid key, but not for this
  kPrivacyRefused,          // may not leave the device, which cannot serve it
  kModelNotFound,           // no model of that name
  kModelNotInstalled,       // known, but not on this device; the message says how to install it
  kNotFound,                // no such path
  kMethodNotAllowed,        // the path exists, the method does not
  kPayloadTooLarge,         // the body is over the limit
  kRateLimited,             // more requests than are admitted at once
  kOutOfMemory,             // the message carries bytes wanted and bytes available
  kNpuContextCreateFailed,  // the message carries the model id and the driver's reason
  kOutputValidationFailed,  // the message carries which check failed and its figure
  kCancelled,               // the client left, or the server gave the request up
  kDeadlineExceeded,
  kShuttingDown,        // draining: another node may answer
  kUnavailable,         // a peer or device that may work later
  kCredentialRejected,  // an upstream does not take the key that this server has for it
  kQuotaExhausted,      // what this server bought at an upstream is spent
  kBudgetExceeded,      // what the caller's virtual key may spend is spent
  kInternal,            // our fault
};

// For tables and the tests over them: codes are dense from 0 to kFailureCodeCount - 1.
inline constexpr int kFailureCodeCount = static_cast<int>(FailureCode::kInternal) + 1;

// "invalid_request", "unavailable", ...: the names in records and figures. What clients see is
// gateway/openai/error_table.h's.
std::string_view FailureCodeName(FailureCode code);

struct Failure {
  FailureCode code = FailureCode::kInternal;
  std::string message;     // for the client: what is wrong and what to do
  std::string param = {};  // the request field to blame, for example "messages[2].content"
  // When the same may be tried again, where whoever refused said so (Retry-After).
  std::optional<std::chrono::milliseconds> retry_after = {};
};

// The nearest failure to an error of base/. A caller that knows more (that kResourceExhausted
// meant memory, that kNotFound meant the model) builds the Failure itself. kResourceExhausted
// becomes kRateLimited; kIo, kCorrupt, kAlreadyExists and kInternal become kInternal.
Failure FailureFromError(Error error);

}  // namespace tandem::gateway
