#include "gateway/openai/chat_request.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <map>
#include <utility>
#include <vector>

#include "base/utf8.h"
#include "gateway/openai/chat_messages.h"
#include "gateway/openai/object_reader.h"

namespace tandem::gateway::openai {
namespace {

namespace json = boost::json;

constexpr int64_t kMaxInt32 = std::numeric_limits<int32_t>::max();
constexpr int64_t kMaxStops = 4;  // OpenAI's limits, here and below
constexpr int64_t kMaxTopLogprobs = 20;
constexpr size_t kMaxTools = 128;
constexpr size_t kMaxToolNameBytes = 64;
constexpr double kMaxRepetitionPenalty = 10;  // beyond it every repeated token is as good as banned

constexpr size_t kMaxNameBytes = 256;
constexpr double kMaxLimit = 1e9;

std::unexpected<Failure> BadBody(std::string message) {
  return std::unexpected(Failure{FailureCode::kInvalidRequest, std::move(message)});
}

// The whole body as one JSON object.
Parsed<json::value> ParseJson(std::string_view body, const BodyLimits& limits,
                              const json::storage_ptr& storage) {
  if (body.size() > limits.max_bytes) {
    return std::unexpected(Failure{FailureCode::kPayloadTooLarge,
                                   fmt::format("the body has {} bytes; at most {} are accepted",
                                               body.size(), limits.max_bytes)});
  }
  if (const size_t bad = utf8::FindInvalid(body); bad != utf8::npos) {
    return BadBody(
        fmt::format("the body is not valid UTF-8 at byte {}; JSON is sent as UTF-8", bad));
  }
  json::parse_options options;
  options.max_depth = limits.max_depth;
  json::parser parser(storage, options);
  json::error_code error;
  // write_some, because write() does not say where it stopped.
  const size_t consumed = parser.write_some(body.data(), body.size(), error);
  if (!error && consumed < body.size()) error = json::error::extra_data;
  if (error == json::error::too_deep) {
    return BadBody(fmt::format("the body is nested more than {} levels deep", limits.max_depth));
  }
  if (error == json::error::incomplete) {
    return BadBody("the body is not valid JSON: it ends too early");
  }
  if (error) {
    return BadBody(
        fmt::format("the body is not valid JSON: {} near byte {}", error.message(), consumed));
  }
  json::value value = parser.release();
  if (!value.is_object()) {
    return BadBody(fmt::format("the body must be a JSON object, not {}", KindName(value)));
  }
  return value;
}

std::optional<float> ToFloat(std::optional<double> value) {
  if (!value) return std::nullopt;
  return static_cast<float>(*value);
}

Parsed<std::vector<std::pair<int32_t, float>>> ParseLogitBias(const ObjectReader& body) {
  std::vector<std::pair<int32_t, float>> bias;
  TANDEM_ASSIGN_OR_RETURN(const json::object* object, body.Object("logit_bias"));
  if (object == nullptr) return bias;
  std::map<int32_t, float> by_id;  // "7" and "07" are one token
  const ObjectReader reader(*object, "logit_bias");
  for (const auto& entry : *object) {
    const std::string_view key(entry.key().data(), entry.key().size());
    int32_t id = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id < 0) {
      return Invalid("logit_bias", "has the key \"{}\"; keys are token ids", key);
    }
    TANDEM_ASSIGN_OR_RETURN(const auto value, reader.Number(key, -100, 100));
    if (value) by_id[id] = static_cast<float>(*value);
  }
  bias.assign(by_id.begin(), by_id.end());
  return bias;
}

Parsed<SamplingParameters> ParseSampling(const ObjectReader& body) {
  SamplingParameters sampling;
  TANDEM_ASSIGN_OR_RETURN(const auto temperature, body.Number("temperature", 0, 2));
  TANDEM_ASSIGN_OR_RETURN(const auto top_p, body.Number("top_p", 0, 1));
  TANDEM_ASSIGN_OR_RETURN(const auto min_p, body.Number("min_p", 0, 1));
  TANDEM_ASSIGN_OR_RETURN(const auto top_k, body.Integer("top_k", -1, kMaxInt32));
  TANDEM_ASSIGN_OR_RETURN(const auto repetition,
                          body.Number("repetition_penalty", 0, kMaxRepetitionPenalty));
  TANDEM_ASSIGN_OR_RETURN(const auto presence, body.Number("presence_penalty", -2, 2));
  TANDEM_ASSIGN_OR_RETURN(const auto frequency, body.Number("frequency_penalty", -2, 2));
  if (repetition && static_cast<float>(*repetition) <= 0) {
    return Invalid("repetition_penalty", "must be above 0; 1 switches it off");
  }
  sampling.temperature = ToFloat(temperature);
  sampling.top_p = ToFloat(top_p);
  sampling.min_p = ToFloat(min_p);
  // -1 is how vLLM's clients say "off".
  if (top_k) sampling.top_k = static_cast<int32_t>(std::max<int64_t>(*top_k, 0));
  sampling.repetition_penalty = ToFloat(repetition);
  sampling.presence_penalty = ToFloat(presence);
  sampling.frequency_penalty = ToFloat(frequency);
  TANDEM_ASSIGN_OR_RETURN(sampling.logit_bias, ParseLogitBias(body));
  TANDEM_ASSIGN_OR_RETURN(sampling.seed, body.Integer("seed", std::numeric_limits<int64_t>::min(),
                                                      std::numeric_limits<int64_t>::max()));
  return sampling;
}

Parsed<std::vector<std::string>> ParseStop(const ObjectReader& body) {
  std::vector<std::string> stops;
  const json::value* value = body.Find("stop");
  if (value == nullptr) return stops;
  const json::array* array = value->if_array();
  if (array == nullptr && !value->is_string()) {
    return Invalid("stop", "must be a string or an array of strings, not {}", KindName(*value));
  }
  if (array != nullptr && array->size() > kMaxStops) {
    return Invalid("stop", "has {} strings; at most {} are accepted", array->size(), kMaxStops);
  }
  const size_t n = array == nullptr ? 1 : array->size();
  for (size_t i = 0; i < n; ++i) {
    const json::value& item = array == nullptr ? *value : (*array)[i];
    const std::string path = array == nullptr ? "stop" : fmt::format("stop[{}]", i);
    const json::string* text = item.if_string();
    if (text == nullptr) return Invalid(path, "must be a string, not {}", KindName(item));
    if (text->empty()) return Invalid(path, "must not be empty");
    stops.emplace_back(text->data(), text->size());
  }
  return stops;
}

// max_completion_tokens, or max_tokens as it was called before.
Parsed<std::optional<int32_t>> ParseMaxTokens(const ObjectReader& body) {
  TANDEM_ASSIGN_OR_RETURN(const auto newer, body.Integer("max_completion_tokens", 1, kMaxInt32));
  TANDEM_ASSIGN_OR_RETURN(const auto older, body.Integer("max_tokens", 1, kMaxInt32));
  const std::optional<int64_t> limit = newer ? newer : older;
  if (!limit) return std::nullopt;
  return static_cast<int32_t>(*limit);
}

Parsed<std::optional<int32_t>> ParseLogprobs(const ObjectReader& body) {
  TANDEM_ASSIGN_OR_RETURN(const auto wanted, body.Bool("logprobs"));
  TANDEM_ASSIGN_OR_RETURN(const auto top, body.Integer("top_logprobs", 0, kMaxTopLogprobs));
  if (!wanted.value_or(false)) {
    if (top.value_or(0) > 0) return Invalid("top_logprobs", "needs 'logprobs' to be true");
    return std::nullopt;
  }
  return static_cast<int32_t>(top.value_or(0));
}

// A tool's name goes into prompts and is matched in answers.
bool IsToolName(std::string_view name) {
  return !name.empty() && name.size() <= kMaxToolNameBytes && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  });
}

Parsed<std::string> CheckTool(const json::value& value, const std::string& path) {
  const json::object* tool = value.if_object();
  if (tool == nullptr) return Invalid(path, "must be an object, not {}", KindName(value));
  const ObjectReader reader(*tool, path);
  TANDEM_ASSIGN_OR_RETURN(const auto type, reader.String("type"));
  if (!type) return Invalid(reader.PathOf("type"), "is required");
  if (*type != "function") {
    return Unsupported(reader.PathOf("type"), "must be \"function\", not \"{}\"", *type);
  }
  TANDEM_ASSIGN_OR_RETURN(const json::object* function, reader.Object("function"));
  if (function == nullptr) return Invalid(reader.PathOf("function"), "is required");
  const ObjectReader inner(*function, reader.PathOf("function"));
  TANDEM_ASSIGN_OR_RETURN(const auto name, inner.String("name"));
  if (!name) return Invalid(inner.PathOf("name"), "is required");
  if (!IsToolName(*name)) {
    return Invalid(inner.PathOf("name"), "must be 1 to {} of a-z, A-Z, 0-9, _ and -",
                   kMaxToolNameBytes);
  }
  TANDEM_RETURN_IF_ERROR(inner.String("description"));
  TANDEM_RETURN_IF_ERROR(inner.Object("parameters"));
  TANDEM_RETURN_IF_ERROR(inner.Bool("strict"));
  return std::string(*name);
}

// JSON text of `tools`, "" where there are none.
Parsed<std::string> ParseTools(const ObjectReader& body) {
  for (const std::string_view retired : {"functions", "function_call"}) {
    if (body.Find(retired) != nullptr) {
      return Unsupported(retired, "is retired; use 'tools' and 'tool_choice'");
    }
  }
  TANDEM_ASSIGN_OR_RETURN(const json::array* tools, body.Array("tools"));
  if (tools == nullptr || tools->empty()) return std::string();
  if (tools->size() > kMaxTools) {
    return Invalid("tools", "has {} tools; at most {} are accepted", tools->size(), kMaxTools);
  }
  for (size_t i = 0; i < tools->size(); ++i) {
    TANDEM_RETURN_IF_ERROR(CheckTool((*tools)[i], fmt::format("tools[{}]", i)));
  }
  std::string text;
  AppendJsonValue(*body.Find("tools"), &text);
  return text;
}

// False where the client forbids calls ("none").
Parsed<bool> ParseToolChoice(const ObjectReader& body) {
  const json::value* value = body.Find("tool_choice");
  if (value == nullptr) return true;
  if (const json::string* text = value->if_string()) {
    if (*text == "auto") return true;
    if (*text == "none") return false;
    if (*text != "required") {
      return Invalid("tool_choice", "must be \"auto\" or \"none\", not \"{}\"",
                     std::string_view(text->data(), text->size()));
    }
  } else if (!value->is_object()) {
    return Invalid("tool_choice", "must be a string or an object, not {}", KindName(*value));
  }
  return Unsupported("tool_choice",
                     "asks for a call in any case, which cannot be guaranteed yet; "
                     "\"auto\" and \"none\" are supported");
}

std::expected<void, Failure> CheckResponseFormat(const ObjectReader& body) {
  TANDEM_ASSIGN_OR_RETURN(const json::object* format, body.Object("response_format"));
  if (format == nullptr) return {};
  const ObjectReader reader(*format, "response_format");
  TANDEM_ASSIGN_OR_RETURN(const auto type, reader.String("type"));
  if (!type) return Invalid(reader.PathOf("type"), "is required");
  if (*type == "text") return {};
  if (*type == "json_object" || *type == "json_schema") {
    return Unsupported(reader.PathOf("type"),
                       "is \"{}\", which is not supported yet; \"text\" is, so ask for JSON in the "
                       "prompt",
                       *type);
  }
  return Invalid(reader.PathOf("type"), "must be \"text\", not \"{}\"", *type);
}

// Fields that ask for more than one text answer.
std::expected<void, Failure> CheckModalities(const ObjectReader& body) {
  TANDEM_ASSIGN_OR_RETURN(const auto n, body.Integer("n", 1, 128));  // OpenAI's range
  if (n.value_or(1) != 1) {
    return Unsupported("n", "is {}, but one choice a request is supported; send several requests",
                       *n);
  }
  TANDEM_ASSIGN_OR_RETURN(const json::array* modalities, body.Array("modalities"));
  if (modalities == nullptr) return {};
  for (size_t i = 0; i < modalities->size(); ++i) {
    const json::string* modality = (*modalities)[i].if_string();
    const std::string path = fmt::format("modalities[{}]", i);
    if (modality == nullptr) {
      return Invalid(path, "must be a string, not {}", KindName((*modalities)[i]));
    }
    if (*modality != "text") return Unsupported(path, "must be \"text\": answers are text only");
  }
  return {};
}

Parsed<bool> ParseIncludeTandem(const ObjectReader& body) {
  TANDEM_ASSIGN_OR_RETURN(const auto tandem, body.Bool("tandem"));
  TANDEM_ASSIGN_OR_RETURN(const json::array* include, body.Array("include"));
  bool wanted = tandem.value_or(false);
  for (size_t i = 0; include != nullptr && i < include->size(); ++i) {
    const json::string* what = (*include)[i].if_string();
    if (what == nullptr) {
      return Invalid(fmt::format("include[{}]", i), "must be a string, not {}",
                     KindName((*include)[i]));
    }
    wanted = wanted || *what == "tandem";
  }
  return wanted;
}

Parsed<std::string> ParseModel(const ObjectReader& body) {
  TANDEM_ASSIGN_OR_RETURN(const auto model, body.String("model"));
  TANDEM_ASSIGN_OR_RETURN(const auto older, body.String("model_id"));
  const auto& name = model ? model : older;
  if (!name) return Invalid("model", "is required; GET /v1/models lists what there is");
  if (name->empty()) return Invalid(model ? "model" : "model_id", "must not be empty");
  return std::string(*name);
}

// An answer that has begun: an assistant's message at the end, with `prefix: true` (DeepSeek's
// form) or with `continue_final_message: true` beside it (vLLM's). Takes it out of the
// conversation.
std::expected<void, Failure> TakePrefix(const ObjectReader& body, const json::array& messages,
                                        GenerateRequest* generate) {
  const size_t last = messages.size() - 1;
  std::string asked_by;
  for (size_t i = 0; i < messages.size(); ++i) {
    const ObjectReader message(messages[i].get_object(), fmt::format("messages[{}]", i));
    TANDEM_ASSIGN_OR_RETURN(const auto prefix, message.Bool("prefix"));
    if (!prefix.value_or(false)) continue;
    asked_by = message.PathOf("prefix");
    if (i != last) return Invalid(asked_by, "is for the last message only");
  }
  TANDEM_ASSIGN_OR_RETURN(const auto go_on, body.Bool("continue_final_message"));
  TANDEM_ASSIGN_OR_RETURN(const auto new_turn, body.Bool("add_generation_prompt"));
  if (go_on.value_or(false)) {
    if (asked_by.empty()) asked_by = "continue_final_message";
    if (new_turn.value_or(false)) {
      return Invalid("add_generation_prompt",
                     "must be false where the final message is to be continued");
    }
  }
  if (asked_by.empty()) return {};
  Message& message = generate->messages.back();
  if (message.role != "assistant") {
    return Invalid(asked_by, "is for a message of the assistant, not of \"{}\"", message.role);
  }
  if (!message.tool_calls.empty()) {
    return Unsupported(asked_by, "is for a message of text; this one has tool_calls");
  }
  if (last == 0) return Invalid(asked_by, "needs a message before it that is to be answered");
  generate->assistant_prefix = std::move(message.content);
  generate->messages.pop_back();
  return {};
}

// The switches of the wire contract.
std::expected<void, Failure> ParseRouting(const ObjectReader& body, GenerateRequest* generate) {
  TANDEM_ASSIGN_OR_RETURN(const auto force_local, body.Bool("force_local_inference"));
  TANDEM_ASSIGN_OR_RETURN(const auto local, body.Bool("local_inference"));
  TANDEM_ASSIGN_OR_RETURN(const auto quality_check, body.Bool("quality_check"));
  TANDEM_ASSIGN_OR_RETURN(const auto high_quality, body.Bool("require_high_quality"));
  TANDEM_ASSIGN_OR_RETURN(const auto memory, body.Bool("memory_optimized"));
  TANDEM_ASSIGN_OR_RETURN(const auto privacy, body.String("privacy"));
  if (privacy) {
    const Result<Privacy> parsed = ParsePrivacy(*privacy);
    if (!parsed) return Invalid("privacy", "is wrong: {}", parsed.error().message);
    generate->privacy = *parsed;
  }
  generate->local_only = force_local.value_or(false) || local.value_or(false);
  generate->quality_check = quality_check.value_or(false);
  generate->require_high_quality = high_quality.value_or(false);
  generate->memory_optimized = memory.value_or(false);
  return {};
}

// Names go into hashes and records, so they are bounded.
Parsed<std::string> ParseName(const ObjectReader& body, std::string_view field) {
  TANDEM_ASSIGN_OR_RETURN(const auto name, body.String(field));
  if (!name) return std::string();
  if (name->size() > kMaxNameBytes) {
    return Invalid(field, "has {} bytes; at most {} are accepted", name->size(), kMaxNameBytes);
  }
  return std::string(*name);
}

Parsed<std::optional<double>> ParseLimit(const ObjectReader& body, std::string_view field) {
  TANDEM_ASSIGN_OR_RETURN(const auto limit, body.Number(field, 0, kMaxLimit));
  if (limit && *limit <= 0) return Invalid(field, "must be above 0");
  return limit;
}

// What the client asks of the route.
std::expected<void, Failure> ParseRoute(const ObjectReader& body, ChatRequest* request) {
  TANDEM_ASSIGN_OR_RETURN(request->mode, ParseName(body, "mode"));
  TANDEM_ASSIGN_OR_RETURN(request->user, ParseName(body, "user"));
  TANDEM_ASSIGN_OR_RETURN(request->conversation_id, ParseName(body, "conversation_id"));
  TANDEM_ASSIGN_OR_RETURN(const auto fallback, body.Bool("fallback"));
  request->may_fall_back = fallback.value_or(true);
  TANDEM_ASSIGN_OR_RETURN(request->max_ttft_ms, ParseLimit(body, "max_ttft_ms"));
  TANDEM_ASSIGN_OR_RETURN(request->max_latency_ms, ParseLimit(body, "max_latency_ms"));
  TANDEM_ASSIGN_OR_RETURN(request->max_cost_usd, ParseLimit(body, "max_cost_usd"));
  return {};
}

std::expected<void, Failure> ParseStreaming(const ObjectReader& body, ChatRequest* request) {
  TANDEM_ASSIGN_OR_RETURN(const auto stream, body.Bool("stream"));
  TANDEM_ASSIGN_OR_RETURN(const json::object* options, body.Object("stream_options"));
  request->stream = stream.value_or(false);
  if (options == nullptr) return {};
  const ObjectReader reader(*options, "stream_options");
  TANDEM_ASSIGN_OR_RETURN(const auto include_usage, reader.Bool("include_usage"));
  request->include_usage = include_usage.value_or(false);
  return {};
}

}  // namespace

std::expected<ChatRequest, Failure> ParseChatRequest(std::string_view body,
                                                     const BodyLimits& limits) {
  // One arena for the tree, freed at once.
  json::monotonic_resource arena;
  TANDEM_ASSIGN_OR_RETURN(const json::value root, ParseJson(body, limits, &arena));
  const ObjectReader reader(root.get_object(), "");

  ChatRequest request;
  GenerateRequest& generate = request.generate;
  TANDEM_ASSIGN_OR_RETURN(request.model, ParseModel(reader));
  TANDEM_ASSIGN_OR_RETURN(const json::array* messages, reader.Array("messages"));
  if (messages == nullptr) return Invalid("messages", "is required");
  TANDEM_ASSIGN_OR_RETURN(generate.messages, ParseMessages(*messages));
  TANDEM_RETURN_IF_ERROR(TakePrefix(reader, *messages, &generate));

  TANDEM_ASSIGN_OR_RETURN(generate.sampling, ParseSampling(reader));
  TANDEM_ASSIGN_OR_RETURN(generate.max_tokens, ParseMaxTokens(reader));
  TANDEM_ASSIGN_OR_RETURN(generate.stop, ParseStop(reader));
  TANDEM_ASSIGN_OR_RETURN(generate.top_logprobs, ParseLogprobs(reader));

  TANDEM_ASSIGN_OR_RETURN(std::string tools, ParseTools(reader));
  TANDEM_ASSIGN_OR_RETURN(const bool may_call, ParseToolChoice(reader));
  if (may_call) generate.tools_json = std::move(tools);
  TANDEM_ASSIGN_OR_RETURN(const auto parallel, reader.Bool("parallel_tool_calls"));
  request.parallel_tool_calls = parallel.value_or(true);

  TANDEM_RETURN_IF_ERROR(CheckModalities(reader));
  TANDEM_RETURN_IF_ERROR(CheckResponseFormat(reader));
  TANDEM_RETURN_IF_ERROR(ParseRoute(reader, &request));
  TANDEM_RETURN_IF_ERROR(ParseRouting(reader, &generate));
  TANDEM_RETURN_IF_ERROR(ParseStreaming(reader, &request));
  TANDEM_ASSIGN_OR_RETURN(request.include_tandem, ParseIncludeTandem(reader));
  return request;
}

}  // namespace tandem::gateway::openai
