#include "net/http_client.h"

#include <stdlib.h>

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <map>
#include <mutex>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bounded_queue.h"
#include "net/http_server.h"
#include "net/testing/raw_peer.h"
#include "net/testing/raw_server.h"

namespace tandem::net {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;
using testing::RawPeer;
using testing::RawServer;
using testing::TestTls;

constexpr seconds kPatience{60};

// What a call brought, for the test's thread.
class Reply {
 public:
  bool WaitDone() {
    return Wait([&] { return outcome.has_value(); });
  }
  bool WaitHead() {
    return Wait([&] { return n_heads > 0; });
  }
  bool WaitBody(size_t at_least) {
    return Wait([&] { return body.size() >= at_least; });
  }
  bool done() {
    std::lock_guard lock(mutex_);
    return outcome.has_value();
  }
  size_t body_size() {
    std::lock_guard lock(mutex_);
    return body.size();
  }
  // After WaitDone.
  int status() const { return head.status; }
  ErrorCode code() const {
    return outcome->status ? ErrorCode::kInternal : outcome->status.error().code;
  }
  std::string message() const { return outcome->status ? "" : outcome->status.error().message; }

  ClientResponseHead head;
  std::string body;
  std::optional<CallOutcome> outcome;
  int n_heads = 0;

  class Handler final : public ResponseHandler {
   public:
    explicit Handler(std::shared_ptr<Reply> reply) : reply_(std::move(reply)) {}
    void OnHead(ClientResponseHead given) override {
      reply_->Change([&] {
        reply_->head = std::move(given);
        ++reply_->n_heads;
      });
    }
    void OnBody(std::string_view bytes) override {
      reply_->Change([&] { reply_->body += bytes; });
    }
    void OnDone(CallOutcome given) override {
      reply_->Change([&] {
        EXPECT_FALSE(reply_->outcome) << "OnDone twice";
        reply_->outcome = std::move(given);
      });
    }

   private:
    const std::shared_ptr<Reply> reply_;
  };

 private:
  template <typename Condition>
  bool Wait(Condition condition) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, condition);
  }
  template <typename Action>
  void Change(Action action) {
    std::lock_guard lock(mutex_);
    action();
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
};

class HttpClientTest : public ::testing::Test {
 protected:
  // No proxy that this machine may have.
  static HttpClientOptions Options() {
    HttpClientOptions options;
    options.environment = [](const std::string&) { return std::nullopt; };
    return options;
  }
  void Create(HttpClientOptions options = Options()) {
    auto client = HttpClient::Create(std::move(options));
    ASSERT_TRUE(client) << client.error().message;
    client_ = std::move(*client);
  }
  std::shared_ptr<Reply> Send(ClientRequest request) {
    if (client_ == nullptr) Create();
    auto reply = std::make_shared<Reply>();
    call_ = client_->Send(std::move(request), std::make_unique<Reply::Handler>(reply));
    return reply;
  }
  std::shared_ptr<Reply> Get(const std::string& url) {
    auto reply = Send({.url = url, .connect_timeout = kPatience});
    EXPECT_TRUE(reply->WaitDone());
    return reply;
  }
  // Advances the clock until the call ends.
  bool AdvanceUntilDone(const std::shared_ptr<Reply>& reply, FakeClock& clock) {
    const auto give_up = std::chrono::steady_clock::now() + kPatience;
    while (!reply->done() && std::chrono::steady_clock::now() < give_up) {
      clock.Advance(seconds(1));
      std::this_thread::yield();
    }
    return reply->done();
  }

  FakeClock clock_;
  std::unique_ptr<HttpClient> client_;
  std::shared_ptr<HttpCall> call_;
};

constexpr std::string_view kOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

// Answers every request on every connection with the same bytes.
RawServer::Script AlwaysAnswer(std::string_view bytes) {
  return [bytes](RawPeer& peer, int) {
    while (peer.ReadUntil("\r\n\r\n")) {
      peer.Take(peer.buffered().find("\r\n\r\n") + 4);
      peer.Send(bytes);
    }
  };
}

// Answers one request on each connection, then closes.
RawServer::Script AnswerOnce(std::string_view bytes) {
  return [bytes](RawPeer& peer, int) {
    if (peer.ReadUntil("\r\n\r\n")) peer.Send(bytes);
  };
}

// ---- Against our own server ------------------------------------------------------------------

TEST_F(HttpClientTest, RequestArrivesAndConnectionIsReused) {
  auto server =
      HttpServer::Start({}, [](HttpRequest request, const std::shared_ptr<HttpResponse>& response) {
        response->SendFull(201, {{"X-Peer", request.remote_address}},
                           request.method + " " + request.target + " " +
                               std::string(request.headers.Find("host").value_or("")) + " " +
                               std::string(request.headers.Find("x-one").value_or("")) + " " +
                               request.body);
      });
  ASSERT_TRUE(server);
  const std::string authority = "127.0.0.1:" + std::to_string((*server)->port());
  std::string first_peer;
  for (int i = 0; i < 3; ++i) {
    auto reply = Send({.method = "POST",
                       .url = "http://" + authority + "/v1/x?q=1",
                       .headers = {{"X-One", "1"}},
                       .body = "body"});
    ASSERT_TRUE(reply->WaitDone());
    EXPECT_TRUE(reply->outcome->status);
    EXPECT_EQ(reply->outcome->stage, CallStage::kComplete);
    EXPECT_EQ(reply->outcome->reused_connection, i > 0);
    EXPECT_EQ(reply->status(), 201);
    EXPECT_EQ(reply->body, "POST /v1/x?q=1 " + authority + " 1 body");
    const std::string peer(reply->head.headers.Find("x-peer").value_or("none"));
    if (i == 0) first_peer = peer;
    EXPECT_EQ(peer, first_peer);
  }
}

TEST_F(HttpClientTest, StreamIsGivenAsItComes) {
  BoundedQueue<std::shared_ptr<HttpResponse>> responses(1);
  auto server =
      HttpServer::Start({}, [&](const HttpRequest&, std::shared_ptr<HttpResponse> response) {
        responses.TryPush(std::move(response));
      });
  ASSERT_TRUE(server);
  auto reply = Send({.url = "http://127.0.0.1:" + std::to_string((*server)->port())});
  auto response = responses.Pop();
  (*response)->StartStream(200, {});
  EXPECT_TRUE(reply->WaitHead());
  (*response)->Write("one ");
  EXPECT_TRUE(reply->WaitBody(4));
  EXPECT_FALSE(reply->done());
  (*response)->Write("two");
  (*response)->Finish();
  ASSERT_TRUE(reply->WaitDone());
  EXPECT_EQ(reply->body, "one two");
  EXPECT_TRUE(reply->outcome->status);
}

TEST_F(HttpClientTest, LargeBodiesGoBothWays) {
  HttpServerOptions options;
  options.max_body_bytes = 64 << 20;
  auto server = HttpServer::Start(
      options, [](HttpRequest request, const std::shared_ptr<HttpResponse>& response) {
        response->SendFull(200, {}, std::move(request.body));
      });
  ASSERT_TRUE(server);
  std::string body(6 << 20, 'x');
  for (size_t i = 0; i < body.size(); i += 4099) body[i] = static_cast<char>('a' + i % 26);
  auto reply = Send({.method = "POST",
                     .url = "http://127.0.0.1:" + std::to_string((*server)->port()),
                     .body = body});
  ASSERT_TRUE(reply->WaitDone());
  EXPECT_TRUE(reply->body == body);
}

// A relay as the gateway runs it: server and client on the same thread.
TEST_F(HttpClientTest, ServerAndClientShareTheirThread) {
  auto io = IoThreads::Start(1);
  ASSERT_TRUE(io);
  RawServer upstream(AlwaysAnswer(kOk));
  HttpClientOptions client_options = Options();
  client_options.io = *io;
  Create(client_options);
  HttpServerOptions server_options;
  server_options.io = *io;
  class Relay final : public ResponseHandler {
   public:
    explicit Relay(std::shared_ptr<HttpResponse> response)
        : response_(std::move(response)), thread_(std::this_thread::get_id()) {}
    void OnHead(ClientResponseHead head) override { response_->StartStream(head.status, {}); }
    void OnBody(std::string_view bytes) override { response_->Write(bytes); }
    void OnDone(CallOutcome) override {
      response_->Write(std::this_thread::get_id() == thread_ ? " same" : " other");
      response_->Finish();
    }

   private:
    const std::shared_ptr<HttpResponse> response_;
    const std::thread::id thread_;
  };
  auto server = HttpServer::Start(
      server_options, [&](const HttpRequest&, std::shared_ptr<HttpResponse> response) {
        client_->Send({.url = upstream.url()}, std::make_unique<Relay>(std::move(response)));
      });
  ASSERT_TRUE(server);
  testing::RawClient downstream((*server)->port());
  for (int i = 0; i < 3; ++i) {
    downstream.Send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    EXPECT_EQ(downstream.ReadResponse().body, "ok same");
  }
  (*server)->Stop();
  client_.reset();
}

// ---- Responses of all kinds ------------------------------------------------------------------

TEST_F(HttpClientTest, InterimResponsesAreSkipped) {
  RawServer server(
      AnswerOnce("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n"
                 "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
  auto reply = Get(server.url());
  EXPECT_EQ(reply->n_heads, 1);
  EXPECT_EQ(reply->body, "ok");
  std::string endless;
  for (int i = 0; i < 1000; ++i) endless += "HTTP/1.1 100 Continue\r\n\r\n";
  RawServer hostile(AnswerOnce(endless));
  EXPECT_EQ(Get(hostile.url())->code(), ErrorCode::kCorrupt);
}

TEST_F(HttpClientTest, HeadHasNoBodyAndKeepsTheConnection) {
  RawServer server([](RawPeer& peer, int) {
    while (peer.ReadUntil("\r\n\r\n")) {
      const bool head = peer.buffered().starts_with("HEAD");
      peer.Take(peer.buffered().size());
      peer.Send(head ? kOk.substr(0, kOk.size() - 2) : kOk);
    }
  });
  auto reply = Send({.method = "HEAD", .url = server.url()});
  ASSERT_TRUE(reply->WaitDone());
  EXPECT_TRUE(reply->outcome->status);
  EXPECT_EQ(reply->body, "");
  reply = Get(server.url());
  EXPECT_EQ(reply->body, "ok");
  EXPECT_TRUE(reply->outcome->reused_connection);
}

TEST_F(HttpClientTest, BodyMayEndWithTheConnection) {
  RawServer server(AnswerOnce("HTTP/1.1 200 OK\r\n\r\nall of it"));
  for (int i = 0; i < 2; ++i) {
    auto reply = Get(server.url());
    EXPECT_TRUE(reply->outcome->status);
    EXPECT_EQ(reply->body, "all of it");
    EXPECT_FALSE(reply->outcome->reused_connection);
  }
}

TEST_F(HttpClientTest, ConnectionIsNotReusedIfThePeerSaysCloseOrSendsTooMuch) {
  for (const std::string_view answer :
       {std::string_view("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"),
        std::string_view("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n")}) {
    RawServer server(AlwaysAnswer(answer));
    for (int i = 0; i < 2; ++i) {
      auto reply = Get(server.url());
      EXPECT_EQ(reply->body, "ok");
      EXPECT_FALSE(reply->outcome->reused_connection);
    }
  }
}

TEST_F(HttpClientTest, CutAndMalformedResponsesAreTypedErrors) {
  const std::tuple<std::string, ErrorCode, CallStage> cases[] = {
      {"", ErrorCode::kUnavailable, CallStage::kResponse},
      {"HTTP/1.1 200 OK\r\nConte", ErrorCode::kUnavailable, CallStage::kResponse},
      {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", ErrorCode::kUnavailable,
       CallStage::kBody},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
       ErrorCode::kUnavailable, CallStage::kBody},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
       ErrorCode::kCorrupt, CallStage::kBody},
      {"220 smtp.example ESMTP\r\n\r\n", ErrorCode::kCorrupt, CallStage::kResponse},
      {"HTTP/1.1 101 Switching Protocols\r\n\r\n", ErrorCode::kCorrupt, CallStage::kResponse},
      {"HTTP/1.1 200 OK\r\nX: " + std::string(70'000, 'x') + "\r\n\r\n",
       ErrorCode::kResourceExhausted, CallStage::kResponse},
  };
  for (const auto& [bytes, code, stage] : cases) {
    RawServer server(AnswerOnce(bytes));
    auto reply = Get(server.url());
    EXPECT_FALSE(reply->outcome->status) << bytes;
    EXPECT_EQ(reply->code(), code) << bytes << reply->message();
    EXPECT_EQ(reply->outcome->stage, stage) << bytes;
    if (stage == CallStage::kBody) EXPECT_EQ(reply->body, "half");
  }
}

TEST_F(HttpClientTest, ResetInTheBodyIsAnError) {
  RawServer resetting([](RawPeer& peer, int) {
    peer.ReadUntil("\r\n\r\n");
    // Without a length: were it not a reset, it would look complete.
    peer.Send("HTTP/1.1 200 OK\r\n\r\nsome");
    peer.Reset();
  });
  auto reply = Get(resetting.url());
  EXPECT_EQ(reply->code(), ErrorCode::kUnavailable);
  EXPECT_THAT(reply->message(), HasSubstr("reset"));
}

// A server that refuses a large body answers and closes while the client still sends.
TEST_F(HttpClientTest, EarlyAnswerToALargeUploadIsRead) {
  RawServer server([](RawPeer& peer, int) {
    peer.ReadUntil("\r\n\r\n");
    peer.Send(
        "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig");
    peer.ShutdownWrite();
    while (peer.ReadSome()) peer.Take(peer.buffered().size());
  });
  auto reply = Send({.method = "POST", .url = server.url(), .body = std::string(30 << 20, 'x')});
  ASSERT_TRUE(reply->WaitDone());
  EXPECT_TRUE(reply->outcome->status) << reply->message();
  EXPECT_EQ(reply->status(), 413);
  EXPECT_EQ(reply->body, "big");
}

// ---- Requests that cannot be sent ------------------------------------------------------------

TEST_F(HttpClientTest, BadRequestsAreRefusedBeforeAnythingIsSent) {
  std::atomic<int> n_connections = 0;
  RawServer server([&](RawPeer&, int) { ++n_connections; });
  const ClientRequest cases[] = {
      {.url = "ftp://127.0.0.1/"},
      {.url = "http://user:secret@127.0.0.1/"},
      {.method = "GET /", .url = server.url()},
      {.url = server.url(), .headers = {{"X", "a\r\nY: b"}}},
      {.url = server.url(), .headers = {{"X: y\r\nZ", "a"}}},
  };
  for (const ClientRequest& request : cases) {
    auto reply = Send(request);
    ASSERT_TRUE(reply->WaitDone());
    EXPECT_EQ(reply->code(), ErrorCode::kInvalidArgument) << request.url;
    EXPECT_EQ(reply->outcome->stage, CallStage::kConnect);
    EXPECT_EQ(reply->message().find("secret"), std::string::npos);
  }
  EXPECT_EQ(n_connections, 0);
}

TEST_F(HttpClientTest, RefusedConnectionSaysSo) {
  std::string url;
  {
    RawServer gone([](RawPeer&, int) {});
    url = gone.url();
  }
  auto reply = Get(url);
  EXPECT_EQ(reply->code(), ErrorCode::kUnavailable);
  EXPECT_EQ(reply->outcome->stage, CallStage::kConnect);
  EXPECT_THAT(reply->message(), HasSubstr("refused"));
}

// ---- The pool --------------------------------------------------------------------------------

TEST_F(HttpClientTest, StaleConnectionIsReplacedOnce) {
  std::atomic<int> n_requests = 0;
  // The first connection answers one request and dies on the second; later ones answer.
  RawServer server([&](RawPeer& peer, int number) {
    while (peer.ReadUntil("\r\n\r\n")) {
      ++n_requests;
      peer.Take(peer.buffered().find("\r\n\r\n") + 4);
      if (number == 0 && n_requests == 2) return;
      peer.Send(kOk);
    }
  });
  EXPECT_EQ(Get(server.url())->body, "ok");
  auto reply = Get(server.url());
  EXPECT_TRUE(reply->outcome->status) << reply->message();
  EXPECT_EQ(reply->body, "ok");
  EXPECT_FALSE(reply->outcome->reused_connection);
  EXPECT_EQ(n_requests, 3);
}

TEST_F(HttpClientTest, NothingIsSentTwiceOnceAByteOfTheAnswerCame) {
  std::atomic<int> n_requests = 0;
  RawServer server([&](RawPeer& peer, int) {
    while (peer.ReadUntil("\r\n\r\n")) {
      peer.Take(peer.buffered().find("\r\n\r\n") + 4);
      if (++n_requests == 2) {
        peer.Send("H");
        return;
      }
      peer.Send(kOk);
    }
  });
  EXPECT_EQ(Get(server.url())->body, "ok");
  auto reply = Get(server.url());
  EXPECT_EQ(reply->code(), ErrorCode::kUnavailable);
  EXPECT_TRUE(reply->outcome->reused_connection);
  EXPECT_EQ(n_requests, 2);
}

TEST_F(HttpClientTest, NewConnectionThatDiesIsNotTriedAgain) {
  std::atomic<int> n_connections = 0;
  RawServer server([&](RawPeer& peer, int) {
    ++n_connections;
    peer.ReadUntil("\r\n\r\n");
  });
  EXPECT_EQ(Get(server.url())->code(), ErrorCode::kUnavailable);
  EXPECT_EQ(n_connections, 1);
}

// The peer's close is seen while the connection is idle, so the next call does not even try it.
TEST_F(HttpClientTest, ConnectionThatWasClosedWhileIdleIsDropped) {
  RawServer server(AnswerOnce(kOk));
  for (int i = 0; i < 3; ++i) {
    auto reply = Get(server.url());
    EXPECT_EQ(reply->body, "ok");
    EXPECT_FALSE(reply->outcome->reused_connection);
  }
}

TEST_F(HttpClientTest, IdleConnectionsAreClosedAfterTheirTime) {
  HttpClientOptions options = Options();
  options.clock = &clock_;
  options.timeout_resolution = milliseconds(2);
  Create(options);
  std::atomic<bool> closed = false;
  RawServer server([&](RawPeer& peer, int) {
    peer.ReadUntil("\r\n\r\n");
    peer.Take(peer.buffered().size());
    peer.Send(kOk);
    EXPECT_TRUE(peer.ReadsEnd());
    closed = true;
  });
  EXPECT_EQ(Get(server.url())->body, "ok");
  const auto give_up = std::chrono::steady_clock::now() + kPatience;
  while (!closed && std::chrono::steady_clock::now() < give_up) {
    clock_.Advance(seconds(1));
    std::this_thread::yield();
  }
  EXPECT_TRUE(closed);
  client_.reset();
}

TEST_F(HttpClientTest, PoolKeepsNoMoreThanItsLimit) {
  HttpClientOptions options = Options();
  options.max_idle_per_origin = 0;
  Create(options);
  RawServer server(AlwaysAnswer(kOk));
  for (int i = 0; i < 2; ++i) {
    auto reply = Get(server.url());
    EXPECT_EQ(reply->body, "ok");
    EXPECT_FALSE(reply->outcome->reused_connection);
  }
}

// ---- Timeouts (fake clock) -------------------------------------------------------------------

class HttpClientTimeoutTest : public HttpClientTest {
 protected:
  void SetUp() override {
    HttpClientOptions options = Options();
    options.clock = &clock_;
    options.timeout_resolution = milliseconds(2);
    options.ca_file = "";
    Create(options);
  }
  void TearDown() override { client_.reset(); }  // before the clock and the servers' threads wait

  static ClientRequest Limited(std::string url) {
    return {.url = std::move(url),
            .connect_timeout = seconds(1000),
            .first_byte_timeout = seconds(1000),
            .idle_timeout = seconds(1000),
            .total_timeout = seconds(0)};
  }
};

RawServer::Script SendAndWait(std::string_view bytes) {
  return [bytes](RawPeer& peer, int) {
    peer.ReadUntil("\r\n\r\n");
    peer.Send(bytes);
    while (peer.ReadSome()) {
    }
  };
}

TEST_F(HttpClientTimeoutTest, NoResponseInTime) {
  RawServer server(SendAndWait("HTTP/1.1 200 OK\r\nContent-"));
  ClientRequest request = Limited(server.url());
  request.first_byte_timeout = seconds(5);
  auto reply = Send(request);
  EXPECT_TRUE(AdvanceUntilDone(reply, clock_));
  EXPECT_EQ(reply->code(), ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(reply->outcome->stage, CallStage::kResponse);
  EXPECT_THAT(reply->message(), HasSubstr("no response"));
}

TEST_F(HttpClientTimeoutTest, BodyStalls) {
  RawServer server(SendAndWait("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"));
  ClientRequest request = Limited(server.url());
  request.idle_timeout = seconds(5);
  auto reply = Send(request);
  EXPECT_TRUE(reply->WaitBody(4));
  EXPECT_TRUE(AdvanceUntilDone(reply, clock_));
  EXPECT_EQ(reply->code(), ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(reply->outcome->stage, CallStage::kBody);
  EXPECT_THAT(reply->message(), HasSubstr("stalled"));
}

// A body of dots, of which none is what the caller waits for, then of crosses, which are.
TEST_F(HttpClientTimeoutTest, OnlyProgressStretchesATimeout) {
  class Handler final : public ResponseHandler {
   public:
    explicit Handler(std::shared_ptr<Reply> reply) : inner_(std::move(reply)) {}
    void OnHead(ClientResponseHead head) override { inner_.OnHead(std::move(head)); }
    void OnBody(std::string_view bytes) override {
      progress_ = bytes.find('x') != std::string_view::npos;
      inner_.OnBody(bytes);
    }
    bool MadeProgress() override { return std::exchange(progress_, false); }
    void OnDone(CallOutcome outcome) override { inner_.OnDone(std::move(outcome)); }

   private:
    Reply::Handler inner_;
    bool progress_ = false;
  };
  for (const bool crosses : {false, true}) {
    RawServer server([&](RawPeer& peer, int) {
      peer.ReadUntil("\r\n\r\n");
      peer.Send("HTTP/1.1 200 OK\r\n\r\n");
      if (crosses) peer.Send("x");
      while (peer.Send(".")) std::this_thread::yield();
    });
    ClientRequest request = Limited(server.url());
    request.first_byte_timeout = seconds(40);
    request.idle_timeout = seconds(5);
    auto reply = std::make_shared<Reply>();
    call_ = client_->Send(request, std::make_unique<Handler>(reply));
    EXPECT_TRUE(reply->WaitBody(2));
    EXPECT_TRUE(AdvanceUntilDone(reply, clock_));
    EXPECT_EQ(reply->code(), ErrorCode::kDeadlineExceeded);
    EXPECT_EQ(reply->outcome->stage, CallStage::kBody);
    EXPECT_THAT(reply->message(), HasSubstr(crosses ? "stalled for 5000 ms" : "within 40000 ms"));
  }
}

TEST_F(HttpClientTimeoutTest, TotalTimeHoldsForASlowDrip) {
  RawServer server([](RawPeer& peer, int) {
    peer.ReadUntil("\r\n\r\n");
    peer.Send("HTTP/1.1 200 OK\r\n\r\n");
    while (peer.Send("x")) std::this_thread::yield();
  });
  ClientRequest request = Limited(server.url());
  request.idle_timeout = seconds(0);
  request.total_timeout = seconds(30);
  auto reply = Send(request);
  EXPECT_TRUE(reply->WaitBody(1));
  EXPECT_TRUE(AdvanceUntilDone(reply, clock_));
  EXPECT_EQ(reply->code(), ErrorCode::kDeadlineExceeded);
  EXPECT_THAT(reply->message(), HasSubstr("30000 ms"));
}

TEST_F(HttpClientTimeoutTest, HandshakeThatNeverEndsIsAConnectTimeout) {
  RawServer server([](RawPeer& peer, int) {
    while (peer.ReadSome()) {
    }
  });
  ClientRequest request = Limited("https://127.0.0.1:" + std::to_string(server.port()));
  request.connect_timeout = seconds(5);
  auto reply = Send(request);
  EXPECT_TRUE(AdvanceUntilDone(reply, clock_));
  EXPECT_EQ(reply->code(), ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(reply->outcome->stage, CallStage::kConnect);
}

// ---- Cancelling and pausing ------------------------------------------------------------------

TEST_F(HttpClientTest, CancelClosesTheConnectionAtOnce) {
  for (const std::string_view before :
       {std::string_view(), std::string_view("HTTP/1.1 200 OK\r\n\r\nx")}) {
    BoundedQueue<int> received(1);
    BoundedQueue<int> closed(1);
    RawServer server([&](RawPeer& peer, int) {
      peer.ReadUntil("\r\n\r\n");
      peer.Take(peer.buffered().size());
      peer.Send(before);
      received.TryPush(1);
      if (peer.ReadsEnd()) closed.TryPush(1);
    });
    auto reply = Send({.url = server.url()});
    received.Pop();
    if (!before.empty()) EXPECT_TRUE(reply->WaitBody(1));
    call_->Cancel();
    call_->Cancel();
    ASSERT_TRUE(reply->WaitDone());
    EXPECT_EQ(reply->code(), ErrorCode::kCancelled);
    EXPECT_TRUE(closed.Pop());
    call_->Cancel();  // after the end: nothing
  }
}

TEST_F(HttpClientTest, PausedCallMakesThePeerWaitAndLosesNothing) {
  constexpr size_t kTotal = 48 << 20;
  std::atomic<size_t> n_sent = 0;
  RawServer server([&](RawPeer& peer, int) {
    peer.ReadUntil("\r\n\r\n");
    peer.Send("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(kTotal) + "\r\n\r\n");
    const std::string piece(1 << 16, 'p');
    while (n_sent < kTotal && peer.Send(piece)) n_sent += piece.size();
    while (peer.ReadSome()) {
    }
  });
  auto reply = Send({.url = server.url()});
  ASSERT_TRUE(reply->WaitHead());
  call_->Pause();
  // The kernel's buffers fill; then sending stands still, which another call's round trips confirm.
  RawServer other(AlwaysAnswer(kOk));
  size_t last = 0;
  auto first_call = call_;
  for (int still = 0; still < 5;) {
    const size_t now = n_sent;
    still = now == last ? still + 1 : 0;
    last = now;
    for (int i = 0; i < 20; ++i) ASSERT_EQ(Get(other.url())->body, "ok");
  }
  EXPECT_LT(n_sent, kTotal);
  EXPECT_FALSE(reply->done());
  first_call->Resume();
  ASSERT_TRUE(reply->WaitDone());
  EXPECT_TRUE(reply->outcome->status) << reply->message();
  EXPECT_EQ(reply->body.size(), kTotal);
}

TEST_F(HttpClientTest, DestroyingTheClientEndsEveryCall) {
  RawServer server(SendAndWait("HTTP/1.1 200 OK\r\n\r\nx"));
  std::vector<std::shared_ptr<Reply>> replies;
  for (int i = 0; i < 5; ++i) replies.push_back(Send({.url = server.url()}));
  EXPECT_TRUE(replies[0]->WaitBody(1));
  client_.reset();
  for (const auto& reply : replies) {
    ASSERT_TRUE(reply->done());
    EXPECT_EQ(reply->code(), ErrorCode::kCancelled);
  }
  call_->Cancel();  // a call may outlive its client
  call_->Resume();
}

TEST_F(HttpClientTest, ManyCallsAtOnceFromManyThreads) {
  HttpServerOptions server_options;
  server_options.io_threads = 2;
  auto server = HttpServer::Start(
      server_options, [](HttpRequest request, const std::shared_ptr<HttpResponse>& response) {
        response->SendFull(200, {}, std::move(request.body));
      });
  ASSERT_TRUE(server);
  auto io = IoThreads::Start(2);
  HttpClientOptions options = Options();
  options.io = *io;
  options.max_idle_per_origin = 4;
  Create(options);
  const std::string url = "http://127.0.0.1:" + std::to_string((*server)->port()) + "/";
  std::atomic<int> n_right = 0;
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        const std::string body = std::to_string(t) + "-" + std::to_string(i);
        auto reply = std::make_shared<Reply>();
        auto call = client_->Send({.method = "POST", .url = url, .body = body},
                                  std::make_unique<Reply::Handler>(reply));
        if (i % 5 == 0) call->Cancel();
        if (!reply->WaitDone()) return;
        n_right += i % 5 == 0 || reply->body == body;
      }
    });
  }
  threads.clear();
  EXPECT_EQ(n_right, 200);
  client_.reset();
}

// ---- Proxies ---------------------------------------------------------------------------------

HttpClientOptions WithProxy(const std::string& name, const std::string& value) {
  HttpClientOptions options;
  options.environment = [=](const std::string& asked) -> std::optional<std::string> {
    if (asked == name) return value;
    return std::nullopt;
  };
  return options;
}

TEST_F(HttpClientTest, PlainRequestsGoThroughAProxyWithTheWholeUrl) {
  BoundedQueue<std::string> heads(10);
  RawServer proxy([&](RawPeer& peer, int) {
    peer.ReadUntil("\r\n\r\n");
    heads.TryPush(std::string(peer.buffered()));
    peer.Send(kOk);
  });
  Create(WithProxy("http_proxy", "http://u:p@127.0.0.1:" + std::to_string(proxy.port())));
  EXPECT_EQ(Get("http://upstream.test:8080/x?y")->body, "ok");
  const std::string head = heads.TryPop().value_or("");
  EXPECT_THAT(head, ::testing::StartsWith("GET http://upstream.test:8080/x?y HTTP/1.1\r\n"));
  EXPECT_THAT(head, HasSubstr("Host: upstream.test:8080\r\n"));
  EXPECT_THAT(head, HasSubstr("Proxy-Authorization: Basic dTpw\r\n"));
}

TEST_F(HttpClientTest, ProxyThatRefusesATunnelIsAnError) {
  for (const std::string_view answer :
       {std::string_view(
            "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 4\r\n\r\nnope"),
        std::string_view("SSH-2.0\r\n\r\n"), std::string_view()}) {
    RawServer proxy(AnswerOnce(answer));
    Create(WithProxy("https_proxy", "http://127.0.0.1:" + std::to_string(proxy.port())));
    auto reply = Get("https://upstream.test/");
    EXPECT_EQ(reply->code(), ErrorCode::kUnavailable);
    EXPECT_EQ(reply->outcome->stage, CallStage::kConnect);
    EXPECT_THAT(reply->message(), HasSubstr("proxy 127.0.0.1"));
    client_.reset();
  }
}

// ---- TLS -------------------------------------------------------------------------------------

class HttpClientTlsTest : public HttpClientTest {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "tandem_tls_XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
    ca_file_ = (directory_ / "ca.pem").string();
    ASSERT_TRUE(tls_.WriteCertificate(ca_file_));
  }
  void TearDown() override {
    client_.reset();
    std::filesystem::remove_all(directory_);
  }
  HttpClientOptions Trusting() {
    HttpClientOptions options = Options();
    options.ca_file = ca_file_;
    return options;
  }
  // Answers every request of every TLS connection.
  RawServer::Script Answering(std::string_view bytes, bool say_goodbye = true) {
    return [this, bytes, say_goodbye](RawPeer& peer, int) {
      const auto session = tls_.Accept(peer);
      if (!session) return;
      names_.TryPush(session->server_name());
      while (session->ReadUntil("\r\n\r\n").ends_with("\r\n\r\n")) {
        session->Send(bytes);
        if (bytes != kOk) break;
      }
      if (say_goodbye) session->Shutdown();
    };
  }
  static std::string Url(const RawServer& server, const std::string& host) {
    return "https://" + host + ":" + std::to_string(server.port()) + "/";
  }

  TestTls tls_;
  std::filesystem::path directory_;
  std::string ca_file_;
  BoundedQueue<std::string> names_{100};
};

TEST_F(HttpClientTlsTest, TrustedPeerIsSpokenToAndKept) {
  RawServer server(Answering(kOk));
  Create(Trusting());
  for (const std::string host : {"localhost", "127.0.0.1"}) {
    for (int i = 0; i < 2; ++i) {
      auto reply = Get(Url(server, host));
      ASSERT_TRUE(reply->outcome->status) << reply->message();
      EXPECT_EQ(reply->body, "ok");
      EXPECT_EQ(reply->outcome->reused_connection, i > 0);
    }
  }
  EXPECT_EQ(names_.TryPop(), "localhost");  // SNI
  EXPECT_EQ(names_.TryPop(), "");           // which addresses have not
  client_.reset();
}

TEST_F(HttpClientTlsTest, UntrustedOrOtherPeerIsRefused) {
  RawServer server(Answering(kOk));
  Create();  // the system's certificates
  auto reply = Get(Url(server, "localhost"));
  EXPECT_EQ(reply->code(), ErrorCode::kFailedPrecondition) << reply->message();
  EXPECT_THAT(reply->message(), HasSubstr("self-signed"));
  client_.reset();

  // The right signer, but a certificate for somebody else, reached through a proxy's tunnel.
  RawServer proxy([&](RawPeer& peer, int) {
    peer.ReadUntil("\r\n\r\n");
    peer.Take(peer.buffered().size());
    peer.Send("HTTP/1.1 200 Connection established\r\n\r\n");
    Answering(kOk)(peer, 0);
  });
  HttpClientOptions options =
      WithProxy("https_proxy", "http://127.0.0.1:" + std::to_string(proxy.port()));
  options.ca_file = ca_file_;
  Create(options);
  reply = Get("https://other.test/");
  EXPECT_EQ(reply->code(), ErrorCode::kFailedPrecondition) << reply->message();
  EXPECT_THAT(reply->message(), HasSubstr("ostname mismatch"));
  client_.reset();
}

TEST_F(HttpClientTlsTest, TunnelThroughAProxyCarriesTls) {
  BoundedQueue<std::string> heads(10);
  RawServer proxy([&](RawPeer& peer, int) {
    peer.ReadUntil("\r\n\r\n");
    heads.TryPush(peer.Take(peer.buffered().size()));
    peer.Send("HTTP/1.1 200 Connection established\r\n\r\n");
    Answering(kOk)(peer, 0);
  });
  HttpClientOptions options =
      WithProxy("https_proxy", "http://u:p@127.0.0.1:" + std::to_string(proxy.port()));
  options.ca_file = ca_file_;
  Create(options);
  for (int i = 0; i < 2; ++i) {
    auto reply = Get("https://localhost/x");
    ASSERT_TRUE(reply->outcome->status) << reply->message();
    EXPECT_EQ(reply->body, "ok");
    EXPECT_EQ(reply->outcome->reused_connection, i > 0);
  }
  EXPECT_EQ(heads.TryPop(),
            "CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n"
            "Proxy-Authorization: Basic dTpw\r\n\r\n");
  client_.reset();
}

TEST_F(HttpClientTlsTest, EndOfSocketWithoutEndOfTlsIsACut) {
  constexpr std::string_view kUntilClose = "HTTP/1.1 200 OK\r\n\r\nsome";
  Create(Trusting());
  RawServer cut(Answering(kUntilClose, /*say_goodbye=*/false));
  auto reply = Get(Url(cut, "localhost"));
  EXPECT_FALSE(reply->outcome->status);
  EXPECT_EQ(reply->code(), ErrorCode::kUnavailable) << reply->message();
  RawServer proper(Answering(kUntilClose));
  EXPECT_TRUE(Get(Url(proper, "localhost"))->outcome->status);
  client_.reset();
}

TEST_F(HttpClientTlsTest, LargeBodiesGoBothWays) {
  HttpServerOptions options;
  std::string body(2 << 20, 'x');
  const std::string answer =
      "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  RawServer server([&](RawPeer& peer, int) {
    const auto session = tls_.Accept(peer);
    if (!session) return;
    session->ReadUntil("\r\n\r\n");
    session->ReadUntil("END");
    session->Send(answer);
    session->Shutdown();
  });
  Create(Trusting());
  auto reply = Send({.method = "POST", .url = Url(server, "localhost"), .body = body + "END"});
  ASSERT_TRUE(reply->WaitDone());
  EXPECT_TRUE(reply->outcome->status) << reply->message();
  EXPECT_TRUE(reply->body == body);
  client_.reset();
}

TEST_F(HttpClientTlsTest, BadCertificateFilesAreTypedErrors) {
  HttpClientOptions options = Options();
  options.ca_file = (directory_ / "missing.pem").string();
  EXPECT_EQ(HttpClient::Create(options).error().code, ErrorCode::kNotFound);
  options.ca_file = "/dev/null";
  EXPECT_EQ(HttpClient::Create(options).error().code, ErrorCode::kCorrupt);
}

// A plain server where TLS is expected.
TEST_F(HttpClientTlsTest, PeerWithoutTlsIsUnavailable) {
  RawServer server([](RawPeer& peer, int) {
    peer.ReadSome();
    peer.Send("HTTP/1.1 400 Bad Request\r\n\r\n");
  });
  Create(Trusting());
  auto reply = Get(Url(server, "localhost"));
  EXPECT_EQ(reply->code(), ErrorCode::kUnavailable);
  EXPECT_EQ(reply->outcome->stage, CallStage::kConnect);
  client_.reset();
}

}  // namespace
}  // namespace tandem::net
