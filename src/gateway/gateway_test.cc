#include "gateway/gateway.h"

#include <cstdlib>
#include <filesystem>
#include <map>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <boost/json.hpp>

#include "base/log.h"
#include "gateway/auth/fake_key_store.h"
#include "gateway/dispatch/testing/fake_target_source.h"
#include "gateway/provider/fake_provider.h"
#include "gateway/relay/fake_timers.h"
#include "gateway/testing/fake_http_response.h"

namespace tandem::gateway {
namespace {

using ::testing::EndsWith;
using testing::FakeHttpResponse;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;
using ::testing::StartsWith;

class FakeDirectory final : public ModelDirectory {
 public:
  std::vector<Model> List() override { return models; }
  Result<Memory> ReadMemory() override { return memory; }

  std::vector<Model> models;
  Result<Memory> memory = Memory{};
};

class GatewayTest : public ::testing::Test {
 protected:
  void SetUp() override {
    log::SetLevel(log::Level::kOff);  // a line an answer
    std::string name = (std::filesystem::temp_directory_path() / "gateway_XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_path_ = name;
    auto keys = auth::KeyRing::Open(&store_, directory_path_ / "pepper", &clock_);
    ASSERT_TRUE(keys.has_value());
    keys_ = *std::move(keys);
    auto created = keys_->Create("test");
    ASSERT_TRUE(created.has_value());
    key_ = created->text;
    source_.providers["demo"] = provider_;
    dispatcher_ = dispatch::Dispatcher::Create({.clock = &clock_,
                                                .timers = &timers_,
                                                .targets = &source_,
                                                .random = [] { return 0.5; }},
                                               Table())
                      .value();
    directory_.models = {{"demo", 1700000000, "tandem"}, {"hf.co/a/b:Q4_0", 1700000001, "a"}};
    MakeGateway({});
  }
  // Ends what a test leaves running. A provider that stops unasked is tried again first.
  void EndAll(FakeProvider& provider) {
    for (int retry = 0; retry < 4; ++retry) {
      provider.FinishAll();
      timers_.Advance(std::chrono::seconds(10));
    }
  }
  void TearDown() override {
    EndAll(*provider_);
    std::filesystem::remove_all(directory_path_);
  }

  // No tier of its own strategy is here; tests name the model.
  static dispatch::RoutingTable Table() {
    Strategy strategy{.name = "three-tier"};
    strategy.targets = {{.id = "small", .model = "phi-4-mini", .tier = Tier::kDeviceSmall}};
    return {.digest = "test", .strategies = {{.strategy = std::move(strategy)}}};
  }

  void MakeGateway(GatewayOptions options) {
    options.version = "1.2.3";
    gateway_ =
        std::make_unique<Gateway>(std::move(options), GatewayParts{.models = &directory_,
                                                                   .dispatcher = dispatcher_.get(),
                                                                   .keys = keys_.get(),
                                                                   .clock = &clock_,
                                                                   .timers = &timers_});
  }

  net::HttpRequest Request(std::string_view method, std::string_view path, std::string body = {}) {
    net::HttpRequest request;
    request.method = method;
    request.path = path;
    request.body = std::move(body);
    request.headers.Add("Authorization", "Bearer " + key_);
    return request;
  }
  std::shared_ptr<FakeHttpResponse> Send(net::HttpRequest request,
                                         size_t capacity = static_cast<size_t>(-1)) {
    auto response = std::make_shared<FakeHttpResponse>(capacity);
    gateway_->Handle(std::move(request), response);
    return response;
  }
  std::shared_ptr<FakeHttpResponse> Get(std::string_view path) {
    return Send(Request("GET", path));
  }
  // A chat with `fields` (",\"stream\":true") added to the body.
  std::shared_ptr<FakeHttpResponse> Chat(std::string_view fields = "",
                                         std::string_view path = "/v1/chat/completions",
                                         size_t capacity = static_cast<size_t>(-1)) {
    return Send(Request("POST", path,
                        fmt::format(R"({{"model":"demo","messages":[{{"role":"user",)"
                                    R"("content":"hi"}}]{}}})",
                                    fields)),
                capacity);
  }
  static std::string ErrorField(const FakeHttpResponse& response, std::string_view field) {
    const boost::json::value body = boost::json::parse(response.body());
    const boost::json::value& value = body.at("error").at(field);
    return value.is_null() ? "" : std::string(value.as_string());
  }
  FakeProvider::Call& call() { return *provider_->last_call(); }

  static Finished Done(FinishReason reason = FinishReason::kStop) {
    return Finished{reason, Usage{5, 2, 1}, 3.0, 9.0, ""};
  }

  FakeClock clock_;
  auth::FakeKeyStore store_;
  std::filesystem::path directory_path_;
  std::unique_ptr<auth::KeyRing> keys_;
  std::string key_;
  std::shared_ptr<FakeProvider> provider_ = std::make_shared<FakeProvider>("demo-int4");
  FakeDirectory directory_;
  dispatch::FakeTargetSource source_;
  relay::FakeTimers timers_{&clock_};
  std::unique_ptr<dispatch::Dispatcher> dispatcher_;
  std::unique_ptr<Gateway> gateway_;
};

// --- routes, keys, headers

TEST_F(GatewayTest, CallsAboutDevicesNeedAnAdvisorAndPost) {
  for (const char* path : {"/v1/models/compatibility-check", "/v1/models/npu-compatibility"}) {
    EXPECT_EQ(Send(Request("POST", path, "{}"))->status(), 404);
    EXPECT_EQ(Get(path)->status(), 405);
  }
}

TEST_F(GatewayTest, HealthReadinessAndVersionNeedNoKey) {
  for (const auto& [path, body] :
       {std::pair{"/healthz", R"({"status":"ok"})"}, std::pair{"/readyz", R"({"status":"ready"})"},
        std::pair{"/version", R"({"version":"1.2.3"})"}}) {
    net::HttpRequest request = Request("GET", path);
    request.headers.Remove("Authorization");
    const auto response = Send(request);
    EXPECT_EQ(response->status(), 200);
    EXPECT_EQ(response->body(), body);
    EXPECT_EQ(response->header("content-type"), "application/json");
    request.method = "POST";
    EXPECT_EQ(Send(request)->status(), 405);
  }
}

TEST_F(GatewayTest, EverythingUnderV1NeedsAValidKey) {
  for (const char* path : {"/v1/models", "/v1/models/demo", "/v1/chat/completions",
                           "/v1/chat/streaming", "/v1/device/memory-status", "/v1/nothing"}) {
    for (const std::string& value : {std::string(), "Bearer " + key_ + "x", std::string("Bearer"),
                                     std::string("Bearer "), "Basic " + key_, key_}) {
      net::HttpRequest request = Request("GET", path);
      request.headers.Set("Authorization", value);
      const auto response = Send(request);
      EXPECT_EQ(response->status(), 401) << path << " " << value;
      EXPECT_EQ(ErrorField(*response, "code"), "invalid_api_key");
      EXPECT_EQ(response->header("www-authenticate"), "Bearer realm=\"tandem\"");
    }
  }
  net::HttpRequest request = Request("GET", "/v1/models");
  request.headers.Set("Authorization", "bearer  " + key_ + " ");
  EXPECT_EQ(Send(request)->status(), 200);
  EXPECT_TRUE(provider_->calls().empty());
}

TEST_F(GatewayTest, BrokenKeyStoreIsAServerError) {
  store_.FailWith(Error{ErrorCode::kIo, "disk gone", ""});
  const auto response = Get("/v1/models");
  EXPECT_EQ(response->status(), 500);
  EXPECT_EQ(response->header("www-authenticate"), "");
}

TEST_F(GatewayTest, UnknownPathsAndWrongMethodsAnswerInTheErrorShape) {
  for (const char* path : {"/", "/v1/nothing", "/v2/models", "/v1/chat/completions/"}) {
    const auto response = Get(path);
    EXPECT_EQ(response->status(), 404) << path;
    EXPECT_EQ(ErrorField(*response, "code"), "not_found");
  }
  const auto response = Get("/v1/chat/completions");
  EXPECT_EQ(response->status(), 405);
  EXPECT_EQ(response->header("allow"), "POST");
  EXPECT_EQ(ErrorField(*response, "code"), "method_not_allowed");
  EXPECT_EQ(Send(Request("DELETE", "/v1/models"))->header("allow"), "GET, HEAD");
  EXPECT_EQ(Send(Request("HEAD", "/healthz"))->status(), 200);
  EXPECT_EQ(Send(Request("HEAD", "/v1/chat/completions"))->status(), 405);
}

TEST_F(GatewayTest, RequestIdIsTakenWhenSaneAndMadeOtherwise) {
  net::HttpRequest request = Request("GET", "/healthz");
  request.headers.Set("X-Request-Id", "trace:42.a-b_c");
  EXPECT_EQ(Send(request)->header("x-request-id"), "trace:42.a-b_c");
  for (const std::string& bad : {std::string("a b"), std::string("a\"b"), std::string(129, 'a')}) {
    request.headers.Set("X-Request-Id", bad);
    EXPECT_THAT(Send(request)->header("x-request-id"), MatchesRegex("req-[0-9a-f]{32}"));
  }
  EXPECT_NE(Get("/healthz")->header("x-request-id"), Get("/healthz")->header("x-request-id"));
}

TEST_F(GatewayTest, CorsIsOffUntilAnOriginIsGiven) {
  EXPECT_EQ(Get("/healthz")->header("access-control-allow-origin"), "");
  EXPECT_EQ(Send(Request("OPTIONS", "/healthz"))->status(), 405);
  MakeGateway({.version = "", .body = {}, .cors_allow_origin = "https://app.example"});
  EXPECT_EQ(Get("/healthz")->header("access-control-allow-origin"), "https://app.example");
  const auto preflight = Send(Request("OPTIONS", "/v1/chat/completions"));
  EXPECT_EQ(preflight->status(), 204);
  EXPECT_EQ(preflight->header("access-control-allow-headers"),
            "authorization, content-type, x-request-id");
}

// --- models and memory

TEST_F(GatewayTest, ModelsAreListedAndLookedUp) {
  EXPECT_EQ(Get("/v1/models")->body(),
            R"({"object":"list","data":[)"
            R"({"id":"demo","object":"model","created":1700000000,"owned_by":"tandem"},)"
            R"({"id":"hf.co/a/b:Q4_0","object":"model","created":1700000001,"owned_by":"a"}]})");
  EXPECT_EQ(Get("/v1/models/demo")->body(),
            R"({"id":"demo","object":"model","created":1700000000,"owned_by":"tandem"})");
  EXPECT_EQ(Get("/v1/models/hf.co%2Fa%2Fb:Q4_0")->status(), 200);
  EXPECT_EQ(Get("/v1/models/hf.co/a/b:Q4_0")->status(), 200);
  for (const char* path : {"/v1/models/nope", "/v1/models/", "/v1/models/%zz"}) {
    EXPECT_EQ(Get(path)->status(), 404) << path;
    EXPECT_EQ(ErrorField(*Get(path), "code"), "model_not_found");
  }
  directory_.models.clear();
  EXPECT_EQ(Get("/v1/models")->body(), R"({"object":"list","data":[]})");
}

TEST_F(GatewayTest, MemoryStatusHasTheContractsFields) {
  directory_.memory = ModelDirectory::Memory{.available_bytes = 3ULL << 30,
                                             .total_bytes = 8ULL << 30,
                                             .limit_bytes = 4ULL << 30,
                                             .weights_bytes = 1'572'864,
                                             .kv_cache_bytes = 0};
  EXPECT_EQ(Get("/v1/device/memory-status")->body(),
            R"({"available_mb":3072.0,"total_mb":8192.0,"limit_mb":4096.0,"weights_mb":1.5,)"
            R"("kv_cache_mb":0.0})");
  directory_.memory = Err(ErrorCode::kIo, "no /proc");
  EXPECT_EQ(Get("/v1/device/memory-status")->status(), 500);
}

// --- chat, whole answers

TEST_F(GatewayTest, WholeAnswerCarriesTextUsageAndRoute) {
  const auto response = Chat(R"(,"temperature":0.5,"tandem":true)");
  EXPECT_EQ(response->status(), 0);
  EXPECT_EQ(gateway_->n_in_flight(), 1);
  EXPECT_EQ(call().request().messages, (std::vector<Message>{{"user", "hi", "", {}, ""}}));
  EXPECT_EQ(call().request().sampling.temperature, 0.5F);
  call().EmitText("Hel");
  call().EmitText("lo");
  EXPECT_EQ(response->status(), 0);
  call().Emit(Done());
  ASSERT_EQ(response->status(), 200);
  EXPECT_EQ(response->header("content-type"), "application/json");
  EXPECT_EQ(response->header("x-request-id"), call().request().request_id);
  EXPECT_EQ(response->header("x-tandem-tier"), "device_small");
  EXPECT_EQ(response->header("x-tandem-model"), "demo-int4");
  EXPECT_EQ(response->header("x-tandem-route-reason"), "explicit_model");
  const boost::json::value body = boost::json::parse(response->body());
  EXPECT_THAT(std::string(body.at("id").as_string()), MatchesRegex("chatcmpl-[0-9a-f]{32}"));
  EXPECT_EQ(body.at("model"), "demo-int4");
  EXPECT_EQ(body.at("created"), UnixSeconds(clock_.SystemNow()));
  EXPECT_EQ(body.at("choices").at(0).at("message").at("content"), "Hello");
  EXPECT_EQ(body.at("choices").at(0).at("finish_reason"), "stop");
  EXPECT_EQ(body.at("usage").at("total_tokens"), 7);
  EXPECT_EQ(body.at("tandem").at("requested_model"), "demo");
  EXPECT_EQ(body.at("tandem").at("request_id").as_string(), response->header("x-request-id"));
  EXPECT_EQ(gateway_->n_in_flight(), 0);
  EXPECT_TRUE(call().released());
}

TEST_F(GatewayTest, AnswerThatEndsInsideStartIsDelivered) {
  provider_->SetScript({TextDelta{"now", {}}, Done(FinishReason::kLength)});
  const auto response = Chat();
  EXPECT_EQ(response->status(), 200);
  EXPECT_THAT(response->body(), HasSubstr(R"("finish_reason":"length")"));
  EXPECT_TRUE(call().released());
  EXPECT_EQ(gateway_->n_in_flight(), 0);
}

TEST_F(GatewayTest, LogprobsOfEveryTokenAreDelivered) {
  const auto response = Chat(R"(,"logprobs":true,"top_logprobs":1)");
  EXPECT_EQ(call().request().top_logprobs, 1);
  call().Emit(TextDelta{"", {{"H", -0.5F, {}}}});
  call().Emit(TextDelta{"Hi", {{"i", -0.25F, {{"i", -0.25F}}}}});
  call().Emit(Done());
  const boost::json::value body = boost::json::parse(response->body());
  const auto& content = body.at("choices").at(0).at("logprobs").at("content").as_array();
  ASSERT_EQ(content.size(), 2u);
  EXPECT_EQ(content[1].at("top_logprobs").at(0).at("token"), "i");
}

TEST_F(GatewayTest, CallsAreFoundInTheTextOnlyWhereToolsWereGiven) {
  constexpr std::string_view kText =
      R"(<|tool_call|>[{"name":"f","arguments":{"a":1}},{"name":"g"}]<|/tool_call|>)";
  constexpr std::string_view kTools = R"(,"tools":[{"type":"function","function":{"name":"f"}}])";
  const auto run = [&](const std::string& fields) {
    const auto response = Chat(fields);
    call().EmitText(std::string(kText));
    call().Emit(Done());
    return boost::json::parse(response->body()).at("choices").at(0);
  };
  const boost::json::value with = run(std::string(kTools));
  EXPECT_EQ(with.at("finish_reason"), "tool_calls");
  EXPECT_TRUE(with.at("message").at("content").is_null());
  const auto& calls = with.at("message").at("tool_calls").as_array();
  ASSERT_EQ(calls.size(), 2u);
  EXPECT_EQ(calls[0].at("function").at("arguments"), R"({"a":1})");
  EXPECT_THAT(std::string(calls[0].at("id").as_string()), MatchesRegex("call_[0-9a-f]{32}_0"));
  EXPECT_THAT(std::string(calls[1].at("id").as_string()), EndsWith("_1"));

  const boost::json::value one = run(std::string(kTools) + R"(,"parallel_tool_calls":false)");
  EXPECT_EQ(one.at("message").at("tool_calls").as_array().size(), 1u);

  const boost::json::value without = run("");
  EXPECT_EQ(without.at("message").at("content").as_string(), kText);
  EXPECT_EQ(without.at("finish_reason"), "stop");
}

// --- chat, errors before the first byte

TEST_F(GatewayTest, BadBodyNamesTheFieldAndStartsNothing) {
  const auto response = Chat(R"(,"temperature":"hot")");
  EXPECT_EQ(response->status(), 400);
  EXPECT_EQ(ErrorField(*response, "param"), "temperature");
  EXPECT_EQ(Send(Request("POST", "/v1/chat/completions", std::string(100'000, '[')))->status(),
            400);
  EXPECT_TRUE(provider_->calls().empty());
  EXPECT_EQ(gateway_->n_in_flight(), 0);
}

TEST_F(GatewayTest, UnknownAndAbsentModelsHaveTheirCodes) {
  const auto body = [](std::string_view model) {
    return fmt::format(R"({{"model":"{}","messages":[{{"role":"user","content":"x"}}]}})", model);
  };
  const auto unknown = Send(Request("POST", "/v1/chat/completions", body("gpt-99")));
  EXPECT_EQ(unknown->status(), 404);
  EXPECT_EQ(ErrorField(*unknown, "code"), "model_not_found");
  EXPECT_EQ(ErrorField(*unknown, "param"), "model");
  const auto absent = Send(Request("POST", "/v1/chat/streaming", body("absent")));
  EXPECT_EQ(absent->status(), 409);
  EXPECT_EQ(ErrorField(*absent, "code"), "model_not_installed");
  EXPECT_THAT(ErrorField(*absent, "message"), HasSubstr("tandem pull absent"));
}

TEST_F(GatewayTest, FailureBeforeTheFirstByteHasItsStatusInEveryForm) {
  for (const char* fields : {"", R"(,"stream":true)"}) {
    for (const char* path : {"/v1/chat/completions", "/v1/chat/streaming"}) {
      const auto response = Chat(fields, path);
      call().Emit(TextDelta{"", {}});
      call().Emit(Failed{{FailureCode::kOutOfMemory, "wants 9 bytes, 1 available"}});
      EXPECT_EQ(response->status(), 503);
      EXPECT_EQ(ErrorField(*response, "code"), "OUT_OF_MEMORY");
      EXPECT_EQ(response->header("content-type"), "application/json");
      EXPECT_EQ(response->header("x-tandem-model"), "demo-int4");
      EXPECT_FALSE(response->streaming());
    }
  }
}

TEST_F(GatewayTest, BusyProviderSaysWhenToComeBack) {
  const auto response = Chat();
  call().Emit(Failed{{FailureCode::kRateLimited, "queue full"}});
  EXPECT_EQ(response->status(), 0) << "it is tried again first";
  for (int retry = 0; retry < 2; ++retry) {
    timers_.Advance(std::chrono::seconds(8));
    call().Emit(Failed{{FailureCode::kRateLimited, "queue full"}});
  }
  EXPECT_EQ(response->status(), 429);
  EXPECT_EQ(response->header("retry-after"), "1");
  EXPECT_EQ(response->header("x-should-retry"), "false");
}

TEST_F(GatewayTest, OneAnswerTooManyIsRefusedUntilAPlaceIsFree) {
  MakeGateway({.version = "", .body = {}, .max_in_flight = 2, .cors_allow_origin = ""});
  const auto first = Chat();
  const auto first_call = provider_->last_call();
  const auto second = Chat();
  const auto third = Chat();
  EXPECT_EQ(third->status(), 429);
  EXPECT_EQ(third->header("retry-after"), "1");
  EXPECT_EQ(ErrorField(*third, "code"), "rate_limit_exceeded");
  EXPECT_EQ(provider_->calls().size(), 2u);
  first_call->Emit(Done());
  EXPECT_EQ(Chat()->status(), 0) << "running";
}

TEST_F(GatewayTest, DrainingRefusesNewChatsAndFinishesRunningOnes) {
  const auto running = Chat(R"(,"stream":true)");
  gateway_->Drain();
  const auto refused = Chat();
  EXPECT_EQ(refused->status(), 503);
  EXPECT_EQ(ErrorField(*refused, "code"), "server_shutting_down");
  EXPECT_EQ(refused->header("retry-after"), "1");
  EXPECT_EQ(Get("/readyz")->status(), 503);
  EXPECT_EQ(Get("/healthz")->status(), 200);
  EXPECT_EQ(Get("/v1/models")->status(), 200);
  call().EmitText("still");
  call().Emit(Done());
  EXPECT_TRUE(running->complete());
  EXPECT_THAT(running->body(), EndsWith("data: [DONE]\n\n"));
}

TEST_F(GatewayTest, LocalOnlyRequestNeverReachesACloudModel) {
  const auto cloud = std::make_shared<FakeProvider>("big", Tier::kCloud);
  source_.providers["demo"] = cloud;
  for (const char* fields : {R"(,"force_local_inference":true)", R"(,"local_inference":true)",
                             R"(,"privacy":"on_device")"}) {
    const auto response = Chat(fields);
    EXPECT_EQ(response->status(), 403);
    EXPECT_EQ(ErrorField(*response, "code"), "privacy_refused");
    EXPECT_EQ(ErrorField(*response, "param"), "model");
  }
  EXPECT_TRUE(cloud->calls().empty());
  Chat();
  EXPECT_EQ(cloud->calls().size(), 1u);
  EndAll(*cloud);
}

TEST_F(GatewayTest, LocalOnlyRequestIsServedLocally) {
  Chat(R"(,"force_local_inference":true)");
  EXPECT_TRUE(call().request().local_only);
}

// --- chat, streams

TEST_F(GatewayTest, ChunkStreamOpensWithTheRoleAndEndsWithDone) {
  const auto response = Chat(R"(,"stream":true,"stream_options":{"include_usage":true})");
  EXPECT_EQ(response->status(), 0) << "an error can still get its status";
  call().EmitText("Hel");
  ASSERT_EQ(response->status(), 200);
  EXPECT_EQ(response->header("content-type"), "text/event-stream; charset=utf-8");
  EXPECT_EQ(response->header("cache-control"), "no-cache");
  EXPECT_THAT(response->header("x-request-id"), StartsWith("req-"));
  EXPECT_THAT(response->body(), HasSubstr(R"("content":"Hel")"));
  EXPECT_FALSE(response->complete());
  call().EmitText("lo");
  call().Emit(Done());
  EXPECT_TRUE(response->complete());

  std::vector<std::string> kinds;
  const std::string body = response->body();
  for (size_t at = 0; at < body.size();) {
    const size_t end = body.find("\n\n", at);
    ASSERT_NE(end, std::string::npos);
    const std::string line = body.substr(at, end - at);
    ASSERT_THAT(line, StartsWith("data: "));
    at = end + 2;
    if (line == "data: [DONE]") {
      kinds.push_back("done");
      continue;
    }
    const boost::json::value chunk = boost::json::parse(line.substr(6));
    if (chunk.at("choices").as_array().empty()) {
      kinds.push_back("usage");
      continue;
    }
    const auto& choice = chunk.at("choices").at(0);
    const auto& delta = choice.at("delta").as_object();
    if (delta.contains("role")) {
      kinds.push_back("role");
    } else if (delta.contains("content")) {
      kinds.push_back("text " + std::string(delta.at("content").as_string()));
    } else {
      kinds.push_back("finish " + std::string(choice.at("finish_reason").as_string()));
    }
  }
  EXPECT_THAT(
      kinds, ::testing::ElementsAre("role", "text Hel", "text lo", "finish stop", "usage", "done"));
}

TEST_F(GatewayTest, LineStreamBytesAreExact) {
  const auto response = Chat(R"(,"stream":true,"memory_optimized":true)", "/v1/chat/streaming");
  EXPECT_TRUE(call().request().memory_optimized);
  call().EmitText("Hi");
  call().EmitText("\n");
  call().Emit(Done());
  EXPECT_TRUE(response->complete());
  const std::string body = response->body();
  const std::string expected_start =
      "data: {\"content\":\"Hi\",\"done\":false}\n\n"
      "data: {\"content\":\"\\n\",\"done\":false}\n\n"
      "data: {\"content\":\"\",\"done\":true,\"finish_reason\":\"stop\",\"id\":\"chatcmpl-";
  ASSERT_THAT(body, StartsWith(expected_start));
  EXPECT_EQ(body.substr(expected_start.size() + 32),
            "\",\"model\":\"demo-int4\",\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2,"
            "\"total_tokens\":7,\"prompt_tokens_details\":{\"cached_tokens\":1}}}\n\n");
}

TEST_F(GatewayTest, LineStreamStreamsEvenWhenStreamIsFalse) {
  const auto response = Chat("", "/v1/chat/streaming");
  call().EmitText("Hi");
  EXPECT_TRUE(response->streaming());
}

TEST_F(GatewayTest, AnswerWithoutTextIsAFailureNotASuccess) {
  const auto response = Chat(R"(,"stream":true)");
  for (int call_number = 0; call_number < 3 && response->status() == 0; ++call_number) {
    call().Emit(Done(FinishReason::kStop));
    timers_.Advance(std::chrono::seconds(8));
  }
  EXPECT_EQ(response->status(), 502);
  EXPECT_EQ(ErrorField(*response, "code"), "OUTPUT_VALIDATION_FAILED");
}

TEST_F(GatewayTest, FailureInTheMiddleIsInBandAndLooksIncomplete) {
  const auto response = Chat(R"(,"stream":true)");
  call().EmitText("Hel");
  call().Emit(Failed{{FailureCode::kInternal, "broke"}});
  EXPECT_EQ(response->status(), 200);
  EXPECT_THAT(response->body(), EndsWith("data: {\"error\":{\"message\":\"broke\",\"type\":"
                                         "\"server_error\",\"code\":\"internal_error\",\"param\":"
                                         "null}}\n\n"));
  EXPECT_THAT(response->body(), Not(HasSubstr("[DONE]")));
  EXPECT_TRUE(response->complete()) << "the error must reach the client";

  const auto lines = Chat("", "/v1/chat/streaming");
  call().EmitText("Hel");
  call().Emit(Failed{{FailureCode::kInternal, "broke"}});
  EXPECT_THAT(lines->body(), EndsWith(",\"content\":\"\",\"done\":true}\n\n"));
}

TEST_F(GatewayTest, CallIsStreamedOnceItIsComplete) {
  const auto response =
      Chat(R"(,"stream":true,"tools":[{"type":"function","function":{"name":"f"}}])");
  call().EmitText("Let me see. <tool_");
  EXPECT_THAT(response->body(), HasSubstr("Let me see."));
  EXPECT_THAT(response->body(), Not(HasSubstr("<tool_")));
  call().EmitText("call>{\"name\":\"f\",\"arguments\":{}}");
  EXPECT_THAT(response->body(), HasSubstr(R"("tool_calls":[{"index":0,"id":"call_)"));
  call().EmitText("</tool_call>");
  call().Emit(Done());
  EXPECT_THAT(response->body(), HasSubstr(R"("finish_reason":"tool_calls")"));
  EXPECT_THAT(response->body(), Not(HasSubstr("tool_call>")));
}

// --- text that is not fit to pass on

TEST_F(GatewayTest, DegenerateEndIsAValidationFailure) {
  Finished degenerate = Done(FinishReason::kDegenerate);
  degenerate.detail = "repetition 0.93";
  const auto whole = Chat();
  call().EmitText("la la la");
  call().Emit(degenerate);
  EXPECT_EQ(whole->status(), 502);
  EXPECT_EQ(ErrorField(*whole, "code"), "OUTPUT_VALIDATION_FAILED");
  EXPECT_THAT(ErrorField(*whole, "message"), HasSubstr("repetition 0.93"));
  const auto stream = Chat(R"(,"stream":true)");
  call().EmitText("la la la");
  call().Emit(degenerate);
  EXPECT_THAT(stream->body(), HasSubstr("OUTPUT_VALIDATION_FAILED"));
  EXPECT_THAT(stream->body(), Not(HasSubstr("finish_reason\":\"stop")));
}

TEST_F(GatewayTest, QualityCheckLooksAtTheTextWhereAskedFor) {
  const std::string garbage = "So \xEF\xBF\xBD is \xEF\xBF\xBD\xEF\xBF\xBD of \xEF\xBF\xBD.";
  for (const bool check : {false, true}) {
    for (const bool stream : {false, true}) {
      const auto response = Chat(fmt::format(R"(,"quality_check":{},"stream":{})", check, stream));
      call().EmitText(garbage);
      call().Emit(Done());
      EXPECT_EQ(response->status(), check && !stream ? 502 : 200);
      if (check) {
        EXPECT_THAT(response->body(), HasSubstr("OUTPUT_VALIDATION_FAILED"));
        EXPECT_THAT(response->body(), HasSubstr("replacement"));
      } else {
        EXPECT_THAT(response->body(), Not(HasSubstr("OUTPUT_VALIDATION_FAILED")));
      }
    }
  }
}

TEST_F(GatewayTest, LoopIsAFailureWhetherAskedForOrNot) {
  std::string loop;
  for (int i = 0; i < 60; ++i) loop += "the same ";
  for (const bool stream : {false, true}) {
    const auto response = Chat(fmt::format(R"(,"stream":{})", stream));
    call().EmitText(loop);
    EXPECT_EQ(call().cancels(), 1);
    EXPECT_THAT(response->body(), HasSubstr("OUTPUT_VALIDATION_FAILED"));
    call().Emit(Done(FinishReason::kCancelled));
  }
}

TEST_F(GatewayTest, SilentStreamGetsACommentEveryFifteenSeconds) {
  const auto response = Chat(R"(,"stream":true)");
  timers_.Advance(std::chrono::milliseconds(14'999));
  EXPECT_EQ(response->status(), 0);
  timers_.Advance(std::chrono::milliseconds(1));
  EXPECT_EQ(response->status(), 200);
  EXPECT_THAT(response->body(), EndsWith(": still working\n\n"));
  timers_.Advance(std::chrono::seconds(10));
  call().EmitText("Hel");
  timers_.Advance(std::chrono::seconds(10));
  EXPECT_THAT(response->body(), Not(EndsWith(": still working\n\n"))) << "ten seconds of silence";
  timers_.Advance(std::chrono::seconds(5));
  EXPECT_THAT(response->body(), EndsWith(": still working\n\n"));
  call().EmitText("lo");
  call().Emit(Done());
  EXPECT_THAT(response->body(), EndsWith("data: [DONE]\n\n"));
  const std::string complete = response->body();
  timers_.Advance(std::chrono::seconds(60));
  EXPECT_EQ(response->body(), complete);
}

TEST_F(GatewayTest, OtherFormsGetNoComments) {
  const auto whole = Chat();
  const auto whole_call = provider_->last_call();
  const auto lines = Chat("", "/v1/chat/streaming");
  timers_.Advance(std::chrono::seconds(60));
  EXPECT_EQ(whole->status(), 0);
  EXPECT_EQ(lines->status(), 0);
  whole_call->EmitText("a");
  whole_call->Emit(Done());
  call().EmitText("a");
  call().Emit(Done());
  EXPECT_EQ(whole->status(), 200);
  EXPECT_THAT(lines->body(), Not(HasSubstr("still working")));
}

TEST_F(GatewayTest, FailureAfterACommentIsToldInTheStream) {
  const auto response = Chat(R"(,"stream":true)");
  timers_.Advance(std::chrono::seconds(15));
  call().Emit(Failed{{FailureCode::kOutOfMemory, "wants 9 bytes, 1 available"}});
  EXPECT_EQ(response->status(), 200);
  EXPECT_THAT(response->body(), HasSubstr("OUT_OF_MEMORY"));
  EXPECT_THAT(response->body(), Not(HasSubstr("[DONE]")));
  EXPECT_TRUE(response->complete());
}

// --- clients that leave or read slowly

TEST_F(GatewayTest, ClientThatLeavesCancelsInEveryForm) {
  for (const char* fields : {"", R"(,"stream":true)"}) {
    const auto response = Chat(fields);
    call().EmitText("Hel");
    EXPECT_EQ(call().cancels(), 0);
    response->Close();
    EXPECT_EQ(call().cancels(), 1);
    const std::string before = response->body();
    call().EmitText("lo");
    call().Emit(Done(FinishReason::kCancelled));
    EXPECT_EQ(response->body(), before);
    EXPECT_FALSE(response->complete());
    EXPECT_EQ(gateway_->n_in_flight(), 0);
  }
}

TEST_F(GatewayTest, ClientThatLeavesBeforeTheFirstTokenCancels) {
  const auto response = Chat(R"(,"stream":true)");
  response->Close();
  EXPECT_EQ(call().cancels(), 1);
  call().Emit(Done(FinishReason::kCancelled));
  EXPECT_EQ(response->status(), 0);
}

TEST_F(GatewayTest, ClientThatIsGoneAlreadyCancelsAtTheFirstWrite) {
  const auto response = Chat(R"(,"stream":true)");
  call().EmitText("a");
  // Gone, but the connection's thread has not said so yet.
  response->Close();
  call().EmitText("b");
  EXPECT_GE(call().cancels(), 1);
  call().Emit(Done(FinishReason::kCancelled));
}

TEST_F(GatewayTest, SlowReaderGetsEverythingInOrder) {
  const auto response = Chat("", "/v1/chat/streaming", 100);
  std::string expected;
  for (int i = 0; i < 20; ++i) {
    call().EmitText(std::to_string(i));
    expected += fmt::format("data: {{\"content\":\"{}\",\"done\":false}}\n\n", i);
  }
  EXPECT_THAT(expected, StartsWith(response->body()));
  EXPECT_LE(response->body().size(), 100u);
  call().Emit(Done());
  EXPECT_FALSE(response->complete());
  EXPECT_EQ(call().cancels(), 0);
  EXPECT_EQ(gateway_->n_in_flight(), 0) << "the model is free again";
  for (int i = 0; i < 100 && !response->complete(); ++i) response->Read();
  EXPECT_TRUE(response->complete());
  EXPECT_THAT(response->body(), StartsWith(expected));
  EXPECT_THAT(response->body(), HasSubstr("\"done\":true"));
}

TEST_F(GatewayTest, ReaderThatNeverReadsIsCutAtTheBound) {
  MakeGateway({.version = "", .body = {}, .max_pending_bytes = 1000, .cors_allow_origin = ""});
  const auto response = Chat(R"(,"stream":true)", "/v1/chat/completions", 0);
  for (int i = 0; i < 100 && call().cancels() == 0; ++i) {
    call().EmitText(fmt::format("piece {} of {};", i * i, 7 * i));
  }
  EXPECT_EQ(call().cancels(), 1);
  EXPECT_TRUE(response->aborted());
  call().EmitText("more");
  call().Emit(Done(FinishReason::kCancelled));
  EXPECT_FALSE(response->complete());
  EXPECT_EQ(gateway_->n_in_flight(), 0);
}

TEST_F(GatewayTest, SlowReaderThatLeavesAfterTheEndLeaksNothing) {
  auto response = Chat("", "/v1/chat/streaming", 10);
  call().EmitText("a long text that will not fit");
  call().Emit(Done());
  EXPECT_FALSE(response->complete());
  const std::weak_ptr<FakeHttpResponse> weak = response;
  response->Close();
  response.reset();
  EXPECT_TRUE(weak.expired());
}

TEST_F(GatewayTest, AnswersOutliveTheGateway) {
  const auto response = Chat();
  gateway_.reset();
  call().EmitText("late");
  call().Emit(Done());
  EXPECT_EQ(response->status(), 200);
}

// Events on one thread, the client's going and reading on another: for the thread sanitizer.
TEST_F(GatewayTest, EventsReadingAndLeavingMayRace) {
  for (int round = 0; round < 50; ++round) {
    const auto response = Chat("", "/v1/chat/streaming", 64);
    const auto running = provider_->last_call();
    std::jthread model([&] {
      for (int i = 0; i < 20; ++i) running->EmitText("token ");
      running->Emit(Done());
    });
    std::jthread client([&] {
      for (int i = 0; i < round; ++i) response->Read();
      response->Close();
    });
    model.join();
    client.join();
    EXPECT_EQ(gateway_->n_in_flight(), 0);
  }
}

// --- what net/ renders by itself

TEST(RenderHttpErrorTest, ServersOwnErrorsHaveTheErrorShape) {
  const std::pair<int, const char*> rows[] = {
      {400, "invalid_request"}, {413, "payload_too_large"}, {431, "invalid_request"},
      {500, "internal_error"},  {503, "unavailable"},
  };
  for (const auto& [status, code] : rows) {
    const auto body = RenderHttpError(status, Error{ErrorCode::kInvalidArgument, "why", ""});
    EXPECT_EQ(body.content_type, "application/json");
    EXPECT_EQ(boost::json::parse(body.body).at("error").at("code"), code);
  }
}

}  // namespace
}  // namespace tandem::gateway
