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

Failure FailureFromError(Error error) {
  return Failure{Map(error.code), std::move(error.message), std::move(error.param)};
}

}  // namespace tandem::gateway
