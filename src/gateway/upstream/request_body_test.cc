#include "gateway/upstream/request_body.h"

#include <gtest/gtest.h>
#include <boost/json.hpp>

namespace tandem::gateway::upstream {
namespace {

namespace json = boost::json;

GenerateRequest Request() {
  GenerateRequest request;
  request.messages = {{.role = "user", .content = "Hi \"there\"\n"}};
  return request;
}

TEST(RequestBodyTest, TheSmallestRequestSaysNothingThatTheClientDidNot) {
  EXPECT_EQ(json::parse(ChatCompletionBody(Request(), "m", QuirksOf(UpstreamKind::kVllm))),
            json::parse(R"({
    "model": "m", "messages": [{"role": "user", "content": "Hi \"there\"\n"}],
    "stream": true, "stream_options": {"include_usage": true}})"));
}

TEST(RequestBodyTest, EveryFieldHasItsPlace) {
  GenerateRequest request = Request();
  request.tools_json = R"([{"type": "function", "function": {"name": "f"}}])";
  request.sampling = {.temperature = 0.5F,
                      .top_p = 0.25F,
                      .min_p = 0.125F,
                      .top_k = 5,
                      .repetition_penalty = 1.5F,
                      .presence_penalty = 1.0F,
                      .frequency_penalty = -1.0F,
                      .logit_bias = {{7, 1.0F}},
                      .seed = 9};
  request.max_tokens = 11;
  request.stop = {"a", "b"};
  request.top_logprobs = 2;
  request.messages.push_back({.role = "assistant", .tool_calls = {{"id1", "f", "{\"x\":1}"}}});
  request.messages.push_back({.role = "tool", .content = "42", .tool_call_id = "id1"});
  const json::value body =
      json::parse(ChatCompletionBody(request, "m", QuirksOf(UpstreamKind::kVllm)));
  EXPECT_EQ(body, json::parse(R"({
    "model": "m", "stream": true, "stream_options": {"include_usage": true},
    "messages": [{"role": "user", "content": "Hi \"there\"\n"},
      {"role": "assistant", "content": null, "tool_calls": [{"id": "id1", "type": "function",
        "function": {"name": "f", "arguments": "{\"x\":1}"}}]},
      {"role": "tool", "content": "42", "tool_call_id": "id1"}],
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "temperature": 0.5, "top_p": 0.25, "min_p": 0.125, "top_k": 5, "repetition_penalty": 1.5,
    "presence_penalty": 1.0, "frequency_penalty": -1.0, "seed": 9, "max_tokens": 11,
    "stop": ["a", "b"], "logprobs": true, "top_logprobs": 2})"));
}

}  // namespace
}  // namespace tandem::gateway::upstream
