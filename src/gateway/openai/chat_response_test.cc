#include "gateway/openai/chat_response.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <boost/json.hpp>

namespace tandem::gateway::openai {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const AnswerHead kHead{"chatcmpl-1", 1700000000, "demo"};
const RouteInfo kRoute{"req-1", "phi-4-mini", "demo", Tier::kDeviceSmall, "only_candidate"};

AnswerEnd End(FinishReason reason, bool has_tool_calls = false) {
  return AnswerEnd{reason, has_tool_calls, Usage{7, 3, 2}, 1.5, 20.25};
}

std::vector<TokenLogprob> SomeLogprobs() {
  return {{"Hi", -0.25F, {{"Hi", -0.25F}, {"\xE2\x82", -1.5F}}}};
}

constexpr std::string_view kLogprobsJson =
    R"({"content":[{"token":"Hi","logprob":-0.25,"bytes":[72,105],"top_logprobs":[)"
    R"({"token":"Hi","logprob":-0.25,"bytes":[72,105]},)"
    "{\"token\":\"\xEF\xBF\xBD\",\"logprob\":-1.5,\"bytes\":[226,130]}]}],\"refusal\":null}";

constexpr std::string_view kUsageJson =
    R"({"prompt_tokens":7,"completion_tokens":3,"total_tokens":10,)"
    R"("prompt_tokens_details":{"cached_tokens":2}})";

constexpr std::string_view kRouteJson =
    R"({"request_id":"req-1","tier":"device_small","model":"demo","requested_model":"phi-4-mini",)"
    R"("route_reason":"only_candidate","privacy":"any","attempts":[],)"
    R"("ttft_ms":1.500,"e2e_ms":20.250})";

// Two providers wrote it: the seam is between their bytes.
TEST(CompletionBodyTest, AttemptsSayWhoWroteWhichBytes) {
  AnswerEnd end = End(FinishReason::kStop);
  end.attempts = {{.target = "small",
                   .model = "demo",
                   .tier = Tier::kDeviceSmall,
                   .reason = "simple",
                   .outcome = AttemptOutcome::kHandedOff,
                   .failure = FailureCode::kOutputValidationFailed,
                   .detail = "not for clients",
                   .usage = {7, 20, 0},
                   .text_begin = 0,
                   .text_end = 41},
                  {.target = "cloud",
                   .model = "big",
                   .tier = Tier::kCloud,
                   .reason = "fallback",
                   .outcome = AttemptOutcome::kAnswered,
                   .usage = {30, 5, 0},
                   .text_begin = 41,
                   .text_end = 60}};
  const std::string body = CompletionBody({kHead, "x", {}, {}, end, kRoute});
  EXPECT_THAT(body,
              HasSubstr(R"("attempts":[{"target":"small","model":"demo","tier":"device_small",)"
                        R"("reason":"simple","outcome":"handed_off",)"
                        R"("code":"OUTPUT_VALIDATION_FAILED","text":[0,41],"prompt_tokens":7,)"
                        R"("completion_tokens":20},{"target":"cloud","model":"big",)"
                        R"("tier":"cloud","reason":"fallback","outcome":"answered",)"
                        R"("text":[41,60],"prompt_tokens":30,"completion_tokens":5}])"));
  EXPECT_THAT(body, Not(HasSubstr("not for clients")));
}

TEST(FinishReasonTest, EveryReasonHasItsName) {
  EXPECT_EQ(FinishReasonName(End(FinishReason::kStop)), "stop");
  EXPECT_EQ(FinishReasonName(End(FinishReason::kStop, true)), "tool_calls");
  EXPECT_EQ(FinishReasonName(End(FinishReason::kLength)), "length");
  EXPECT_EQ(FinishReasonName(End(FinishReason::kLength, true)), "length");
  EXPECT_EQ(FinishReasonName(End(FinishReason::kContentFilter)), "content_filter");
}

TEST(CompletionBodyTest, PlainAnswerIsExactlyOpenAisObject) {
  EXPECT_EQ(CompletionBody({kHead, "Hi \"you\"\n", {}, {}, End(FinishReason::kStop), {}}),
            R"({"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"demo",)"
            R"("choices":[{"index":0,"message":{"role":"assistant","content":"Hi \"you\"\n",)"
            R"("refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":)" +
                std::string(kUsageJson) + "}");
}

TEST(CompletionBodyTest, CallsLogprobsAndRouteAppearWhereTheyWereAskedFor) {
  const std::string body = CompletionBody({kHead,
                                           "",
                                           {{"call_a", "f", R"({"x":1})"}, {"call_b", "g", "{}"}},
                                           SomeLogprobs(),
                                           End(FinishReason::kStop, true),
                                           kRoute});
  EXPECT_THAT(body, HasSubstr(R"("content":null,"refusal":null,"tool_calls":[)"
                              R"({"id":"call_a","type":"function","function":)"
                              R"({"name":"f","arguments":"{\"x\":1}"}},)"
                              R"({"id":"call_b","type":"function","function":)"
                              R"({"name":"g","arguments":"{}"}}]},)"));
  EXPECT_THAT(body, HasSubstr("\"logprobs\":" + std::string(kLogprobsJson)));
  EXPECT_THAT(body, HasSubstr(R"("finish_reason":"tool_calls")"));
  EXPECT_THAT(body, HasSubstr("\"tandem\":" + std::string(kRouteJson)));
  EXPECT_NO_THROW(boost::json::parse(body));
}

TEST(CompletionBodyTest, EmptyAnswerIsAnEmptyStringNotNull) {
  EXPECT_THAT(CompletionBody({kHead, "", {}, {}, End(FinishReason::kLength), {}}),
              HasSubstr(R"("content":"")"));
}

TEST(ChunkStreamTest, BytesOfAWholeStream) {
  auto stream = NewChunkStream(kHead, {});
  const std::string prefix =
      R"(data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,)"
      R"("model":"demo","choices":[{"index":0,"delta":)";
  EXPECT_EQ(stream->Start(),
            prefix +
                R"({"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]})" +
                "\n\n");
  EXPECT_EQ(stream->Text("Hi\n", SomeLogprobs()),
            prefix + R"({"content":"Hi\n"},"logprobs":null,"finish_reason":null}]})" + "\n\n");
  EXPECT_EQ(stream->Call({"call_a", "f", "{}"}),
            prefix + R"({"tool_calls":[{"index":0,"id":"call_a","type":"function","function":)"
                     R"({"name":"f","arguments":"{}"}}]},"logprobs":null,"finish_reason":null}]})"
                     "\n\n");
  EXPECT_THAT(stream->Call({"call_b", "g", "{}"}), HasSubstr(R"([{"index":1,"id":"call_b")"));
  EXPECT_EQ(
      stream->End(End(FinishReason::kStop, true)),
      prefix + R"({},"logprobs":null,"finish_reason":"tool_calls"}]})" + "\n\ndata: [DONE]\n\n");
}

TEST(ChunkStreamTest, UsageIsNullInEveryChunkButTheOneBeforeDone) {
  auto stream = NewChunkStream(kHead, {.include_usage = true, .logprobs = false, .route = {}});
  EXPECT_THAT(stream->Start(), ::testing::EndsWith("],\"usage\":null}\n\n"));
  EXPECT_THAT(stream->Text("a", {}), ::testing::EndsWith("],\"usage\":null}\n\n"));
  const std::string end = stream->End(End(FinishReason::kStop));
  EXPECT_THAT(end, HasSubstr("\"finish_reason\":\"stop\"}],\"usage\":null}\n\ndata: {"));
  EXPECT_THAT(end, ::testing::EndsWith("\"choices\":[],\"usage\":" + std::string(kUsageJson) +
                                       "}\n\ndata: [DONE]\n\n"));
}

TEST(ChunkStreamTest, LogprobsAndRouteWhereAskedFor) {
  auto stream = NewChunkStream(kHead, {.include_usage = true, .logprobs = true, .route = kRoute});
  EXPECT_THAT(stream->Start(), HasSubstr("\"logprobs\":null"));
  EXPECT_THAT(stream->Text("Hi", SomeLogprobs()),
              HasSubstr("\"logprobs\":" + std::string(kLogprobsJson)));
  EXPECT_THAT(stream->End(End(FinishReason::kLength)),
              HasSubstr("\"usage\":null,\"tandem\":" + std::string(kRouteJson) + "}\n\n"));
}

TEST(ChunkStreamTest, FailureIsAnErrorObjectWithoutDone) {
  auto stream = NewChunkStream(kHead, {});
  stream->Start();
  const std::string bytes = stream->Fail({FailureCode::kInternal, "broke"});
  EXPECT_EQ(bytes,
            "data: {\"error\":{\"message\":\"broke\",\"type\":\"server_error\","
            "\"code\":\"internal_error\",\"param\":null}}\n\n");
}

TEST(LineStreamTest, BytesOfAWholeStream) {
  auto stream = NewLineStream(kHead, {});
  EXPECT_EQ(stream->Start(), "");
  EXPECT_EQ(stream->Text("Hi\n\xE2\x80\xA8", SomeLogprobs()),
            "data: {\"content\":\"Hi\\n\\u2028\",\"done\":false}\n\n");
  EXPECT_EQ(stream->Call({"call_a", "f", "{}"}),
            "data: {\"content\":\"\",\"tool_calls\":[{\"id\":\"call_a\",\"type\":\"function\","
            "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}],\"done\":false}\n\n");
  EXPECT_EQ(
      stream->End(End(FinishReason::kStop)),
      "data: {\"content\":\"\",\"done\":true,\"finish_reason\":\"stop\",\"id\":\"chatcmpl-1\","
      "\"model\":\"demo\",\"usage\":" +
          std::string(kUsageJson) + "}\n\n");
}

TEST(LineStreamTest, FailureEndsTheStreamInBand) {
  auto stream = NewLineStream(kHead, {});
  EXPECT_EQ(
      stream->Fail({FailureCode::kOutOfMemory, "wants 2 bytes, 1 available"}),
      "data: {\"error\":{\"message\":\"wants 2 bytes, 1 available\",\"type\":\"server_error\","
      "\"code\":\"OUT_OF_MEMORY\",\"param\":null},\"content\":\"\",\"done\":true}\n\n");
}

TEST(LineStreamTest, RouteIsInTheLastEventOnly) {
  auto stream = NewLineStream(kHead, {.include_usage = false, .logprobs = false, .route = kRoute});
  EXPECT_THAT(stream->Text("a", {}), Not(HasSubstr("tandem")));
  EXPECT_THAT(stream->End(End(FinishReason::kStop)),
              HasSubstr("\"tandem\":" + std::string(kRouteJson)));
}

}  // namespace
}  // namespace tandem::gateway::openai
