#include "gateway/upstream/upstream_error.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string>

#include <fmt/format.h>
#include <boost/json.hpp>

#include "base/utf8.h"
#include "net/retry.h"

namespace tandem::gateway::upstream {
namespace {

namespace json = boost::json;
using std::chrono::milliseconds;

constexpr size_t kMaxQuotedBytes = 300;
constexpr size_t kMaxErrorDepth = 16;

std::string_view StringAt(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  const json::string* text = value != nullptr ? value->if_string() : nullptr;
  return text != nullptr ? std::string_view(*text) : std::string_view();
}

// What an error object tells; views into it.
struct Told {
  std::string_view message;
  std::string_view code;  // OpenAI's `code`, Google's `status`
  std::string_view type;
  std::optional<milliseconds> retry_after;

  bool Is(std::string_view name) const { return code == name || type == name; }
  bool Says(std::string_view phrase) const {
    return message.find(phrase) != std::string_view::npos;
  }
};

// {"@type": ".../google.rpc.RetryInfo", "retryDelay": "36s"} or "1.5s".
std::optional<milliseconds> RetryInfo(const json::object& error) {
  const json::value* details = error.if_contains("details");
  if (details == nullptr || !details->is_array()) return std::nullopt;
  for (const json::value& item : details->get_array()) {
    const json::object* detail = item.if_object();
    if (detail == nullptr) continue;
    const std::string_view delay = StringAt(*detail, "retryDelay");
    double seconds = 0;
    const auto [end, ec] = std::from_chars(delay.data(), delay.data() + delay.size(), seconds);
    if (ec == std::errc() && std::string_view(end, delay.data() + delay.size()) == "s" &&
        seconds >= 0 && seconds < 86'400) {
      return milliseconds(static_cast<int64_t>(seconds * 1000));
    }
  }
  return std::nullopt;
}

// `value` is a body, or what stands in its "error": {"error": {...}}, an array around it (Gemini),
// {"error": "text"} (Ollama), or the fields without an envelope (older vLLM).
Told Tell(const json::value& value) {
  if (const json::array* array = value.if_array()) {
    return array->empty() ? Told{} : Tell(array->front());
  }
  if (const json::string* text = value.if_string()) return {.message = *text};
  const json::object* object = value.if_object();
  if (object == nullptr) return {};
  if (const json::value* error = object->if_contains("error"); error && !error->is_null()) {
    return Tell(*error);
  }
  Told told{.message = StringAt(*object, "message"),
            .code = StringAt(*object, "code"),
            .type = StringAt(*object, "type"),
            .retry_after = RetryInfo(*object)};
  if (told.code.empty()) told.code = StringAt(*object, "status");
  return told;
}

// What the codes and, where there are none, the known sentences say by themselves.
std::optional<FailureCode> Meaning(const Told& told) {
  if (told.Is("insufficient_quota") || told.Is("billing_error") ||
      told.Is("upstream_quota_exhausted") || told.Is("billing_hard_limit_reached") ||
      told.Says("credit balance is too low") || told.Says("Insufficient Balance")) {
    return FailureCode::kQuotaExhausted;
  }
  if (told.Is("context_length_exceeded") || told.Is("exceed_context_size_error") ||
      told.Says("maximum context length")) {
    return FailureCode::kContextLengthExceeded;
  }
  if (told.Is("invalid_api_key") || told.Is("authentication_error") || told.Is("UNAUTHENTICATED") ||
      told.Says("API key not valid")) {
    return FailureCode::kCredentialRejected;
  }
  if (told.Is("rate_limit_exceeded") || told.Is("rate_limit_error") ||
      told.Is("RESOURCE_EXHAUSTED")) {
    return FailureCode::kRateLimited;
  }
  // Another Tandem's refusals, which its client should see as they are.
  if (told.Is("OUT_OF_MEMORY")) return FailureCode::kOutOfMemory;
  if (told.Is("OUTPUT_VALIDATION_FAILED")) return FailureCode::kOutputValidationFailed;
  // 403, but no word about our key.
  if (told.Is("privacy_refused")) return FailureCode::kUnavailable;
  return std::nullopt;
}

FailureCode MeaningOf(int status) {
  switch (status) {
    case 400:
    case 422:
      return FailureCode::kInvalidRequest;
    case 401:
    case 403:
      return FailureCode::kCredentialRejected;
    case 402:
      return FailureCode::kQuotaExhausted;
    case 413:
      return FailureCode::kPayloadTooLarge;
    case 429:
      return FailureCode::kRateLimited;
    default:
      return FailureCode::kUnavailable;
  }
}

std::string Message(FailureCode code, int status, std::string_view upstream,
                    std::string_view words) {
  const std::string quoted = utf8::Sanitize(words.substr(0, kMaxQuotedBytes));
  switch (code) {
    case FailureCode::kInvalidRequest:
      return fmt::format("{} refused the request: {}", upstream, quoted);
    case FailureCode::kPayloadTooLarge:
      return fmt::format("{} finds the request too large: {}", upstream, quoted);
    case FailureCode::kContextLengthExceeded:
      return fmt::format("the conversation is too long for {}: {}", upstream, quoted);
    case FailureCode::kCredentialRejected:
      return fmt::format("{} does not accept the key that it was configured with", upstream);
    case FailureCode::kQuotaExhausted:
      return fmt::format("the quota at {} is spent", upstream);
    case FailureCode::kRateLimited:
      return fmt::format("{} asks to slow down", upstream);
    case FailureCode::kOutOfMemory:
      return fmt::format("{} has too little memory for the request", upstream);
    case FailureCode::kOutputValidationFailed:
      return fmt::format("{} produced no text that is fit to pass on", upstream);
    default:
      if (status == 404) {
        return fmt::format("{} has no such model or path; check its configuration", upstream);
      }
      return fmt::format("{} answered with status {}", upstream, status);
  }
}

std::optional<milliseconds> RetryAfterIn(const net::Headers& headers, SystemTime now) {
  if (const auto text = headers.Find("retry-after-ms")) {  // OpenAI's, finer than seconds
    int64_t count = 0;
    const auto [end, ec] = std::from_chars(text->data(), text->data() + text->size(), count);
    if (ec == std::errc() && end == text->data() + text->size() && count >= 0 &&
        count < 86'400'000) {
      return milliseconds(count);
    }
  }
  const auto text = headers.Find("Retry-After");
  if (!text) return std::nullopt;
  return net::ParseRetryAfter(*text, now);
}

}  // namespace

Failure FailureFromStatus(int status, const net::Headers& headers, std::string_view body,
                          std::string_view upstream, SystemTime now) {
  boost::system::error_code error;
  json::parse_options options;
  options.max_depth = kMaxErrorDepth;
  const json::value value = json::parse(body, error, {}, options);
  const Told told = error ? Told{} : Tell(value);
  const FailureCode code = Meaning(told).value_or(MeaningOf(status));
  Failure failure{code, Message(code, status, upstream, told.message), "", {}};
  failure.retry_after = RetryAfterIn(headers, now);
  if (!failure.retry_after) failure.retry_after = told.retry_after;
  return failure;
}

Failure FailureFromObject(const json::value& error) {
  const Told told = Tell(error);
  const FailureCode code = Meaning(told).value_or(FailureCode::kUnavailable);
  Failure failure{code, "", "", told.retry_after};
  failure.message = code == FailureCode::kUnavailable
                        ? fmt::format("the upstream failed: {}",
                                      told.message.empty()
                                          ? "no reason given"
                                          : utf8::Sanitize(told.message.substr(0, kMaxQuotedBytes)))
                        : Message(code, 200, "the upstream", told.message);
  return failure;
}

}  // namespace tandem::gateway::upstream
