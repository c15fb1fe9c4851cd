// What differs between OpenAI-compatible APIs, as a table: a row for each kind of upstream.
#pragma once

#include <expected>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "gateway/provider/provider.h"

namespace tandem::gateway::upstream {

enum class UpstreamKind {
  kCompatible,  // any other; what nearly all of them take
  kOpenAi,
  kDeepSeek,
  kTandem,
  kVllm,
  kLlamaCpp,
  kOllama,
  kGemini,     // Google's OpenAI-compatible endpoint
  kAnthropic,  // Anthropic's OpenAI-compatible endpoint
};

// How an upstream goes on with an answer that has begun (GenerateRequest::assistant_prefix).
enum class NativePrefix {
  kNone,                  // it would begin anew: the request is refused
  kPrefixField,           // the last message is the assistant's and has "prefix": true
  kContinueFinalMessage,  // likewise, and the body has continue_final_message
};

struct Quirks {
  UpstreamKind kind = UpstreamKind::kCompatible;
  std::string_view name;  // in configuration: "deepseek"
  std::string_view host;  // whose API it is, empty where many hosts serve it

  NativePrefix prefix = NativePrefix::kNone;
  // The base path that alone takes a prefix, instead of the configured one's "/v1"; empty: the
  // same.
  std::string_view prefix_path = {};
  // It would think first, and then not go on where the prefix ends, unless told not to.
  bool thinking_is_on_by_default = false;

  std::string_view max_tokens = "max_tokens";  // the field's name
  // Fields beyond OpenAI's API; where they are not known the parameter is not sent.
  bool top_k_and_min_p = false;
  std::string_view repetition_penalty = {};

  bool logprobs = true;     // false: ignores the wish, so such a request is refused
  bool blank_stops = true;  // false: a stop string of white space does not stop it
};

// In the order of UpstreamKind.
std::span<const Quirks> AllQuirks();
const Quirks& QuirksOf(UpstreamKind kind);

std::string_view UpstreamKindName(UpstreamKind kind);
// Errors: kInvalidArgument with the list of names.
Result<UpstreamKind> ParseUpstreamKind(std::string_view name);
// kCompatible where the host tells nothing.
UpstreamKind KindOfHost(std::string_view host);

// What would come back as something else than what was asked for is refused before anything is
// sent, so that another provider can answer.
// Errors: kUnsupported, with `param` for what the client asked for itself.
std::expected<void, Failure> CheckServable(const Quirks& quirks, const GenerateRequest& request);

// Where a request goes: base_url + "/chat/completions", by way of prefix_path for a request with an
// assistant_prefix.
std::string ChatCompletionUrl(const Quirks& quirks, std::string_view base_url, bool with_prefix);

}  // namespace tandem::gateway::upstream
