#include "gateway/upstream/upstream_provider.h"

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "crypto/digest.h"
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
    net::HttpClientOptions options;
    // No proxies, whatever the machine's environment says.
    options.environment = [](const std::string&) { return std::optional<std::string>(); };
    options.timeout_resolution = std::chrono::milliseconds(1);
    options.clock = &client_clock_;  // timeouts come when the test says so
    client_ = net::HttpClient::Create(std::move(options)).value();
    options_.model = "cloud-model";
    options_.base_url = fmt::format("http://127.0.0.1:{}/v1/", server_->port());
    options_.api_key = "sk-secret";
  }
  ~UpstreamProviderTest() override {
    std::lock_guard lock(mutex_);
    held_.clear();
  }

  // What came so far.
  std::vector<net::HttpRequest> requests() {
    std::lock_guard lock(mutex_);
    return requests_;
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
    std::optional<Egress> egress;
    Usage failed_usage;
  };
  static EventSink SinkOf(const std::shared_ptr<Outcome>& outcome) {
    return [outcome](GenerateEvent event) {
      std::lock_guard lock(outcome->mutex);
      if (auto* delta = std::get_if<TextDelta>(&event)) outcome->text += delta->text;
      if (auto* finished = std::get_if<Finished>(&event)) {
        outcome->finished = *finished;
        outcome->egress = finished->egress;
      }
      if (auto* failed = std::get_if<Failed>(&event)) {
        outcome->failure = failed->failure;
        outcome->egress = failed->egress;
        outcome->failed_usage = failed->usage;
      }
      outcome->changed.notify_all();
    };
  }
  std::shared_ptr<Outcome> Run(GenerateRequest request) {
    UpstreamProvider provider(options_, client_.get(), &clock_);
    auto outcome = std::make_shared<Outcome>();
    const auto generation = provider.Start(std::move(request), SinkOf(outcome));
    Wait(outcome);
    return outcome;
  }
  static void Wait(const std::shared_ptr<Outcome>& outcome) {
    std::unique_lock lock(outcome->mutex);
    outcome->changed.wait(lock, [&] { return outcome->finished || outcome->failure; });
  }

  static bool Done(const std::shared_ptr<Outcome>& outcome) {
    std::lock_guard lock(outcome->mutex);
    return outcome->finished || outcome->failure;
  }
  // Returns when the client has read what the server wrote for the call before: its one thread
  // takes sockets in the order in which they became readable, so a later call's answer comes later.
  void WaitUntilRead() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return held_.size() > n_seen_; });
    const auto answer = std::exchange(answer_, kHello);
    lock.unlock();
    for (int i = 0; i < 2; ++i) ASSERT_TRUE(Run(Permitted())->finished);
    lock.lock();
    answer_ = answer;
    n_seen_ = held_.size();
  }
  // Moves the client's clock until the call ends, or for longer than any limit of these tests.
  void AdvanceUntilDone(const std::shared_ptr<Outcome>& outcome) {
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!Done(outcome) && std::chrono::steady_clock::now() < give_up) {
      client_clock_.Advance(std::chrono::milliseconds(100));
      std::this_thread::yield();
    }
  }

  UpstreamOptions options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<net::HttpRequest> requests_;
  std::vector<std::shared_ptr<net::HttpResponse>> held_;
  size_t n_seen_ = 0;  // of held_, by WaitUntilRead
  static constexpr auto kHello = [](net::HttpResponse& response) {
    response.StartStream(200, {{"Content-Type", "text/event-stream"}});
    response.Write("data: {\"choices\":[{\"delta\":{\"content\":\"Hello\"}}]}\n\n");
    response.Write("data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n");
    response.Write("data: [DONE]\n\n");
    response.Finish();
  };
  std::function<void(net::HttpResponse&)> answer_ = kHello;
  RealClock clock_;
  FakeClock client_clock_;
  std::unique_ptr<net::HttpServer> server_;
  std::unique_ptr<net::HttpClient> client_;
};

TEST_F(UpstreamProviderTest, SendsTheRequestWithItsKeyAndStreamsTheAnswer) {
  const auto outcome = Run(Permitted());
  ASSERT_TRUE(outcome->finished) << outcome->failure->message;
  EXPECT_EQ(outcome->text, "Hello");
  ASSERT_EQ(requests().size(), 1u);
  EXPECT_EQ(requests()[0].path, "/v1/chat/completions");
  EXPECT_EQ(requests()[0].headers.Find("Authorization"), "Bearer sk-secret");
  EXPECT_THAT(requests()[0].body, HasSubstr("\"cloud-model\""));
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
  EXPECT_TRUE(requests().empty());
  EXPECT_EQ(server_->n_connections(), 0);
}

TEST_F(UpstreamProviderTest, AnErrorStatusIsAFailureAndNeverShowsTheKey) {
  answer_ = [](net::HttpResponse& response) {
    response.SendFull(401, {}, R"({"error":{"message":"bad key sk-secret"}})");
  };
  const auto outcome = Run(Permitted());
  ASSERT_TRUE(outcome->failure);
  EXPECT_EQ(outcome->failure->code, FailureCode::kCredentialRejected);
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
  UpstreamProvider provider(options_, client_.get(), &clock_);
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

TEST_F(UpstreamProviderTest, TheTerminalEventSaysWhatLeftThisDevice) {
  const auto check = [&](const std::shared_ptr<Outcome>& outcome) {
    ASSERT_TRUE(outcome->egress);
    const net::HttpRequest request = requests().back();
    EXPECT_EQ(outcome->egress->destination, fmt::format("127.0.0.1:{}", server_->port()));
    EXPECT_EQ(outcome->egress->n_bytes, request.body.size());
    EXPECT_EQ(outcome->egress->sha256, crypto::Sha256Hex(request.body));
  };
  check(Run(Permitted()));
  answer_ = [](net::HttpResponse& response) { response.SendFull(500, {}, "no"); };
  check(Run(Permitted()));
  answer_ = [](net::HttpResponse& response) { response.Abort(); };
  check(Run(Permitted()));
  // Nothing leaves where nobody listens, or where this kind of upstream cannot do it.
  GenerateRequest prefix = Permitted();
  prefix.assistant_prefix = "Hel";
  const auto refused = Run(std::move(prefix));
  ASSERT_TRUE(refused->failure);
  EXPECT_EQ(refused->failure->code, FailureCode::kUnsupported);
  EXPECT_FALSE(refused->egress);
  server_->Stop();
  EXPECT_FALSE(Run(Permitted())->egress);
}

TEST_F(UpstreamProviderTest, AnAnswerThatHasBegunIsContinuedWhereTheKindCan) {
  options_.kind = UpstreamKind::kDeepSeek;
  GenerateRequest request = Permitted();
  request.assistant_prefix = "Hel";
  const auto outcome = Run(std::move(request));
  ASSERT_TRUE(outcome->finished) << outcome->failure->message;
  EXPECT_EQ(requests()[0].path, "/beta/chat/completions");
  EXPECT_THAT(requests()[0].body,
              HasSubstr(R"({"role":"assistant","content":"Hel","prefix":true})"));
}

TEST_F(UpstreamProviderTest, RetryAfterComesWithTheFailure) {
  answer_ = [](net::HttpResponse& response) {
    response.SendFull(429, {{"Retry-After", "3"}}, R"({"error":{"message":"m"}})");
  };
  const auto outcome = Run(Permitted());
  ASSERT_TRUE(outcome->failure);
  EXPECT_EQ(outcome->failure->code, FailureCode::kRateLimited);
  EXPECT_EQ(outcome->failure->retry_after, std::chrono::milliseconds(3000));
}

// Which limit ends a call, by how far the upstream came.
TEST_F(UpstreamProviderTest, EachTimeoutHasItsStage) {
  struct Stage {
    std::string_view sent;  // "": not even a head
    const char* message;
  };
  options_.first_token_timeout = std::chrono::seconds(10);
  options_.between_tokens_timeout = std::chrono::seconds(20);
  options_.total_timeout = std::chrono::seconds(0);
  for (const Stage& stage : {
           Stage{"", "no response"},
           Stage{": keep-alive\n\n", "only signs of life"},
           Stage{"data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"h\"}}]}\n\n",
                 "stalled for 20000 ms"},
           Stage{"data: {\"choices\":[{\"delta\":{\"content\":\"H\"}}]}\n\n",
                 "stalled for 20000 ms"},
       }) {
    answer_ = [&](net::HttpResponse& response) {
      if (stage.sent.empty()) return;
      response.StartStream(200, {{"Content-Type", "text/event-stream"}});
      response.Write(stage.sent);
    };
    UpstreamProvider provider(options_, client_.get(), &clock_);
    auto outcome = std::make_shared<Outcome>();
    const auto generation = provider.Start(Permitted(), SinkOf(outcome));
    WaitUntilRead();
    AdvanceUntilDone(outcome);
    ASSERT_TRUE(outcome->failure) << stage.message;
    EXPECT_EQ(outcome->failure->code, FailureCode::kDeadlineExceeded);
    EXPECT_THAT(outcome->failure->message, HasSubstr(stage.message));
  }
}

TEST_F(UpstreamProviderTest, SignsOfLifeDoNotStretchATimeout) {
  options_.first_token_timeout = std::chrono::seconds(0);
  options_.total_timeout = std::chrono::seconds(0);
  options_.between_tokens_timeout = std::chrono::seconds(20);
  answer_ = [](net::HttpResponse& response) {
    response.StartStream(200, {{"Content-Type", "text/event-stream"}});
    response.Write("data: {\"choices\":[{\"delta\":{\"content\":\"H\"}}]}\n\n");
  };
  UpstreamProvider provider(options_, client_.get(), &clock_);
  auto outcome = std::make_shared<Outcome>();
  const auto generation = provider.Start(Permitted(), SinkOf(outcome));
  {
    std::unique_lock lock(outcome->mutex);
    outcome->changed.wait(lock, [&] { return !outcome->text.empty() || outcome->failure; });
  }
  // A comment every second, for far longer than the limit.
  int n_comments = 0;
  while (!Done(outcome) && n_comments < 100'000) {
    {
      std::lock_guard lock(mutex_);
      held_.back()->Write(": keep-alive\n\n");
    }
    client_clock_.Advance(std::chrono::seconds(1));
    ++n_comments;
    std::this_thread::yield();
  }
  ASSERT_TRUE(outcome->failure);
  EXPECT_THAT(outcome->failure->message, HasSubstr("stalled"));
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
  EXPECT_TRUE(valid("http://[::1]:7070/v1"));
  for (const char* wrong :
       {"", "api.deepseek.com", "ftp://x", "http://api.deepseek.com/v1", "https://user:pass@x/v1",
        "https://x/v1?a=b", "https://x/#a", "https://", "http://127.example.com/v1",
        "http://localhost.example.com/v1"}) {
    EXPECT_FALSE(valid(wrong)) << wrong;
  }
}

}  // namespace
}  // namespace tandem::gateway::upstream
