#include "gateway/upstream/upstream_error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <boost/json.hpp>

namespace tandem::gateway::upstream {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::Not;

Failure Read(int status, std::string_view body, const net::Headers& headers = {}) {
  return FailureFromStatus(status, headers, body, "u", SystemTime(std::chrono::seconds(784111777)));
}

struct Case {
  const char* what;
  int status;
  std::string_view body;
  FailureCode code;
};

constexpr Case kCases[] = {
    {"OpenAI, wrong request", 400,
     R"({"error":{"message":"m","type":"invalid_request_error","param":null,"code":null}})",
     FailureCode::kInvalidRequest},
    {"OpenAI, wrong key", 401,
     R"({"error":{"message":"m","type":"invalid_request_error","code":"invalid_api_key"}})",
     FailureCode::kCredentialRejected},
    {"OpenAI, country", 403, R"({"error":{"message":"m","code":"unsupported_country"}})",
     FailureCode::kCredentialRejected},
    {"OpenAI, too fast", 429,
     R"({"error":{"message":"m","type":"requests","code":"rate_limit_exceeded"}})",
     FailureCode::kRateLimited},
    {"OpenAI, money spent", 429,
     R"({"error":{"message":"m","type":"insufficient_quota","code":"insufficient_quota"}})",
     FailureCode::kQuotaExhausted},
    {"OpenAI, too long", 400,
     R"({"error":{"message":"m","type":"x","code":"context_length_exceeded"}})",
     FailureCode::kContextLengthExceeded},
    {"OpenAI, broken", 500, R"({"error":{"message":"m","type":"server_error"}})",
     FailureCode::kUnavailable},
    {"DeepSeek, money spent", 402,
     R"({"error":{"message":"Insufficient Balance","type":"unknown_error"}})",
     FailureCode::kQuotaExhausted},
    {"DeepSeek, wrong key", 401,
     R"({"error":{"message":"Authentication Fails","type":"authentication_error"}})",
     FailureCode::kCredentialRejected},
    {"DeepSeek, wrong parameter", 422, R"({"error":{"message":"m"}})",
     FailureCode::kInvalidRequest},
    {"DeepSeek, overloaded", 503, "", FailureCode::kUnavailable},
    {"vLLM before the envelope", 400,
     R"({"object":"error","message":"This model's maximum context length is 4096 tokens.",
         "type":"BadRequestError","param":null,"code":400})",
     FailureCode::kContextLengthExceeded},
    {"llama.cpp, too long", 400,
     R"({"error":{"code":400,"message":"m","type":"exceed_context_size_error"}})",
     FailureCode::kContextLengthExceeded},
    {"Ollama, a sentence", 500, R"({"error":"llama runner process has terminated"})",
     FailureCode::kUnavailable},
    {"Gemini, too fast", 429,
     R"([{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED"}}])",
     FailureCode::kRateLimited},
    {"Gemini, wrong key", 400,
     R"([{"error":{"code":400,"message":"API key not valid. Pass a valid API key.",
         "status":"INVALID_ARGUMENT"}}])",
     FailureCode::kCredentialRejected},
    {"Anthropic, money spent", 400,
     R"({"type":"error","error":{"type":"invalid_request_error",
         "message":"Your credit balance is too low to access the Anthropic API."}})",
     FailureCode::kQuotaExhausted},
    {"Anthropic, overloaded", 529,
     R"({"type":"error","error":{"type":"overloaded_error","message":"m"}})",
     FailureCode::kUnavailable},
    {"Tandem, no memory", 503,
     R"({"error":{"message":"m","type":"server_error","code":"OUT_OF_MEMORY"}})",
     FailureCode::kOutOfMemory},
    {"Tandem, degenerate", 502,
     R"({"error":{"message":"m","type":"server_error","code":"OUTPUT_VALIDATION_FAILED"}})",
     FailureCode::kOutputValidationFailed},
    {"Tandem, may not leave it", 403,
     R"({"error":{"message":"m","type":"permission_error","code":"privacy_refused"}})",
     FailureCode::kUnavailable},
    {"too large", 413, "<html>", FailureCode::kPayloadTooLarge},
    {"no such path", 404, "", FailureCode::kUnavailable},
    {"a redirect", 302, "", FailureCode::kUnavailable},
    {"hostile: not JSON", 400, "{", FailureCode::kInvalidRequest},
    {"hostile: other types", 400, R"({"error":[1,{"message":5,"code":{}}]})",
     FailureCode::kInvalidRequest},
    {"hostile: nothing", 500, "[]", FailureCode::kUnavailable},
};

TEST(UpstreamErrorTest, StatusAndBodySayWhatARefusalMeans) {
  for (const Case& c : kCases) EXPECT_EQ(Read(c.status, c.body).code, c.code) << c.what;
}

TEST(UpstreamErrorTest, AHostileBodyIsNoTrouble) {
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += "{\"error\":";
  EXPECT_EQ(Read(500, deep).code, FailureCode::kUnavailable);
  EXPECT_LT(
      Read(400, R"({"error":{"message":")" + std::string(60'000, 'x') + R"("}})").message.size(),
      1000u);
  // Cut inside a code point.
  std::string euros;
  for (int i = 0; i < 200; ++i) euros += "\xE2\x82\xAC";
  const std::string message = Read(400, R"({"error":{"message":"a)" + euros + R"("}})").message;
  EXPECT_THAT(message, HasSubstr("\xE2\x82\xAC"));
}

TEST(UpstreamErrorTest, WordsAboutOurAccountAreNotPassedOn) {
  constexpr std::string_view kBody = R"({"error":{"message":"secret account detail"}})";
  for (const int status : {400, 413, 422}) {
    EXPECT_THAT(Read(status, kBody).message, HasSubstr("secret account detail")) << status;
  }
  for (const int status : {401, 402, 403, 404, 429, 500, 503, 302}) {
    EXPECT_THAT(Read(status, kBody).message, Not(HasSubstr("secret"))) << status;
    EXPECT_THAT(Read(status, kBody).message, HasSubstr("u")) << status;
  }
}

TEST(UpstreamErrorTest, WhenToTryAgainIsReadInEveryForm) {
  const auto after = [](net::Headers headers, std::string_view body = "") {
    return Read(429, body, headers).retry_after;
  };
  EXPECT_EQ(after({}), std::nullopt);
  EXPECT_EQ(after({{"Retry-After", "7"}}), milliseconds(7000));
  // 784111777 is RFC 9110's example: Sun, 06 Nov 1994 08:49:37 GMT.
  EXPECT_EQ(after({{"Retry-After", "Sun, 06 Nov 1994 08:50:07 GMT"}}), milliseconds(30'000));
  EXPECT_EQ(after({{"Retry-After", "Sun, 06 Nov 1994 08:00:00 GMT"}}), milliseconds(0));
  EXPECT_EQ(after({{"Retry-After", "soon"}}), std::nullopt);
  EXPECT_EQ(after({{"Retry-After", "-3"}}), std::nullopt);
  EXPECT_EQ(after({{"retry-after-ms", "250"}, {"Retry-After", "7"}}), milliseconds(250));
  EXPECT_EQ(after({{"retry-after-ms", "x"}, {"Retry-After", "7"}}), milliseconds(7000));
  constexpr std::string_view kGoogle =
      R"([{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED","details":[{"@type":"x"},
         {"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1.5s"}]}}])";
  EXPECT_EQ(after({}, kGoogle), milliseconds(1500));
  EXPECT_EQ(after({{"Retry-After", "7"}}, kGoogle), milliseconds(7000));
  for (const char* wrong : {"1.5", "s", "-1s", "1e300s", "nans", "infs", ""}) {
    const std::string body =
        std::string(R"({"error":{"details":[{"retryDelay":")") + wrong + R"("}]}})";
    EXPECT_EQ(after({}, body), std::nullopt) << wrong;
  }
  // Any refusal may say so.
  EXPECT_EQ(Read(503, "", {{"Retry-After", "2"}}).retry_after, milliseconds(2000));
}

TEST(UpstreamErrorTest, AnErrorInAStreamIsReadByItsCodes) {
  const auto read = [](std::string_view text) {
    return FailureFromObject(boost::json::parse(text));
  };
  EXPECT_EQ(read(R"({"message":"m","code":"insufficient_quota"})").code,
            FailureCode::kQuotaExhausted);
  EXPECT_EQ(read(R"({"message":"m","code":"OUT_OF_MEMORY"})").code, FailureCode::kOutOfMemory);
  const Failure unknown = read(R"({"message":"overloaded","code":"?"})");
  EXPECT_EQ(unknown.code, FailureCode::kUnavailable);
  EXPECT_THAT(unknown.message, HasSubstr("overloaded"));
  EXPECT_THAT(read("7").message, HasSubstr("no reason"));
}

}  // namespace
}  // namespace tandem::gateway::upstream
