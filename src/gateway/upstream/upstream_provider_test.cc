#include "gateway/upstream/upstream_provider.h"

#include <condition_variable>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gateway/router/egress_policy.h"
#include "net/http_server.h"

namespace tandem::gateway::upstream {
namespace {

using testing::HasSubstr;

// An upstream on loopback that answers as the test says, and remembers what came.
class UpstreamProviderTest : public testing::Test {
 protected:
  UpstreamProviderTest() {
    server_ = net::HttpServer::Start({}, [this](net::HttpRequest request,
                                                std::shared_ptr<net::HttpResponse> response) {
                std::lock_guard lock(mutex_);
                requests_.push_back(std::move(request));
                answer_(*response);
                held_.push_back(std::move(response));
                changed_.notify_all();
              }).value();
    // No proxies, whatever the machine's environment says.
    client_ = net::HttpClient::Create({.environment = [](const std::string&) {
                return std::optional<std::string>();
              }}).value();
  }
  ~UpstreamProviderTest() override {
    std::lock_guard lock(mutex_);
    held_.clear();
  }

  UpstreamOptions Options() const {
    UpstreamOptions options;
    options.model = "cloud-model";
    options.base_url = fmt::format("http://127.0.0.1:{}/v1/", server_->port());
    options.api_key = "sk-secret";
    return options;
  }
  static GenerateRequest Permitted() {
    GenerateRequest request;
    request.request_id = "req-1";
    request.messages = {{.role = "user", .content = "Hi"}};
    request.egress = EgressPolicy::Permit(request, Privacy::kAny, Mode::kPreferInCloud).value();
    return request;
  }
  struct Outcome {
    std::mutex mutex;
    std::condition_variable changed;
    std::string text;
    std::optional<Finished> finished;
    std::optional<Failure> failure;
  };
  static EventSink SinkOf(const std::shared_ptr<Outcome>& outcome) {
    return [outcome](GenerateEvent event) {
      std::lock_guard lock(outcome->mutex);
      if (auto* delta = std::get_if<TextDelta>(&event)) outcome->text += delta->text;
      if (auto* finished = std::get_if<Finished>(&event)) outcome->finished = *finished;
      if (auto* failed = std::get_if<Failed>(&event)) outcome->failure = failed->failure;
      outcome->changed.notify_all();
    };
  }
  std::shared_ptr<Outcome> Run(GenerateRequest request) {
    UpstreamProvider provider(Options(), client_.get(), &clock_);
    auto outcome = std::make_shared<Outcome>();
    const auto generation = provider.Start(std::move(request), SinkOf(outcome));
    Wait(outcome);
    return outcome;
  }
  static void Wait(const std::shared_ptr<Outcome>& outcome) {
    std::unique_lock lock(outcome->mutex);
    outcome->changed.wait(lock, [&] { return outcome->finished || outcome->failure; });
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<net::HttpRequest> requests_;
  std::vector<std::shared_ptr<net::HttpResponse>> held_;
  std::function<void(net::HttpResponse&)> answer_ = [](net::HttpResponse& response) {
    response.StartStream(200, {{"Content-Type", "text/event-stream"}});
    response.Write("data: {\"choices\":[{\"delta\":{\"content\":\"Hello\"}}]}\n\n");
    response.Write("data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n");
    response.Write("data: [DONE]\n\n");
    response.Finish();
  };
  RealClock clock_;
  std::unique_ptr<net::HttpServer> server_;
  std::unique_ptr<net::HttpClient> client_;
};

TEST_F(UpstreamProviderTest, SendsTheRequestWithItsKeyAndStreamsTheAnswer) {
  const auto outcome = Run(Permitted());
  ASSERT_TRUE(outcome->finished) << outcome->failure->message;
  EXPECT_EQ(outcome->text, "Hello");
  ASSERT_EQ(requests_.size(), 1u);
  EXPECT_EQ(requests_[0].path, "/v1/chat/completions");
  EXPECT_EQ(requests_[0].headers.Find("Authorization"), "Bearer sk-secret");
  EXPECT_THAT(requests_[0].body, HasSubstr("\"cloud-model\""));
}

TEST_F(UpstreamProviderTest, WithoutAPermitThatCoversItNothingIsSent) {
  GenerateRequest none = Permitted();
  none.egress.reset();
  GenerateRequest other = Permitted();
  other.request_id = "req-2";
  GenerateRequest local = Permitted();
  local.local_only = true;
  for (const GenerateRequest& request : {none, other, local}) {
    const auto outcome = Run(request);
    ASSERT_TRUE(outcome->failure);
    EXPECT_EQ(outcome->failure->code, FailureCode::kPrivacyRefused);
  }
  EXPECT_TRUE(requests_.empty());
  EXPECT_EQ(server_->n_connections(), 0);
}

TEST_F(UpstreamProviderTest, AnErrorStatusIsAFailureAndNeverShowsTheKey) {
  answer_ = [](net::HttpResponse& response) {
    response.SendFull(401, {}, R"({"error":{"message":"bad key sk-secret"}})");
  };
  const auto outcome = Run(Permitted());
  ASSERT_TRUE(outcome->failure);
  EXPECT_EQ(outcome->failure->code, FailureCode::kUnavailable);
  EXPECT_THAT(outcome->failure->message, testing::Not(HasSubstr("sk-secret")));
}

TEST_F(UpstreamProviderTest, ACutStreamIsAFailureThatKeepsTheTextSoFar) {
  answer_ = [](net::HttpResponse& response) {
    response.StartStream(200, {{"Content-Type", "text/event-stream"}});
    response.Write("data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\n\n");
    response.Abort();
  };
  const auto outcome = Run(Permitted());
  ASSERT_TRUE(outcome->failure);
  EXPECT_EQ(outcome->failure->code, FailureCode::kUnavailable);
}

TEST_F(UpstreamProviderTest, CancellingClosesTheConnectionToTheUpstream) {
  std::shared_ptr<Outcome> outcome = std::make_shared<Outcome>();
  bool closed = false;
  answer_ = [&](net::HttpResponse& response) {
    response.OnClosed([&] {
      std::lock_guard lock(mutex_);
      closed = true;
      changed_.notify_all();
    });
    response.StartStream(200, {{"Content-Type", "text/event-stream"}});
    response.Write("data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\n\n");
  };
  UpstreamProvider provider(Options(), client_.get(), &clock_);
  const auto generation = provider.Start(Permitted(), SinkOf(outcome));
  {
    std::unique_lock lock(outcome->mutex);
    outcome->changed.wait(lock, [&] { return !outcome->text.empty() || outcome->failure; });
  }
  generation->Cancel();
  Wait(outcome);
  ASSERT_TRUE(outcome->finished);
  EXPECT_EQ(outcome->finished->reason, FinishReason::kCancelled);
  // The upstream sees the end of our side at its next write at the latest.
  std::unique_lock lock(mutex_);
  while (!closed) {
    held_.back()->Write(": still here\n\n");
    changed_.wait_for(lock, std::chrono::milliseconds(5));
  }
}

TEST_F(UpstreamProviderTest, AnUpstreamThatIsNotThereIsUnavailable) {
  server_->Stop();
  const auto outcome = Run(Permitted());
  ASSERT_TRUE(outcome->failure);
  EXPECT_EQ(outcome->failure->code, FailureCode::kUnavailable);
}

TEST(UpstreamOptionsTest, BaseUrlsAreChecked) {
  const auto valid = [](std::string url) {
    UpstreamOptions options;
    options.model = "m";
    options.base_url = std::move(url);
    return Validate(options).has_value();
  };
  EXPECT_TRUE(valid("https://api.deepseek.com"));
  EXPECT_TRUE(valid("https://api.example.com:8443/v1/"));
  EXPECT_TRUE(valid("http://127.0.0.1:7070/v1"));
  EXPECT_TRUE(valid("http://localhost/v1"));
  for (const char* wrong :
       {"", "api.deepseek.com", "ftp://x", "http://api.deepseek.com/v1", "https://user:pass@x/v1",
        "https://x/v1?a=b", "https://x/#a", "https://"}) {
    EXPECT_FALSE(valid(wrong)) << wrong;
  }
}

}  // namespace
}  // namespace tandem::gateway::upstream
