// Errors as values. Charter of base/: what the standard library could have had (errors, checks,
// logging, clock, bounded queues, UTF-8); it includes std, fmt and spdlog (in log.cc) and nothing
// of ours.
//
// Who caused it decides the form: caller, network, disk or model file -> Result<T> with an Error
// whose message says what is wrong and what to do; a bug of ours -> TANDEM_CHECK, which aborts.
// Input never reaches a TANDEM_CHECK.
#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/core.h>

namespace tandem {

enum class ErrorCode {
  kInvalidArgument,     // the caller's value is wrong; the same call will fail again
  kNotFound,            // what was asked for does not exist
  kAlreadyExists,       // what should be made is already there
  kUnauthenticated,     // no valid credential
  kPermissionDenied,    // a valid credential, but not for this
  kFailedPrecondition,  // right call, wrong state: something else must be done first
  kResourceExhausted,   // memory, disk, queue or quota is full
  kCorrupt,             // bytes that should hold a format do not
  kUnsupported,         // well-formed, but not something that we do
  kUnavailable,         // network or peer; may work later
  kDeadlineExceeded,
  kCancelled,
  kIo,        // the operating system refused
  kInternal,  // our fault, but survivable
};

// "invalid_argument", "not_found", ... for logs and machine-readable output.
std::string_view ErrorCodeName(ErrorCode code);

struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;
  // The field, option or key that is to blame; empty where there is none.
  std::string param = {};
};

template <typename T>
using Result = std::expected<T, Error>;
using Status = Result<void>;

// return Err(ErrorCode::kNotFound, "no model '{}'; 'tandem list' shows what is installed", name);
template <typename... Args>
std::unexpected<Error> Err(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  return std::unexpected(Error{code, fmt::format(format, std::forward<Args>(args)...), {}});
}

// The same error with "context: " in front, for a caller that knows what was being done.
std::unexpected<Error> Wrap(Error error, std::string_view context);

// An IO error from errno, with the text that belongs to it.
std::unexpected<Error> ErrnoError(int errno_value, std::string_view what);

}  // namespace tandem

#define TANDEM_CONCAT_INNER(a, b) a##b
#define TANDEM_CONCAT(a, b) TANDEM_CONCAT_INNER(a, b)

// Returns the error of a Status or Result from the enclosing function.
#define TANDEM_RETURN_IF_ERROR(expr)                            \
  do {                                                          \
    if (auto tandem_status = (expr); !tandem_status)            \
      return std::unexpected(std::move(tandem_status).error()); \
  } while (false)

// TANDEM_ASSIGN_OR_RETURN(auto file, MappedFile::Open(path));
#define TANDEM_ASSIGN_OR_RETURN(lhs, expr) \
  TANDEM_ASSIGN_OR_RETURN_INNER(TANDEM_CONCAT(tandem_result_, __LINE__), lhs, expr)
// `lhs` may declare a variable, which parentheses would forbid.
// NOLINTBEGIN(bugprone-macro-parentheses)
#define TANDEM_ASSIGN_OR_RETURN_INNER(tmp, lhs, expr)       \
  auto tmp = (expr);                                        \
  if (!tmp) return std::unexpected(std::move(tmp).error()); \
  lhs = std::move(tmp).value()
// NOLINTEND(bugprone-macro-parentheses)
