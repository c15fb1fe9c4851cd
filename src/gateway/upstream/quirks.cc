#include "gateway/upstream/quirks.h"

#include <algorithm>
#include <array>
#include <vector>

#include "base/check.h"

namespace tandem::gateway::upstream {
namespace {

// Sources, as of November 2026:
//   OpenAI     openai-openapi 2.3.0: max_tokens is deprecated and refused by reasoning models.
//   DeepSeek   api-docs.deepseek.com: chat prefix completion (beta), thinking mode.
//   vLLM       OpenAI-compatible server: extra parameters, continue_final_message.
//   llama.cpp  tools/server: repeat_penalty; continue_final_message since pull request 23012.
//   Ollama     docs.ollama.com/api/openai-compatibility: the list of fields.
//   Gemini     ai.google.dev/gemini-api/docs/openai.
//   Anthropic  platform.claude.com/docs, OpenAI SDK compatibility: logprobs are ignored, stop
//              sequences of white space do not work; newer models take no prefix.
constexpr std::array kTable = {
    Quirks{.kind = UpstreamKind::kCompatible, .name = "compatible", .host = ""},
    Quirks{.kind = UpstreamKind::kOpenAi,
           .name = "openai",
           .host = "api.openai.com",
           .max_tokens = "max_completion_tokens"},
    Quirks{.kind = UpstreamKind::kDeepSeek,
           .name = "deepseek",
           .host = "api.deepseek.com",
           .prefix = NativePrefix::kPrefixField,
           .prefix_path = "/beta",
           .thinking_is_on_by_default = true},
    Quirks{.kind = UpstreamKind::kTandem,
           .name = "tandem",
           .host = "",
           .prefix = NativePrefix::kPrefixField,
           .max_tokens = "max_completion_tokens",
           .top_k_and_min_p = true,
           .repetition_penalty = "repetition_penalty"},
    Quirks{.kind = UpstreamKind::kVllm,
           .name = "vllm",
           .host = "",
           .prefix = NativePrefix::kContinueFinalMessage,
           .top_k_and_min_p = true,
           .repetition_penalty = "repetition_penalty"},
    Quirks{.kind = UpstreamKind::kLlamaCpp,
           .name = "llama.cpp",
           .host = "",
           .prefix = NativePrefix::kContinueFinalMessage,
           .top_k_and_min_p = true,
           .repetition_penalty = "repeat_penalty"},
    Quirks{.kind = UpstreamKind::kOllama, .name = "ollama", .host = ""},
    Quirks{.kind = UpstreamKind::kGemini,
           .name = "gemini",
           .host = "generativelanguage.googleapis.com"},
    Quirks{.kind = UpstreamKind::kAnthropic,
           .name = "anthropic",
           .host = "api.anthropic.com",
           .logprobs = false,
           .blank_stops = false},
};

constexpr bool InOrder() {
  int index = 0;
  for (const Quirks& quirks : kTable) {
    if (static_cast<int>(quirks.kind) != index++) return false;
  }
  return true;
}
static_assert(InOrder(), "kTable has a row for every UpstreamKind, in its order");

std::unexpected<Failure> Refused(std::string message, std::string param) {
  return std::unexpected(
      Failure{FailureCode::kUnsupported, std::move(message), std::move(param), {}});
}

bool IsBlank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n\f\v") == std::string_view::npos;
}

}  // namespace

std::span<const Quirks> AllQuirks() { return kTable; }

const Quirks& QuirksOf(UpstreamKind kind) {
  const auto index = static_cast<size_t>(kind);
  TANDEM_CHECK(index < kTable.size());
  return kTable.at(index);
}

std::string_view UpstreamKindName(UpstreamKind kind) { return QuirksOf(kind).name; }

Result<UpstreamKind> ParseUpstreamKind(std::string_view name) {
  std::string names;
  for (const Quirks& quirks : kTable) {
    if (quirks.name == name) return quirks.kind;
    names += names.empty() ? "" : ", ";
    names += quirks.name;
  }
  return Err(ErrorCode::kInvalidArgument, "'{}' is no kind of upstream; there are {}", name, names);
}

UpstreamKind KindOfHost(std::string_view host) {
  const auto found = std::ranges::find_if(
      kTable, [&](const Quirks& quirks) { return !quirks.host.empty() && quirks.host == host; });
  return found != kTable.end() ? found->kind : UpstreamKind::kCompatible;
}

std::expected<void, Failure> CheckServable(const Quirks& quirks, const GenerateRequest& request) {
  if (!request.assistant_prefix.empty() && quirks.prefix == NativePrefix::kNone) {
    return Refused(fmt::format("an upstream of kind {} cannot go on with an answer that has begun",
                               quirks.name),
                   "messages");
  }
  if (request.top_logprobs && !quirks.logprobs) {
    return Refused(fmt::format("an upstream of kind {} gives no log probabilities", quirks.name),
                   "logprobs");
  }
  if (!quirks.blank_stops && std::ranges::any_of(request.stop, IsBlank)) {
    return Refused(fmt::format("an upstream of kind {} does not stop at white space", quirks.name),
                   "stop");
  }
  return {};
}

std::string ChatCompletionUrl(const Quirks& quirks, std::string_view base_url, bool with_prefix) {
  while (base_url.ends_with('/')) base_url.remove_suffix(1);
  std::string url;
  if (with_prefix && !quirks.prefix_path.empty() && !base_url.ends_with(quirks.prefix_path)) {
    constexpr std::string_view kVersion = "/v1";
    if (base_url.ends_with(kVersion)) base_url.remove_suffix(kVersion.size());
    url = fmt::format("{}{}", base_url, quirks.prefix_path);
  } else {
    url = base_url;
  }
  return url + "/chat/completions";
}

}  // namespace tandem::gateway::upstream
