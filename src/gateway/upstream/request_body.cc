#include "gateway/upstream/request_body.h"

#include <boost/json.hpp>

namespace tandem::gateway::upstream {
namespace {

namespace json = boost::json;

json::object MessageJson(const Message& message) {
  json::object object{{"role", message.role}};
  // An assistant's turn that only calls functions has no content.
  if (message.content.empty() && !message.tool_calls.empty()) {
    object["content"] = nullptr;
  } else {
    object["content"] = message.content;
  }
  if (!message.name.empty()) object["name"] = message.name;
  if (!message.tool_call_id.empty()) object["tool_call_id"] = message.tool_call_id;
  if (!message.tool_calls.empty()) {
    json::array calls;
    for (const ToolCall& call : message.tool_calls) {
      calls.push_back({{"id", call.id},
                       {"type", "function"},
                       {"function", {{"name", call.name}, {"arguments", call.arguments}}}});
    }
    object["tool_calls"] = std::move(calls);
  }
  return object;
}

template <typename T>
void Put(json::object* body, std::string_view name, const std::optional<T>& value) {
  if (value) (*body)[name] = *value;
}

}  // namespace

std::string ChatCompletionBody(const GenerateRequest& request, std::string_view model,
                               const Quirks& quirks) {
  json::array messages;
  for (const Message& message : request.messages) messages.push_back(MessageJson(message));
  if (!request.assistant_prefix.empty()) {
    json::object prefix{{"role", "assistant"}, {"content", request.assistant_prefix}};
    if (quirks.prefix == NativePrefix::kPrefixField) prefix["prefix"] = true;
    messages.push_back(std::move(prefix));
  }
  json::object body{{"model", model},
                    {"messages", std::move(messages)},
                    {"stream", true},
                    {"stream_options", {{"include_usage", true}}}};
  if (!request.assistant_prefix.empty()) {
    if (quirks.prefix == NativePrefix::kContinueFinalMessage) {
      body["continue_final_message"] = true;
      body["add_generation_prompt"] = false;
    }
    if (quirks.thinking_is_on_by_default) body["thinking"] = {{"type", "disabled"}};
  }
  if (!request.tools_json.empty()) {
    // Checked when the request came in; an upstream would refuse what is not an array of tools.
    boost::system::error_code error;
    json::value tools = json::parse(request.tools_json, error);
    if (!error) body["tools"] = std::move(tools);
  }
  const SamplingParameters& sampling = request.sampling;
  Put(&body, "temperature", sampling.temperature);
  Put(&body, "top_p", sampling.top_p);
  Put(&body, "presence_penalty", sampling.presence_penalty);
  Put(&body, "frequency_penalty", sampling.frequency_penalty);
  Put(&body, "seed", sampling.seed);
  if (quirks.top_k_and_min_p) {
    Put(&body, "top_k", sampling.top_k);
    Put(&body, "min_p", sampling.min_p);
  }
  if (!quirks.repetition_penalty.empty()) {
    Put(&body, quirks.repetition_penalty, sampling.repetition_penalty);
  }
  Put(&body, quirks.max_tokens, request.max_tokens);
  if (!request.stop.empty()) {
    json::array stop;
    for (const std::string& text : request.stop) stop.emplace_back(text);
    body["stop"] = std::move(stop);
  }
  if (request.top_logprobs) {
    body["logprobs"] = true;
    if (*request.top_logprobs > 0) body["top_logprobs"] = *request.top_logprobs;
  }
  return json::serialize(body);
}

}  // namespace tandem::gateway::upstream
