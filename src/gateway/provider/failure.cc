#include "gateway/provider/failure.h"

#include <utility>

namespace tandem::gateway {
namespace {

FailureCode Map(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return FailureCode::kInvalidRequest;
    case ErrorCode::kNotFound:
      return FailureCode::kNotFound;
    case ErrorCode::kUnauthenticated:
      return FailureCode::kUnauthenticated;
    case ErrorCode::kPermissionDenied:
      return FailureCode::kPermissionDenied;
    case ErrorCode::kResourceExhausted:
      return FailureCode::kRateLimited;
    case ErrorCode::kUnsupported:
      return FailureCode::kUnsupported;
    case ErrorCode::kFailedPrecondition:
    case ErrorCode::kUnavailable:
      return FailureCode::kUnavailable;
    case ErrorCode::kDeadlineExceeded:
      return FailureCode::kDeadlineExceeded;
    case ErrorCode::kCancelled:
      return FailureCode::kCancelled;
    case ErrorCode::kAlreadyExists:
    case ErrorCode::kCorrupt:
    case ErrorCode::kIo:
    case ErrorCode::kInternal:
      return FailureCode::kInternal;
  }
  return FailureCode::kInternal;
}

}  // namespace

std::string_view FailureCodeName(FailureCode code) {
  switch (code) {
    case FailureCode::kInvalidRequest:
      return "invalid_request";
    case FailureCode::kUnsupported:
      return "unsupported";
    case FailureCode::kContextLengthExceeded:
      return "context_length_exceeded";
    case FailureCode::kUnauthenticated:
      return "unauthenticated";
    case FailureCode::kPermissionDenied:
      return "permission_denied";
    case FailureCode::kPrivacyRefused:
      return "privacy_refused";
    case FailureCode::kModelNotFound:
      return "model_not_found";
    case FailureCode::kModelNotInstalled:
      return "model_not_installed";
    case FailureCode::kNotFound:
      return "not_found";
    case FailureCode::kMethodNotAllowed:
      return "method_not_allowed";
    case FailureCode::kPayloadTooLarge:
      return "payload_too_large";
    case FailureCode::kRateLimited:
      return "rate_limited";
    case FailureCode::kOutOfMemory:
      return "out_of_memory";
    case FailureCode::kNpuContextCreateFailed:
      return "npu_context_create_failed";
    case FailureCode::kOutputValidationFailed:
      return "output_validation_failed";
    case FailureCode::kCancelled:
      return "cancelled";
    case FailureCode::kDeadlineExceeded:
      return "deadline_exceeded";
    case FailureCode::kShuttingDown:
      return "shutting_down";
    case FailureCode::kUnavailable:
      return "unavailable";
    case FailureCode::kCredentialRejected:
      return "credential_rejected";
    case FailureCode::kQuotaExhausted:
      return "quota_exhausted";
    case FailureCode::kBudgetExceeded:
      return "budget_exceeded";
    case FailureCode::kInternal:
      return "internal";
  }
  return "unknown";
}

Failure FailureFromError(Error error) {
  return Failure{Map(error.code), std::move(error.message), std::move(error.param)};
}

}  // namespace tandem::gateway
