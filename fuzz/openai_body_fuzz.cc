// Any bytes as a chat request's body, and as the text that a model writes: a typed error or a
// request whose every field is in range; answers made of its strings are JSON; and the calls found
// in the text do not depend on how it was cut.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <boost/json.hpp>

#include "base/check.h"
#include "base/utf8.h"
#include "gateway/openai/chat_request.h"
#include "gateway/openai/chat_response.h"
#include "gateway/openai/error_table.h"
#include "gateway/openai/tool_calls.h"

namespace tandem::gateway::openai {
namespace {

void CheckInRange(const std::optional<float>& value, float lowest, float highest) {
  TANDEM_CHECK(!value || (*value >= lowest && *value <= highest));
}

void CheckText(std::string_view text) { TANDEM_CHECK(utf8::IsValid(text)); }

void CheckRequest(const ChatRequest& request) {
  TANDEM_CHECK(!request.model.empty());
  CheckText(request.model);
  const GenerateRequest& generate = request.generate;
  TANDEM_CHECK(!generate.messages.empty());
  for (const Message& message : generate.messages) {
    CheckText(message.role);
    CheckText(message.content);
    CheckText(message.name);
    for (const ToolCall& call : message.tool_calls) CheckText(call.arguments);
  }
  CheckInRange(generate.sampling.temperature, 0, 2);
  CheckInRange(generate.sampling.top_p, 0, 1);
  CheckInRange(generate.sampling.min_p, 0, 1);
  CheckInRange(generate.sampling.presence_penalty, -2, 2);
  CheckInRange(generate.sampling.frequency_penalty, -2, 2);
  TANDEM_CHECK(!generate.sampling.repetition_penalty || *generate.sampling.repetition_penalty > 0);
  TANDEM_CHECK(!generate.sampling.top_k || *generate.sampling.top_k >= 0);
  TANDEM_CHECK(!generate.max_tokens || *generate.max_tokens > 0);
  TANDEM_CHECK(!generate.top_logprobs ||
               (*generate.top_logprobs >= 0 && *generate.top_logprobs <= 20));
  int32_t last = -1;
  for (const auto& [id, bias] : generate.sampling.logit_bias) {
    TANDEM_CHECK(id > last && std::abs(bias) <= 100);
    last = id;
  }
  for (const std::string& stop : generate.stop) TANDEM_CHECK(!stop.empty());
  if (!generate.tools_json.empty()) {
    boost::json::parse_options options;
    options.max_depth = BodyLimits().max_depth;
    TANDEM_CHECK(boost::json::parse(generate.tools_json, {}, options).is_array());
  }

  const Message& message = generate.messages.back();
  const boost::json::value body = boost::json::parse(CompletionBody(
      {{"chatcmpl-1", 1, request.model}, message.content, message.tool_calls, {}, {}, {}}));
  const auto& content = body.at("choices").at(0).at("message").at("content");
  TANDEM_CHECK(content.is_null() ? message.content.empty()
                                 : std::string_view(content.as_string()) == message.content);
}

std::pair<std::string, std::vector<ToolCall>> FindCalls(std::string_view text, size_t step) {
  ToolCallParser parser;
  std::vector<ToolCallEvent> events;
  for (size_t at = 0; at < text.size(); at += step) parser.Push(text.substr(at, step), &events);
  parser.Finish(&events);
  std::pair<std::string, std::vector<ToolCall>> found;
  for (ToolCallEvent& event : events) {
    if (auto* piece = std::get_if<std::string>(&event)) found.first += *piece;
    if (auto* call = std::get_if<ToolCall>(&event)) found.second.push_back(std::move(*call));
  }
  return found;
}

}  // namespace
}  // namespace tandem::gateway::openai

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tandem::gateway::openai;
  // A copy of exactly this size, so that reading beyond it is seen.
  const std::vector<char> copy(data, data + size);
  const std::string_view input(copy.data(), copy.size());

  if (const auto request = ParseChatRequest(input)) {
    CheckRequest(*request);
  } else {
    const auto body = boost::json::parse(ErrorBody(request.error()));
    TANDEM_CHECK(!body.at("error").at("message").as_string().empty());
  }

  const auto whole = FindCalls(input, size + 1);
  TANDEM_CHECK(FindCalls(input, 1) == whole);
  TANDEM_CHECK(FindCalls(input, 7) == whole);
  // What was no call is passed on untouched.
  if (whole.second.empty()) TANDEM_CHECK(whole.first == input);
  return 0;
}
