#include "gateway/openai/chat_request.h"

#include <string>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/utf8.h"

namespace tandem::gateway::openai {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

constexpr std::string_view kHi = R"([{"role":"user","content":"hi"}])";

// A valid body with `fields` (",\"a\":1") after the two required ones.
std::string Body(std::string_view fields) {
  return fmt::format(R"({{"model":"demo","messages":{}{}}})", kHi, fields);
}
std::string BodyWithMessages(std::string_view messages) {
  return fmt::format(R"({{"model":"demo","messages":{}}})", messages);
}

ChatRequest MustParse(std::string_view body) {
  auto request = ParseChatRequest(body);
  EXPECT_TRUE(request.has_value()) << body << "\n" << (request ? "" : request.error().message);
  return request.value_or(ChatRequest{});
}

Failure MustFail(std::string_view body) {
  auto request = ParseChatRequest(body);
  EXPECT_FALSE(request.has_value()) << body.substr(0, 300);
  return request ? Failure{} : request.error();
}

TEST(ChatRequestTest, SmallestBodyLeavesEverythingToTheProvider) {
  const ChatRequest request = MustParse(Body(""));
  EXPECT_EQ(request.model, "demo");
  EXPECT_FALSE(request.stream);
  EXPECT_FALSE(request.include_usage);
  EXPECT_FALSE(request.include_tandem);
  EXPECT_TRUE(request.parallel_tool_calls);
  ASSERT_EQ(request.generate.messages.size(), 1u);
  EXPECT_EQ(request.generate.messages[0], (Message{"user", "hi", "", {}, ""}));
  EXPECT_EQ(request.generate.sampling.temperature, std::nullopt);
  EXPECT_EQ(request.generate.sampling.seed, std::nullopt);
  EXPECT_EQ(request.generate.max_tokens, std::nullopt);
  EXPECT_EQ(request.generate.top_logprobs, std::nullopt);
  EXPECT_EQ(request.generate.tools_json, "");
}

TEST(ChatRequestTest, EveryKnownFieldIsRead) {
  const ChatRequest request = MustParse(Body(
      R"(,"temperature":0.5,"top_p":0.9,"min_p":0.05,"top_k":40,"repetition_penalty":1.1,
      "presence_penalty":-2,"frequency_penalty":2,"logit_bias":{"5":-100,"3":1.5},"seed":-7,
      "max_completion_tokens":12,"max_tokens":99,"stop":["a","b"],"logprobs":true,"top_logprobs":3,
      "stream":true,"stream_options":{"include_usage":true},"n":1,"user":"u",
      "response_format":{"type":"text"},"modalities":["text"],"parallel_tool_calls":false,
      "force_local_inference":true,"quality_check":true,"require_high_quality":true,
      "memory_optimized":true,"tandem":true)"));
  const SamplingParameters& sampling = request.generate.sampling;
  EXPECT_EQ(sampling.temperature, 0.5F);
  EXPECT_EQ(sampling.top_p, 0.9F);
  EXPECT_EQ(sampling.min_p, 0.05F);
  EXPECT_EQ(sampling.top_k, 40);
  EXPECT_EQ(sampling.repetition_penalty, 1.1F);
  EXPECT_EQ(sampling.presence_penalty, -2.0F);
  EXPECT_EQ(sampling.frequency_penalty, 2.0F);
  EXPECT_THAT(sampling.logit_bias, ElementsAre(Pair(3, 1.5F), Pair(5, -100.0F)));
  EXPECT_EQ(sampling.seed, -7);
  EXPECT_EQ(request.generate.max_tokens, 12);
  EXPECT_THAT(request.generate.stop, ElementsAre("a", "b"));
  EXPECT_EQ(request.generate.top_logprobs, 3);
  EXPECT_TRUE(request.stream);
  EXPECT_TRUE(request.include_usage);
  EXPECT_FALSE(request.parallel_tool_calls);
  EXPECT_TRUE(request.generate.local_only);
  EXPECT_TRUE(request.generate.quality_check);
  EXPECT_TRUE(request.generate.require_high_quality);
  EXPECT_TRUE(request.generate.memory_optimized);
  EXPECT_TRUE(request.include_tandem);
}

TEST(ChatRequestTest, OtherSpellingsAreAccepted) {
  EXPECT_EQ(MustParse(fmt::format(R"({{"model_id":"old","messages":{}}})", kHi)).model, "old");
  EXPECT_EQ(
      MustParse(fmt::format(R"({{"model_id":"old","model":"new","messages":{}}})", kHi)).model,
      "new");
  EXPECT_TRUE(MustParse(Body(R"(,"local_inference":true)")).generate.local_only);
  EXPECT_EQ(MustParse(Body(R"(,"max_tokens":3)")).generate.max_tokens, 3);
  EXPECT_EQ(MustParse(Body(R"(,"max_tokens":3.0)")).generate.max_tokens, 3);
  EXPECT_THAT(MustParse(Body(R"(,"stop":"x")")).generate.stop, ElementsAre("x"));
  EXPECT_EQ(MustParse(Body(R"(,"top_k":-1)")).generate.sampling.top_k, 0);
  EXPECT_EQ(MustParse(Body(R"(,"logprobs":true)")).generate.top_logprobs, 0);
  EXPECT_TRUE(MustParse(Body(R"(,"include":["other","tandem"])")).include_tandem);
}

TEST(ChatRequestTest, UnknownFieldsAndNullsAreIgnoredAndTheLastDuplicateCounts) {
  const ChatRequest request = MustParse(
      Body(R"(,"no_such_field":{"deep":[1,2]},"temperature":null,"stop":null,"stream":null,
           "logit_bias":null,"tools":null,"top_p":0.1,"top_p":0.2,"store":true,"metadata":{"a":"b"})"));
  EXPECT_EQ(request.generate.sampling.temperature, std::nullopt);
  EXPECT_EQ(request.generate.sampling.top_p, 0.2F);
  EXPECT_TRUE(request.generate.stop.empty());
}

TEST(ChatRequestTest, WrongTypeOrRangeNamesTheField) {
  struct Row {
    std::string_view fields;
    std::string_view param;
  };
  const Row rows[] = {
      {R"("temperature":"hot")", "temperature"},
      {R"("temperature":2.01)", "temperature"},
      {R"("temperature":-0.1)", "temperature"},
      {R"("temperature":true)", "temperature"},
      {R"("temperature":1e400)", "temperature"},
      {R"("top_p":1.5)", "top_p"},
      {R"("top_p":[])", "top_p"},
      {R"("min_p":-1)", "min_p"},
      {R"("min_p":{})", "min_p"},
      {R"("top_k":-2)", "top_k"},
      {R"("top_k":1.5)", "top_k"},
      {R"("top_k":"1")", "top_k"},
      {R"("top_k":4294967296)", "top_k"},
      {R"("repetition_penalty":0)", "repetition_penalty"},
      {R"("repetition_penalty":11)", "repetition_penalty"},
      {R"("repetition_penalty":1e-300)", "repetition_penalty"},
      {R"("presence_penalty":2.5)", "presence_penalty"},
      {R"("presence_penalty":"a")", "presence_penalty"},
      {R"("frequency_penalty":-2.5)", "frequency_penalty"},
      {R"("frequency_penalty":false)", "frequency_penalty"},
      {R"("seed":1.5)", "seed"},
      {R"("seed":"7")", "seed"},
      {R"("seed":18446744073709551615)", "seed"},
      {R"("logit_bias":[])", "logit_bias"},
      {R"("logit_bias":{"x":1})", "logit_bias"},
      {R"("logit_bias":{"-1":1})", "logit_bias"},
      {R"("logit_bias":{"":1})", "logit_bias"},
      {R"("logit_bias":{"99999999999":1})", "logit_bias"},
      {R"("logit_bias":{"7":101})", "logit_bias.7"},
      {R"("logit_bias":{"7":"a"})", "logit_bias.7"},
      {R"("max_tokens":0)", "max_tokens"},
      {R"("max_tokens":-1)", "max_tokens"},
      {R"("max_tokens":"many")", "max_tokens"},
      {R"("max_tokens":2147483648)", "max_tokens"},
      {R"("max_completion_tokens":1.5)", "max_completion_tokens"},
      {R"("stop":5)", "stop"},
      {R"("stop":"")", "stop"},
      {R"("stop":["a","b","c","d","e"])", "stop"},
      {R"("stop":["a",5])", "stop[1]"},
      {R"("stop":[""])", "stop[0]"},
      {R"("stop":[null])", "stop[0]"},
      {R"("logprobs":1)", "logprobs"},
      {R"("logprobs":true,"top_logprobs":21)", "top_logprobs"},
      {R"("top_logprobs":2)", "top_logprobs"},
      {R"("logprobs":false,"top_logprobs":2)", "top_logprobs"},
      {R"("stream":"yes")", "stream"},
      {R"("stream":1)", "stream"},
      {R"("stream_options":true)", "stream_options"},
      {R"("stream_options":{"include_usage":1})", "stream_options.include_usage"},
      {R"("n":0)", "n"},
      {R"("n":129)", "n"},
      {R"("n":"1")", "n"},
      {R"("user":5)", "user"},
      {R"("mode":1)", "mode"},
      {R"("conversation_id":{})", "conversation_id"},
      {R"("fallback":"no")", "fallback"},
      {R"("max_ttft_ms":0)", "max_ttft_ms"},
      {R"("max_latency_ms":-1)", "max_latency_ms"},
      {R"("max_cost_usd":"1")", "max_cost_usd"},
      {R"("response_format":"text")", "response_format"},
      {R"("response_format":{})", "response_format.type"},
      {R"("response_format":{"type":5})", "response_format.type"},
      {R"("response_format":{"type":"xml"})", "response_format.type"},
      {R"("modalities":"text")", "modalities"},
      {R"("modalities":[1])", "modalities[0]"},
      {R"("tools":{})", "tools"},
      {R"("tools":[1])", "tools[0]"},
      {R"("tools":[{}])", "tools[0].type"},
      {R"("tools":[{"type":"function"}])", "tools[0].function"},
      {R"("tools":[{"type":"function","function":{}}])", "tools[0].function.name"},
      {R"("tools":[{"type":"function","function":{"name":"a b"}}])", "tools[0].function.name"},
      {R"("tools":[{"type":"function","function":{"name":""}}])", "tools[0].function.name"},
      {R"("tools":[{"type":"function","function":{"name":"a","parameters":"x"}}])",
       "tools[0].function.parameters"},
      {R"("tools":[{"type":"function","function":{"name":"a","description":1}}])",
       "tools[0].function.description"},
      {R"("tools":[{"type":"function","function":{"name":"a","strict":1}}])",
       "tools[0].function.strict"},
      {R"("tool_choice":"maybe")", "tool_choice"},
      {R"("tool_choice":1)", "tool_choice"},
      {R"("parallel_tool_calls":1)", "parallel_tool_calls"},
      {R"("force_local_inference":"yes")", "force_local_inference"},
      {R"("local_inference":1)", "local_inference"},
      {R"("quality_check":"x")", "quality_check"},
      {R"("require_high_quality":0)", "require_high_quality"},
      {R"("memory_optimized":[])", "memory_optimized"},
      {R"("tandem":"x")", "tandem"},
      {R"("include":"tandem")", "include"},
      {R"("include":[1])", "include[0]"},
  };
  for (const Row& row : rows) {
    const Failure failure = MustFail(Body("," + std::string(row.fields)));
    EXPECT_EQ(failure.code, FailureCode::kInvalidRequest) << row.fields;
    EXPECT_EQ(failure.param, row.param) << row.fields;
    EXPECT_THAT(failure.message, HasSubstr(row.param));
  }
}

TEST(ChatRequestTest, WhatIsNotSupportedSaysSo) {
  const std::pair<std::string_view, std::string_view> rows[] = {
      {R"("n":2)", "n"},
      {R"("response_format":{"type":"json_object"})", "response_format.type"},
      {R"("response_format":{"type":"json_schema","json_schema":{}})", "response_format.type"},
      {R"("modalities":["text","audio"])", "modalities[1]"},
      {R"("functions":[])", "functions"},
      {R"("function_call":"auto")", "function_call"},
      {R"("tools":[{"type":"custom","custom":{"name":"a"}}])", "tools[0].type"},
      {R"("tool_choice":"required")", "tool_choice"},
      {R"("tool_choice":{"type":"function","function":{"name":"a"}})", "tool_choice"},
  };
  for (const auto& [fields, param] : rows) {
    const Failure failure = MustFail(Body("," + std::string(fields)));
    EXPECT_EQ(failure.code, FailureCode::kUnsupported) << fields;
    EXPECT_EQ(failure.param, param);
  }
}

TEST(ChatRequestTest, BadMessagesNameTheirPath) {
  struct Row {
    std::string_view messages;
    std::string_view param;
    FailureCode code = FailureCode::kInvalidRequest;
  };
  const Row rows[] = {
      {R"("hi")", "messages"},
      {R"([])", "messages"},
      {R"(null)", "messages"},
      {R"(["hi"])", "messages[0]"},
      {R"([{}])", "messages[0].role"},
      {R"([{"role":5,"content":"a"}])", "messages[0].role"},
      {R"([{"role":"wizard","content":"a"}])", "messages[0].role"},
      {R"([{"role":"function","content":"a"}])", "messages[0].role", FailureCode::kUnsupported},
      {R"([{"role":"user"}])", "messages[0].content"},
      {R"([{"role":"user","content":null}])", "messages[0].content"},
      {R"([{"role":"user","content":5}])", "messages[0].content"},
      {R"([{"role":"user","content":"a"},{"role":"user","content":"b"},{"role":"user","content":7}])",
       "messages[2].content"},
      {R"([{"role":"user","content":[]}])", "messages[0].content"},
      {R"([{"role":"user","content":["a"]}])", "messages[0].content[0]"},
      {R"([{"role":"user","content":[{"text":"a"}]}])", "messages[0].content[0].type"},
      {R"([{"role":"user","content":[{"type":"text"}]}])", "messages[0].content[0].text"},
      {R"([{"role":"user","content":[{"type":"text","text":3}]}])", "messages[0].content[0].text"},
      {R"([{"role":"user","content":[{"type":"smell"}]}])", "messages[0].content[0].type"},
      {R"([{"role":"user","content":[{"type":"refusal","refusal":"no"}]}])",
       "messages[0].content[0].type"},
      {R"([{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url"}]}])",
       "messages[0].content[1].type", FailureCode::kUnsupported},
      {R"([{"role":"user","content":[{"type":"input_audio"}]}])", "messages[0].content[0].type",
       FailureCode::kUnsupported},
      {R"([{"role":"user","content":[{"type":"file"}]}])", "messages[0].content[0].type",
       FailureCode::kUnsupported},
      {R"([{"role":"user","content":"a","name":5}])", "messages[0].name"},
      {R"([{"role":"assistant"}])", "messages[0].content"},
      {R"([{"role":"assistant","content":null,"tool_calls":[]}])", "messages[0].content"},
      {R"([{"role":"assistant","tool_calls":{}}])", "messages[0].tool_calls"},
      {R"([{"role":"assistant","tool_calls":[1]}])", "messages[0].tool_calls[0]"},
      {R"([{"role":"assistant","tool_calls":[{"type":"function"}]}])",
       "messages[0].tool_calls[0].id"},
      {R"([{"role":"assistant","tool_calls":[{"id":"c"}]}])", "messages[0].tool_calls[0].function"},
      {R"([{"role":"assistant","tool_calls":[{"id":"c","function":{"name":"f"}}]}])",
       "messages[0].tool_calls[0].function.arguments"},
      {R"([{"role":"assistant","tool_calls":[{"id":"c","function":{"arguments":"{}"}}]}])",
       "messages[0].tool_calls[0].function.name"},
      {R"([{"role":"assistant","tool_calls":[{"id":"c","type":"custom"}]}])",
       "messages[0].tool_calls[0].type", FailureCode::kUnsupported},
      {R"([{"role":"tool","content":"r"}])", "messages[0].tool_call_id"},
      {R"([{"role":"tool","content":"r","tool_call_id":5}])", "messages[0].tool_call_id"},
  };
  for (const Row& row : rows) {
    const Failure failure = MustFail(BodyWithMessages(row.messages));
    EXPECT_EQ(failure.code, row.code) << row.messages;
    EXPECT_EQ(failure.param, row.param) << row.messages;
  }
}

TEST(ChatRequestTest, EveryRoleAndContentFormIsRead) {
  const ChatRequest request = MustParse(BodyWithMessages(R"([
      {"role":"system","content":"s"},
      {"role":"developer","content":[{"type":"text","text":"d1"},{"type":"text","text":"d2"}]},
      {"role":"user","content":"é\u0000\ud83d\ude00","name":"ann"},
      {"role":"assistant","content":null,
       "tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},
      {"role":"tool","content":"42","tool_call_id":"c1"},
      {"role":"assistant","content":null,"refusal":"no"},
      {"role":"assistant","content":""}])"));
  EXPECT_THAT(
      request.generate.messages,
      ElementsAre(Message{"system", "s", "", {}, ""}, Message{"developer", "d1\nd2", "", {}, ""},
                  Message{"user", std::string("\xC3\xA9\0\xF0\x9F\x98\x80", 7), "ann", {}, ""},
                  Message{"assistant", "", "", {ToolCall{"c1", "f", R"({"a":1})"}}, ""},
                  Message{"tool", "42", "", {}, "c1"}, Message{"assistant", "no", "", {}, ""},
                  Message{"assistant", "", "", {}, ""}));
}

TEST(ChatRequestTest, ToolsArePassedOnUnlessTheChoiceIsNone) {
  constexpr std::string_view kTools =
      R"([{"type":"function","function":{"name":"f","parameters":{"z":1,"a":{"b":[true,null,0.5,-1.0,"x\ny"]}}}}])";
  EXPECT_EQ(MustParse(Body(fmt::format(R"(,"tools":{})", kTools))).generate.tools_json, kTools);
  EXPECT_EQ(MustParse(Body(fmt::format(R"(,"tools":{},"tool_choice":"auto")", kTools)))
                .generate.tools_json,
            kTools);
  EXPECT_EQ(MustParse(Body(fmt::format(R"(,"tools":{},"tool_choice":"none")", kTools)))
                .generate.tools_json,
            "");
  EXPECT_EQ(MustParse(Body(R"(,"tools":[])")).generate.tools_json, "");
}

TEST(ChatRequestTest, MissingFieldsAreNamed) {
  EXPECT_EQ(MustFail("{}").param, "model");
  EXPECT_EQ(MustFail(R"({"model":5})").param, "model");
  EXPECT_EQ(MustFail(R"({"model":""})").param, "model");
  EXPECT_EQ(MustFail(R"({"model_id":[]})").param, "model_id");
  EXPECT_EQ(MustFail(R"({"model":"m"})").param, "messages");
}

TEST(ChatRequestTest, BodyThatIsNotAJsonObjectSaysWhere) {
  const std::pair<std::string_view, std::string_view> rows[] = {
      {"", "ends too early"},
      {"   ", "ends too early"},
      {"{", "ends too early"},
      {R"({"a":1)", "ends too early"},
      {"hello", "not valid JSON"},
      {R"({"a":1}x)", "not valid JSON"},
      {R"({"a":01})", "not valid JSON"},
      {R"({'a':1})", "near byte 1"},
      {R"({"a":"\ud800"})", "not valid JSON"},
      {"[]", "must be a JSON object, not an array"},
      {"null", "must be a JSON object, not null"},
      {"\"a\"", "must be a JSON object, not a string"},
  };
  for (const auto& [body, message] : rows) {
    const Failure failure = MustFail(body);
    EXPECT_EQ(failure.code, FailureCode::kInvalidRequest) << body;
    EXPECT_THAT(failure.message, HasSubstr(message)) << body;
    EXPECT_EQ(failure.param, "");
  }
}

TEST(ChatRequestTest, InvalidUtf8IsRefusedWithItsOffset) {
  for (const std::string_view bad : {"\xFF", "\xC3", "\xED\xA0\x80", "\xC0\xAF"}) {
    const std::string prefix = R"({"model":"demo","messages":[{"role":"user","content":")";
    const Failure failure = MustFail(prefix + std::string(bad) + "\"}]}");
    EXPECT_EQ(failure.code, FailureCode::kInvalidRequest);
    EXPECT_THAT(failure.message,
                HasSubstr(fmt::format("not valid UTF-8 at byte {}", prefix.size())));
  }
}

TEST(ChatRequestTest, DeepNestingIsRefusedWithoutDeepRecursion) {
  EXPECT_THAT(MustFail(std::string(100'000, '[')).message, HasSubstr("levels deep"));
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += R"({"a":)";
  EXPECT_THAT(MustFail(objects).message, HasSubstr("levels deep"));
  // Within the limit nesting is fine.
  const std::string nested = std::string(90, '[') + std::string(90, ']');
  MustParse(Body(fmt::format(R"(,"x":{})", nested)));
}

TEST(ChatRequestTest, ErrorsDoNotSendTheRequestBack) {
  std::string big;
  for (int i = 0; i < 100'000; ++i) big += "\xE2\x82\xAC";
  for (const std::string& fields :
       {fmt::format(R"(,"tool_choice":"{}")", big), fmt::format(R"(,"logit_bias":{{"{}":1}})", big),
        fmt::format(R"(,"logit_bias":{{"{:0>1000}":101}})", 1)}) {
    const Failure failure = MustFail(Body(fields));
    EXPECT_LE(failure.message.size(), 600u);
    EXPECT_LE(failure.param.size(), 200u);
    EXPECT_TRUE(utf8::IsValid(failure.message));
    EXPECT_THAT(failure.message, HasSubstr("..."));
  }
}

TEST(ChatRequestTest, TenMegabytesAreReadAndSizeIsLimited) {
  const std::string big(10'000'000, 'a');
  const std::string body =
      fmt::format(R"({{"model":"m","messages":[{{"role":"user","content":"{}"}}]}})", big);
  EXPECT_EQ(MustParse(body).generate.messages[0].content.size(), big.size());
  EXPECT_TRUE(ParseChatRequest(body, BodyLimits{.max_bytes = body.size()}).has_value());
  const auto refused = ParseChatRequest(body, BodyLimits{.max_bytes = body.size() - 1});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, FailureCode::kPayloadTooLarge);
  EXPECT_THAT(refused.error().message, HasSubstr(fmt::format("at most {}", body.size() - 1)));
  EXPECT_EQ(MustFail(std::string(17'000'000, ' ')).code, FailureCode::kPayloadTooLarge);
}

TEST(ChatRequestTest, PrivacyIsOneOfItsNames) {
  EXPECT_EQ(MustParse(Body("")).generate.privacy, Privacy::kAny);
  EXPECT_EQ(MustParse(Body(R"(,"privacy":"on_device")")).generate.privacy, Privacy::kOnDevice);
  const auto wrong = ParseChatRequest(Body(R"(,"privacy":"secret")"));
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().param, "privacy");
}

TEST(ChatRequestTest, RouteWishesAreOptionalAndBounded) {
  const std::string head = fmt::format(R"({{"model":"m","messages":{})", kHi);
  const auto none = ParseChatRequest(head + "}").value();
  EXPECT_TRUE(none.may_fall_back);
  EXPECT_FALSE(none.max_ttft_ms || none.max_latency_ms || none.max_cost_usd);
  const auto all = ParseChatRequest(head + R"(,"mode":"ONLY_ON_DEVICE","user":"u",)"
                                           R"("conversation_id":"c","fallback":false,)"
                                           R"("max_ttft_ms":400,"max_latency_ms":2e3,)"
                                           R"("max_cost_usd":0.001})")
                       .value();
  EXPECT_EQ(all.mode, "ONLY_ON_DEVICE");
  EXPECT_EQ(all.user, "u");
  EXPECT_EQ(all.conversation_id, "c");
  EXPECT_FALSE(all.may_fall_back);
  EXPECT_EQ(all.max_ttft_ms, 400);
  EXPECT_EQ(all.max_latency_ms, 2000);
  EXPECT_EQ(all.max_cost_usd, 0.001);
  const auto bad =
      ParseChatRequest(head + fmt::format(R"(,"conversation_id":"{}"}})", std::string(257, 'x')));
  EXPECT_EQ(bad.error().param, "conversation_id");
}

TEST(ChatRequestTest, AnAnswerThatHasBegunIsTakenOutOfTheConversation) {
  constexpr std::string_view kAsk = R"({"role":"user","content":"hi"},)";
  const std::string deepseek = BodyWithMessages(
      fmt::format(R"([{}{{"role":"assistant","content":"Hel","prefix":true}}])", kAsk));
  const std::string vllm = fmt::format(
      R"({{"model":"demo","messages":[{}{{"role":"assistant","content":[{{"type":"text",
          "text":"Hel"}}]}}],"continue_final_message":true,"add_generation_prompt":false}})",
      kAsk);
  for (const std::string& body : {deepseek, vllm}) {
    const ChatRequest request = MustParse(body);
    EXPECT_EQ(request.generate.assistant_prefix, "Hel");
    ASSERT_EQ(request.generate.messages.size(), 1u);
    EXPECT_EQ(request.generate.messages[0].role, "user");
  }
  // Without either, or with a no, it is a turn like any other.
  for (const char* field : {"", R"(,"prefix":false)", R"(,"prefix":null)"}) {
    const ChatRequest request = MustParse(BodyWithMessages(
        fmt::format(R"([{}{{"role":"assistant","content":"Hel"{}}}])", kAsk, field)));
    EXPECT_EQ(request.generate.assistant_prefix, "");
    EXPECT_EQ(request.generate.messages.size(), 2u);
  }
  // Nothing has been said yet: the same as no such message.
  const ChatRequest empty = MustParse(BodyWithMessages(
      fmt::format(R"([{}{{"role":"assistant","content":"","prefix":true}}])", kAsk)));
  EXPECT_EQ(empty.generate.assistant_prefix, "");
  EXPECT_EQ(empty.generate.messages.size(), 1u);
}

TEST(ChatRequestTest, APrefixThatCannotBeContinuedNamesItsField) {
  struct Case {
    std::string_view body;
    std::string_view param;
    FailureCode code = FailureCode::kInvalidRequest;
  };
  for (const Case& c : {
           Case{R"({"model":"m","messages":[{"role":"assistant","content":"a","prefix":true},
                {"role":"user","content":"b"}]})",
                "messages[0].prefix"},
           Case{R"({"model":"m","messages":[{"role":"user","content":"a","prefix":true}]})",
                "messages[0].prefix"},
           Case{R"({"model":"m","messages":[{"role":"assistant","content":"a","prefix":true}]})",
                "messages[0].prefix"},
           Case{R"({"model":"m","messages":[{"role":"user","content":"a"},
                {"role":"assistant","content":"a","prefix":"yes"}]})",
                "messages[1].prefix"},
           Case{R"({"model":"m","messages":[{"role":"user","content":"a"},
                {"role":"assistant","content":"a","prefix":true,"tool_calls":[{"id":"i",
                "function":{"name":"f","arguments":"{}"}}]}]})",
                "messages[1].prefix", FailureCode::kUnsupported},
           Case{R"({"model":"m","messages":[{"role":"user","content":"a"}],
                "continue_final_message":true})",
                "continue_final_message"},
           Case{R"({"model":"m","messages":[{"role":"user","content":"a"},
                {"role":"assistant","content":"a"}],"continue_final_message":true,
                "add_generation_prompt":true})",
                "add_generation_prompt"},
       }) {
    const Failure failure = MustFail(c.body);
    EXPECT_EQ(failure.param, c.param);
    EXPECT_EQ(failure.code, c.code) << c.param;
  }
}

}  // namespace
}  // namespace tandem::gateway::openai
