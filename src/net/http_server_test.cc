#include "net/http_server.h"

#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bounded_queue.h"
#include "net/testing/raw_peer.h"

namespace tandem::net {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::RawClient;
using testing::RawResponse;

// For events that must come; a test that gets here late has failed.
constexpr seconds kPatience{60};

// For states that nothing announces. False: not within patience.
bool Eventually(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

struct Exchange {
  HttpRequest request;
  std::shared_ptr<HttpResponse> response;
};

// An event that another thread reports.
class Signal {
 public:
  void Set() { promise_.set_value(); }
  bool Wait() { return future_.wait_for(kPatience) == std::future_status::ready; }
  bool IsSet() { return future_.wait_for(seconds(0)) == std::future_status::ready; }

 private:
  std::promise<void> promise_;
  std::future<void> future_ = promise_.get_future();
};

// A server that hands each exchange to the test, which answers from its own thread.
class HttpServerTest : public ::testing::Test {
 protected:
  void Start(HttpServerOptions options = {}) {
    auto server = HttpServer::Start(
        std::move(options), [this](HttpRequest request, std::shared_ptr<HttpResponse> response) {
          exchanges_.TryPush({std::move(request), std::move(response)});
        });
    ASSERT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
  }
  void StartWith(HttpHandler handler, HttpServerOptions options = {}) {
    auto server = HttpServer::Start(std::move(options), std::move(handler));
    ASSERT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
  }
  Exchange Next() {
    auto exchange = exchanges_.Pop();
    return exchange ? std::move(*exchange) : Exchange{};
  }

  BoundedQueue<Exchange> exchanges_{100};
  std::unique_ptr<HttpServer> server_;
};

constexpr std::string_view kGet = "GET /x HTTP/1.1\r\nHost: h\r\n\r\n";

void Echo(const HttpRequest& request, const std::shared_ptr<HttpResponse>& response) {
  response->SendFull(200, {{"Content-Type", "text/plain"}}, request.path + ":" + request.body);
}

// ---- Requests and full responses -------------------------------------------------------------

TEST_F(HttpServerTest, RequestArrivesWholeAndConnectionIsKept) {
  Start();
  RawClient client(server_->port());
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(
        client.Send("POST /a%20b?q=1 HTTP/1.1\r\nHost: h\r\nX-One: 1\r\n"
                    "Content-Length: 4\r\n\r\nbody"));
    Exchange exchange = Next();
    EXPECT_EQ(exchange.request.method, "POST");
    EXPECT_EQ(exchange.request.path, "/a%20b");
    EXPECT_EQ(exchange.request.query, "q=1");
    EXPECT_EQ(exchange.request.headers.Find("x-one"), "1");
    EXPECT_EQ(exchange.request.body, "body");
    EXPECT_THAT(exchange.request.remote_address, ::testing::StartsWith("127.0.0.1:"));
    EXPECT_TRUE(exchange.response->SendFull(201, {{"X-Two", "2"}}, "answer"));
    const RawResponse response = client.ReadResponse();
    EXPECT_THAT(response.head, ::testing::StartsWith("HTTP/1.1 201 Created\r\n"));
    EXPECT_EQ(response.headers.Find("x-two"), "2");
    EXPECT_EQ(response.headers.Find("Content-Length"), "6");
    EXPECT_THAT(std::string(response.headers.Find("Date").value_or("")),
                ::testing::MatchesRegex("..., .. ... .... ..:..:.. GMT"));
    EXPECT_EQ(response.headers.Find("Connection"), std::nullopt);
    EXPECT_EQ(response.body, "answer");
  }
  EXPECT_EQ(server_->n_connections(), 1);
}

TEST_F(HttpServerTest, ChunkedRequestBodyIsJoined) {
  StartWith(Echo);
  RawClient client(server_->port());
  client.Send("POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
  client.Send("2\r\nde\r\n0\r\n\r\n");
  EXPECT_EQ(client.ReadResponse().body, "/x:abcde");
}

TEST_F(HttpServerTest, PipelinedRequestsAreAnsweredInOrderEvenIfTheFirstIsSlow) {
  Start();
  RawClient client(server_->port());
  std::string requests;
  for (int i = 0; i < 50; ++i) {
    requests += "GET /" + std::to_string(i) + " HTTP/1.1\r\nHost: h\r\n\r\n";
  }
  client.Send(requests);
  Exchange first = Next();
  EXPECT_EQ(exchanges_.size(), 0u) << "the second was started before the first was answered";
  first.response->SendFull(200, {}, first.request.path);
  EXPECT_EQ(client.ReadResponse().body, "/0");
  for (int i = 1; i < 50; ++i) {
    Exchange exchange = Next();
    exchange.response->SendFull(200, {}, exchange.request.path);
    EXPECT_EQ(client.ReadResponse().body, "/" + std::to_string(i));
  }
}

// 300 KB of requests ahead of their answers: more than the server keeps, so some wait in the
// kernel.
TEST_F(HttpServerTest, PipeliningFarAheadLosesNothing) {
  StartWith(Echo);
  RawClient client(server_->port());
  const std::string filler(1000, 'f');
  std::thread sender([&] {
    for (int i = 0; i < 300; ++i) {
      client.Send("POST /" + std::to_string(i) +
                  " HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n" + filler);
    }
  });
  for (int i = 0; i < 300; ++i) {
    ASSERT_EQ(client.ReadResponse().body, "/" + std::to_string(i) + ":" + filler);
  }
  sender.join();
}

TEST_F(HttpServerTest, HeadGetsTheLengthButNoBody) {
  StartWith(Echo);
  RawClient client(server_->port());
  client.Send("HEAD /abc HTTP/1.1\r\nHost: h\r\n\r\n");
  const RawResponse response = client.ReadResponse(/*has_body=*/false);
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.headers.Find("Content-Length"), "5");
  client.Send(kGet);
  EXPECT_EQ(client.ReadResponse().body, "/x:") << "a body came after the answer to HEAD";
}

TEST_F(HttpServerTest, HeadOfAStreamSendsNoBody) {
  Start();
  RawClient client(server_->port());
  client.Send("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
  Exchange exchange = Next();
  exchange.response->StartStream(200, {});
  EXPECT_EQ(exchange.response->Write("data"), WriteResult::kOk);
  EXPECT_TRUE(exchange.response->Finish());
  EXPECT_EQ(client.ReadResponse(false).status, 200);
  client.Send(kGet);
  Next().response->SendFull(200, {}, "after");
  EXPECT_EQ(client.ReadResponse().body, "after");
}

TEST_F(HttpServerTest, StatusWithoutBodyCarriesNoLength) {
  Start();
  RawClient client(server_->port());
  client.Send(kGet);
  Next().response->SendFull(204, {}, "ignored");
  const RawResponse response = client.ReadResponse();
  EXPECT_EQ(response.status, 204);
  EXPECT_EQ(response.headers.Find("Content-Length"), std::nullopt);
  EXPECT_EQ(response.headers.Find("Transfer-Encoding"), std::nullopt);
}

TEST_F(HttpServerTest, ConnectionCloseIsHonouredFromEitherSide) {
  Start();
  RawClient asks(server_->port());
  asks.Send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
  Next().response->SendFull(200, {}, "bye");
  RawResponse response = asks.ReadResponse();
  EXPECT_EQ(response.headers.Find("Connection"), "close");
  EXPECT_TRUE(asks.ReadsEnd());

  RawClient told(server_->port());
  told.Send(kGet);
  Next().response->SendFull(200, {{"connection", "close"}}, "bye");
  response = told.ReadResponse();
  EXPECT_EQ(response.headers.Find("Connection"), "close");
  EXPECT_TRUE(told.ReadsEnd());
}

TEST_F(HttpServerTest, LineBreakInAHeaderValueCannotMakeAHeader) {
  Start();
  RawClient client(server_->port());
  client.Send(kGet);
  Next().response->SendFull(200, {{"X-A", "1\r\nX-Evil: 2"}, {"Bad name", "3"}}, "");
  const RawResponse response = client.ReadResponse();
  EXPECT_EQ(response.headers.Find("X-Evil"), std::nullopt);
  EXPECT_EQ(response.headers.Find("X-A"), "1  X-Evil: 2");
  EXPECT_EQ(response.headers.Find("Bad name"), std::nullopt);
}

TEST_F(HttpServerTest, ExpectContinueIsAnsweredBeforeTheBody) {
  StartWith(Echo);
  RawClient client(server_->port());
  client.Send("POST /x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
  EXPECT_EQ(client.ReadResponse().status, 100);
  client.Send("abc");
  EXPECT_EQ(client.ReadResponse().body, "/x:abc");
  // Not asked to wait, as the body came along.
  client.Send("POST /y HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nz");
  EXPECT_EQ(client.ReadResponse().body, "/y:z");
}

TEST_F(HttpServerTest, SecondResponseIsRefused) {
  Start();
  RawClient client(server_->port());
  client.Send(kGet);
  Exchange exchange = Next();
  EXPECT_EQ(exchange.response->Write("too early"), WriteResult::kClosed);
  EXPECT_FALSE(exchange.response->Finish());
  EXPECT_TRUE(exchange.response->SendFull(200, {}, "one"));
  EXPECT_FALSE(exchange.response->SendFull(200, {}, "two"));
  EXPECT_FALSE(exchange.response->StartStream(200, {}));
  EXPECT_EQ(client.ReadResponse().body, "one");
  // Nor can it touch the next exchange of the connection.
  client.Send(kGet);
  Exchange next = Next();
  EXPECT_FALSE(exchange.response->SendFull(200, {}, "three"));
  exchange.response->Abort();
  exchange.response.reset();
  EXPECT_TRUE(next.response->SendFull(200, {}, "four"));
  EXPECT_EQ(client.ReadResponse().body, "four");
}

TEST_F(HttpServerTest, DroppedOrThrowingHandlerAnswers500) {
  StartWith([](const HttpRequest& request, const std::shared_ptr<HttpResponse>&) {
    if (request.path == "/throw") throw std::runtime_error("as the test wants");
  });
  RawClient client(server_->port());
  client.Send(kGet);
  EXPECT_EQ(client.ReadResponse().status, 500);
  client.Send("GET /throw HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_EQ(client.ReadResponse().status, 500);
}

// ---- Errors that the server answers ----------------------------------------------------------

TEST_F(HttpServerTest, ErrorsUseTheRendererAndCloseTheConnection) {
  HttpServerOptions options;
  options.max_header_bytes = 1000;
  options.max_body_bytes = 100;
  options.render_error = [](int status, const Error& error) {
    return HttpServerOptions::ErrorBody{
        "application/json",
        fmt::format("{{\"status\":{},\"code\":\"{}\"}}", status, ErrorCodeName(error.code))};
  };
  StartWith(Echo, options);
  const std::pair<std::string, std::string> cases[] = {
      {"nonsense\r\n\r\n", "{\"status\":400,\"code\":\"invalid_argument\"}"},
      {"GET / HTTP/1.1\r\nHost: h\r\nX: " + std::string(1000, 'x') + "\r\n\r\n",
       "{\"status\":431,\"code\":\"resource_exhausted\"}"},
      {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 101\r\n\r\n",
       "{\"status\":413,\"code\":\"resource_exhausted\"}"},
  };
  for (const auto& [bytes, body] : cases) {
    RawClient client(server_->port());
    client.Send(bytes);
    const RawResponse response = client.ReadResponse();
    EXPECT_EQ(response.body, body);
    EXPECT_EQ(response.headers.Find("Content-Type"), "application/json");
    EXPECT_EQ(response.headers.Find("Connection"), "close");
    EXPECT_TRUE(client.ReadsEnd());
  }
}

// A client that sends all of its body before it reads must still get the answer, not a reset.
TEST_F(HttpServerTest, RefusedBodyDoesNotResetTheClientThatStillSends) {
  HttpServerOptions options;
  options.max_body_bytes = 1000;
  StartWith(Echo, options);
  RawClient client(server_->port());
  const std::string body(10 << 20, 'b');
  ASSERT_TRUE(client.Send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10485760\r\n\r\n"));
  EXPECT_TRUE(client.Send(body));
  const RawResponse response = client.ReadResponse();
  EXPECT_EQ(response.status, 413);
  EXPECT_TRUE(response.complete);
}

// ---- Bodies that a sink takes ------------------------------------------------------------------

// Keeps what comes and lets the test say when it has enough.
struct SinkLog {
  std::mutex mutex;
  std::string bytes;
  bool full = false;
  bool gone = false;
  std::function<void()> resume;

  size_t size() {
    const std::lock_guard lock(mutex);
    return bytes.size();
  }
};

class LoggingSink final : public BodySink {
 public:
  explicit LoggingSink(SinkLog* log) : log_(log) {}
  ~LoggingSink() override {
    const std::lock_guard lock(log_->mutex);
    log_->gone = true;
  }
  bool Take(std::string_view bytes) override {
    const std::lock_guard lock(log_->mutex);
    log_->bytes.append(bytes);
    return !log_->full;
  }

 private:
  SinkLog* log_;
};

HttpServerOptions SinkOptions(SinkLog* log) {
  HttpServerOptions options;
  options.max_body_bytes = 1000;
  options.open_body = [log](const HttpRequest& head,
                            std::function<void()> resume) -> std::unique_ptr<BodySink> {
    if (head.method != "PATCH") return nullptr;
    log->resume = std::move(resume);
    return std::make_unique<LoggingSink>(log);
  };
  return options;
}

TEST_F(HttpServerTest, ASinkTakesABodyBeyondTheLimitAndTheHandlerGetsTheSink) {
  SinkLog log;
  Start(SinkOptions(&log));
  RawClient client(server_->port());
  const std::string body(3 << 20, 'b');
  ASSERT_TRUE(client.Send("PATCH /u HTTP/1.1\r\nHost: h\r\nContent-Length: 3145728\r\n\r\n"));
  ASSERT_TRUE(client.Send(body));
  {
    Exchange exchange = Next();
    EXPECT_EQ(exchange.request.body, "");
    EXPECT_NE(dynamic_cast<LoggingSink*>(exchange.request.body_sink.get()), nullptr);
    EXPECT_EQ(log.bytes, body);
    exchange.response->SendFull(202, {}, "");
  }
  EXPECT_EQ(client.ReadResponse().status, 202);
  EXPECT_TRUE(log.gone);
  // The same connection, a chunked body, and a request that no sink wants.
  log.bytes.clear();
  ASSERT_TRUE(client.Send(
      "PATCH /u HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"));
  Next().response->SendFull(202, {}, "");
  EXPECT_EQ(log.bytes, "abc");
  EXPECT_EQ(client.ReadResponse().status, 202);
  ASSERT_TRUE(client.Send("POST /u HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nxy"));
  EXPECT_EQ(Next().request.body, "xy");
  EXPECT_EQ(client.ReadResponse().status, 500) << "its response was dropped";
  ASSERT_TRUE(client.Send("POST /u HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n"));
  EXPECT_EQ(client.ReadResponse().status, 413);
}

TEST_F(HttpServerTest, AFullSinkSlowsTheClientDownUntilItResumes) {
  SinkLog log;
  log.full = true;
  Start(SinkOptions(&log));
  RawClient client(server_->port());
  const std::string body(32 << 20, 'b');
  std::thread sender([&] {
    client.Send("PATCH /u HTTP/1.1\r\nHost: h\r\nContent-Length: 33554432\r\n\r\n");
    client.Send(body);
  });
  ASSERT_TRUE(Eventually([&] { return log.size() > 0; }));
  size_t before = 0;
  // Each resume lets about one read through, far less than what the client wants to send.
  for (int i = 0; i < 3; ++i) {
    before = log.size();
    log.resume();
    ASSERT_TRUE(Eventually([&] { return log.size() > before; }));
    EXPECT_LE(log.size() - before, size_t{64} << 10);
  }
  EXPECT_LT(log.size(), size_t{1} << 20);
  {
    const std::lock_guard lock(log.mutex);
    log.full = false;
  }
  log.resume();
  Exchange exchange = Next();
  sender.join();
  EXPECT_EQ(log.size(), body.size());
  exchange.response->SendFull(202, {}, "");
  EXPECT_EQ(client.ReadResponse().status, 202);
}

TEST_F(HttpServerTest, ASinkGoesWithAClientThatLeaves) {
  SinkLog log;
  Start(SinkOptions(&log));
  {
    RawClient client(server_->port());
    ASSERT_TRUE(client.Send("PATCH /u HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nabc"));
    ASSERT_TRUE(Eventually([&] { return log.size() == 3; }));
    client.Reset();
  }
  EXPECT_TRUE(Eventually([&] {
    const std::lock_guard lock(log.mutex);
    return log.gone;
  }));
  log.resume();  // late, and no harm
}

TEST_F(HttpServerTest, ConnectionsBeyondTheLimitGet503) {
  HttpServerOptions options;
  options.max_connections = 2;
  StartWith(Echo, options);
  RawClient one(server_->port());
  RawClient two(server_->port());
  one.Send(kGet);
  two.Send(kGet);
  EXPECT_EQ(one.ReadResponse().status, 200);
  EXPECT_EQ(two.ReadResponse().status, 200);
  RawClient three(server_->port());
  EXPECT_EQ(three.ReadResponse().status, 503);
  EXPECT_TRUE(three.ReadsEnd());
}

// ---- Timeouts (fake clock) -------------------------------------------------------------------

class HttpServerTimeoutTest : public HttpServerTest {
 protected:
  void SetUp() override {
    options_.clock = &clock_;
    options_.timeout_resolution = milliseconds(2);
    options_.idle_timeout = seconds(100);
    options_.header_timeout = seconds(10);
    options_.body_timeout = seconds(20);
    options_.write_timeout = seconds(30);
    options_.linger_timeout = seconds(5);
  }
  void TearDown() override { server_.reset(); }  // before the clock

  // The server may set a deadline a moment after the client saw what led to it, so the clock is
  // moved until the deadline must have passed whenever that was.
  bool AdvanceUntil(const std::function<bool()>& condition) {
    return Eventually([&] {
      clock_.Advance(seconds(1));
      return condition();
    });
  }

  FakeClock clock_;
  HttpServerOptions options_;
};

TEST_F(HttpServerTimeoutTest, IdleConnectionIsClosedWithoutAWord) {
  StartWith(Echo, options_);
  RawClient client(server_->port());
  client.Send(kGet);
  EXPECT_EQ(client.ReadResponse().status, 200);
  clock_.Advance(seconds(99));
  client.Send(kGet);
  EXPECT_EQ(client.ReadResponse().status, 200);
  EXPECT_TRUE(AdvanceUntil([&] { return client.Readable(); }));
  EXPECT_TRUE(client.ReadsEnd());
}

TEST_F(HttpServerTimeoutTest, SlowHeadersAndSlowBodyGet408) {
  StartWith(Echo, options_);
  RawClient head(server_->port());
  RawClient body(server_->port());
  head.Send("GET / HTTP/1.1\r\nHost:");
  body.Send("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
  EXPECT_EQ(body.ReadResponse().status, 100);
  EXPECT_TRUE(AdvanceUntil([&] { return head.Readable(); }));
  EXPECT_EQ(head.ReadResponse().status, 408);
  EXPECT_TRUE(head.ReadsEnd());
  EXPECT_TRUE(AdvanceUntil([&] { return body.Readable(); }));
  EXPECT_EQ(body.ReadResponse().status, 408);
  EXPECT_TRUE(body.ReadsEnd());
}

TEST_F(HttpServerTimeoutTest, RequestInProgressIsNotTimedOut) {
  options_.io_threads = 1;
  Start(options_);
  RawClient client(server_->port());
  client.Send(kGet);
  Exchange exchange = Next();
  clock_.Advance(seconds(100000));
  // The sweep has passed when an idle connection beside it is gone.
  RawClient idle(server_->port());
  idle.Send("GET");
  EXPECT_TRUE(AdvanceUntil([&] { return idle.Readable(); }));
  EXPECT_EQ(idle.ReadResponse().status, 408);
  EXPECT_TRUE(exchange.response->SendFull(200, {}, "late"));
  EXPECT_EQ(client.ReadResponse().body, "late");
}

TEST_F(HttpServerTimeoutTest, ClientThatTakesNothingIsClosed) {
  options_.max_buffered_bytes = 64 << 20;
  Start(options_);
  RawClient client(server_->port(), /*receive_buffer_bytes=*/4096);
  client.Send(kGet);
  Exchange exchange = Next();
  Signal closed;
  exchange.response->OnClosed([&] { closed.Set(); });
  exchange.response->StartStream(200, {});
  EXPECT_EQ(exchange.response->Write(std::string(32 << 20, 'x')), WriteResult::kOk);
  EXPECT_TRUE(AdvanceUntil([&] { return closed.IsSet(); }));
  EXPECT_TRUE(exchange.response->closed());
  EXPECT_EQ(exchange.response->Write("more"), WriteResult::kClosed);
}

TEST_F(HttpServerTimeoutTest, ClientThatNeverClosesAfterTheLastResponseIsClosed) {
  StartWith(Echo, options_);
  RawClient client(server_->port());
  client.Send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(client.ReadResponse().status, 200);
  EXPECT_TRUE(client.ReadsEnd());  // the server's half
  EXPECT_EQ(server_->n_connections(), 1);
  EXPECT_TRUE(AdvanceUntil([&] { return server_->n_connections() == 0; }));
}

// ---- Streams ---------------------------------------------------------------------------------

TEST_F(HttpServerTest, StreamIsChunkedAndTheConnectionIsKept) {
  Start();
  RawClient client(server_->port());
  for (int i = 0; i < 2; ++i) {
    client.Send(kGet);
    Exchange exchange = Next();
    EXPECT_TRUE(exchange.response->StartStream(200, {{"Content-Type", "text/event-stream"}}));
    EXPECT_EQ(exchange.response->Write("data: 1\n\n"), WriteResult::kOk);
    ASSERT_TRUE(client.ReadUntil("data: 1\n\n")) << "the stream's first chunk waits for the next";
    EXPECT_EQ(exchange.response->Write(""), WriteResult::kOk);  // must not end the stream
    EXPECT_EQ(exchange.response->Write("data: 2\n\n"), WriteResult::kOk);
    EXPECT_TRUE(exchange.response->Finish());
    EXPECT_EQ(exchange.response->Write("late"), WriteResult::kClosed);
    const RawResponse response = client.ReadResponse();
    EXPECT_EQ(response.headers.Find("Transfer-Encoding"), "chunked");
    EXPECT_TRUE(response.complete);
    EXPECT_EQ(response.body, "data: 1\n\ndata: 2\n\n");
  }
}

TEST_F(HttpServerTest, WritesOfOneBurstBecomeOneChunk) {
  StartWith([](const HttpRequest&, const std::shared_ptr<HttpResponse>& response) {
    response->StartStream(200, {});
    for (int i = 0; i < 100; ++i) response->Write("token ");
    response->Finish();
  });
  RawClient client(server_->port());
  client.Send(kGet);
  const RawResponse response = client.ReadResponse();
  EXPECT_EQ(response.body.size(), 600u);
  EXPECT_EQ(response.n_chunks, 1);
}

TEST_F(HttpServerTest, StreamToHttp10EndsWithTheConnection) {
  Start();
  RawClient client(server_->port());
  client.Send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  Exchange exchange = Next();
  exchange.response->StartStream(200, {});
  exchange.response->Write("one ");
  exchange.response->Write("two");
  exchange.response->Finish();
  const RawResponse response = client.ReadResponse();
  EXPECT_EQ(response.headers.Find("Transfer-Encoding"), std::nullopt);
  EXPECT_EQ(response.headers.Find("Connection"), "close");
  EXPECT_TRUE(response.complete);
  EXPECT_EQ(response.body, "one two");
}

TEST_F(HttpServerTest, FullResponseToHttp10CanKeepTheConnection) {
  StartWith(Echo);
  RawClient client(server_->port());
  for (int i = 0; i < 2; ++i) {
    client.Send("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    const RawResponse response = client.ReadResponse();
    EXPECT_EQ(response.headers.Find("Connection"), "keep-alive");
    EXPECT_EQ(response.body, "/a:");
  }
}

TEST_F(HttpServerTest, StreamOfGivenLengthIsSentAsItIs) {
  Start();
  RawClient client(server_->port());
  client.Send(kGet);
  Exchange exchange = Next();
  exchange.response->StartStream(206, {{"content-length", "6"}});
  exchange.response->Write("abc");
  exchange.response->Write("def");
  EXPECT_TRUE(exchange.response->Finish());
  const RawResponse response = client.ReadResponse();
  EXPECT_EQ(response.headers.Find("Content-Length"), "6");
  EXPECT_EQ(response.headers.Find("Transfer-Encoding"), std::nullopt);
  EXPECT_EQ(response.body, "abcdef");
}

TEST_F(HttpServerTest, StreamThatBreaksItsPromisedLengthIsCut) {
  Start();
  for (const std::string_view body : {"abc", "abcdefg"}) {
    RawClient client(server_->port());
    client.Send(kGet);
    Exchange exchange = Next();
    exchange.response->StartStream(200, {{"Content-Length", "6"}});
    exchange.response->Write(body);
    EXPECT_FALSE(exchange.response->Finish());
    EXPECT_FALSE(client.ReadResponse().complete);
  }
}

TEST_F(HttpServerTest, AbortedOrDroppedStreamNeverLooksComplete) {
  Start();
  for (const std::string version : {"1.1", "1.0"}) {
    for (const bool drop : {false, true}) {
      RawClient client(server_->port());
      client.Send("GET / HTTP/" + version + "\r\nHost: h\r\n\r\n");
      Exchange exchange = Next();
      exchange.response->StartStream(200, {});
      exchange.response->Write("partial");
      if (version == "1.1") {
        // What was written before an abort still arrives.
        if (drop) {
          exchange.response.reset();
        } else {
          exchange.response->Abort();
        }
        const RawResponse response = client.ReadResponse();
        EXPECT_EQ(response.body, "partial");
        EXPECT_FALSE(response.complete);
      } else {
        EXPECT_TRUE(client.ReadUntil("partial"));
        if (drop) {
          exchange.response.reset();
        } else {
          exchange.response->Abort();
        }
        EXPECT_FALSE(client.ReadResponse().complete);
        EXPECT_TRUE(client.was_reset());
      }
    }
  }
}

// ---- Back-pressure ---------------------------------------------------------------------------

TEST_F(HttpServerTest, SlowReaderFillsItsBufferAndStallsNobodyElse) {
  HttpServerOptions options;
  options.max_buffered_bytes = 100'000;
  Start(options);
  RawClient slow(server_->port(), /*receive_buffer_bytes=*/4096);
  slow.Send(kGet);
  Exchange exchange = Next();
  exchange.response->StartStream(200, {});
  const std::string piece(10'000, 's');
  size_t sent = 0;
  // The kernel's buffers take a few MB; then ours fills.
  while (exchange.response->Write(piece) == WriteResult::kOk) {
    sent += piece.size();
    ASSERT_LT(sent, 100u << 20) << "the buffer is not bounded";
  }
  EXPECT_EQ(exchange.response->Write(piece), WriteResult::kFull);

  RawClient other(server_->port());
  other.Send(kGet);
  Next().response->SendFull(200, {}, "not stalled");
  EXPECT_EQ(other.ReadResponse().body, "not stalled");

  // Room comes back when the client reads, and not one byte is lost.
  Signal writable;
  exchange.response->OnWritable([&] { writable.Set(); });
  auto reader = std::async(std::launch::async, [&] { return slow.ReadResponse(); });
  ASSERT_TRUE(writable.Wait());
  EXPECT_EQ(exchange.response->Write(piece), WriteResult::kOk);
  EXPECT_TRUE(exchange.response->Finish());
  const RawResponse response = reader.get();
  EXPECT_TRUE(response.complete);
  EXPECT_EQ(response.body.size(), sent + piece.size());
}

TEST_F(HttpServerTest, OnWritableIsCalledAtOnceIfThereIsRoom) {
  Start();
  RawClient client(server_->port());
  client.Send(kGet);
  Exchange exchange = Next();
  exchange.response->StartStream(200, {});
  Signal writable;
  exchange.response->OnWritable([&] { writable.Set(); });
  EXPECT_TRUE(writable.Wait());
}

TEST_F(HttpServerTest, LargeSingleWriteIsTakenWhenNothingWaits) {
  HttpServerOptions options;
  options.max_buffered_bytes = 1000;
  Start(options);
  RawClient client(server_->port());
  client.Send(kGet);
  Exchange exchange = Next();
  exchange.response->StartStream(200, {{"Content-Length", "5000000"}});
  Signal writable;
  exchange.response->OnWritable([&] { writable.Set(); });
  ASSERT_TRUE(writable.Wait());  // the head is sent
  EXPECT_EQ(exchange.response->Write(std::string(5'000'000, 'x')), WriteResult::kOk);
  EXPECT_TRUE(exchange.response->Finish());
  EXPECT_EQ(client.ReadResponse().body.size(), 5'000'000u);
}

// ---- Clients that leave ----------------------------------------------------------------------

TEST_F(HttpServerTest, ResetWhileTheResponseIsAwaitedIsReported) {
  Start();
  RawClient client(server_->port());
  client.Send(kGet);
  Exchange exchange = Next();
  Signal closed;
  exchange.response->OnClosed([&] { closed.Set(); });
  EXPECT_FALSE(exchange.response->closed());
  client.Reset();
  EXPECT_TRUE(closed.Wait());
  EXPECT_TRUE(exchange.response->closed());
  EXPECT_FALSE(exchange.response->SendFull(200, {}, "too late"));
}

// A full close looks like a half-close until something is sent: the probe finds it out.
TEST_F(HttpServerTest, CloseWhileTheResponseIsAwaitedIsReported) {
  Start();
  RawClient client(server_->port());
  client.Send(kGet);
  Exchange exchange = Next();
  Signal closed;
  exchange.response->OnClosed([&] { closed.Set(); });
  client.Close();
  EXPECT_TRUE(closed.Wait());
}

TEST_F(HttpServerTest, CloseDuringAStreamIsReportedWithinTwoWrites) {
  Start();
  RawClient client(server_->port());
  client.Send(kGet);
  Exchange exchange = Next();
  exchange.response->StartStream(200, {});
  exchange.response->Write("data: 1\n\n");
  ASSERT_TRUE(client.ReadUntil("data: 1\n\n"));
  Signal closed;
  exchange.response->OnClosed([&] { closed.Set(); });
  client.Close();
  // The first write brings the reset back, which needs no second one to be seen.
  exchange.response->Write("data: 2\n\n");
  EXPECT_TRUE(closed.Wait());
  EXPECT_EQ(exchange.response->Write("data: 3\n\n"), WriteResult::kClosed);
}

TEST_F(HttpServerTest, ResetDuringAStreamIsReportedWithoutAWrite) {
  Start();
  RawClient client(server_->port());
  client.Send(kGet);
  Exchange exchange = Next();
  exchange.response->StartStream(200, {});
  exchange.response->Write("data: 1\n\n");
  ASSERT_TRUE(client.ReadUntil("data: 1\n\n"));
  Signal closed;
  exchange.response->OnClosed([&] { closed.Set(); });
  client.Reset();
  EXPECT_TRUE(closed.Wait());
}

TEST_F(HttpServerTest, ResetOfAClientThatPipelinedFarAheadIsReported) {
  Start();
  RawClient client(server_->port());
  std::string ahead(kGet);
  while (ahead.size() < 200'000) ahead += kGet;  // more than is read ahead of the answer
  client.Send(ahead);
  Exchange exchange = Next();
  Signal closed;
  exchange.response->OnClosed([&] { closed.Set(); });
  client.Reset();
  EXPECT_TRUE(closed.Wait());
}

TEST_F(HttpServerTest, HalfClosedClientGetsItsAnswer) {
  Start();
  for (const bool stream : {false, true}) {
    RawClient client(server_->port());
    client.Send(kGet);
    client.ShutdownWrite();
    Exchange exchange = Next();
    std::atomic<bool> closed = false;
    exchange.response->OnClosed([&] { closed = true; });
    EXPECT_EQ(client.ReadResponse().status, 100);  // the probe: the server has seen the half-close
    if (stream) {
      exchange.response->StartStream(200, {});
      for (int i = 0; i < 10; ++i) {
        EXPECT_EQ(exchange.response->Write("x"), WriteResult::kOk);
      }
      exchange.response->Finish();
    } else {
      exchange.response->SendFull(200, {}, "xxxxxxxxxx");
    }
    const RawResponse response = client.ReadResponse();
    EXPECT_TRUE(response.complete);
    EXPECT_EQ(response.body, "xxxxxxxxxx");
    EXPECT_TRUE(client.ReadsEnd());
    EXPECT_FALSE(closed);
  }
}

TEST_F(HttpServerTest, HalfCloseAfterPipelinedRequestsServesThemAll) {
  StartWith(Echo);
  RawClient client(server_->port());
  client.Send(std::string(kGet) + std::string(kGet) + std::string(kGet));
  client.ShutdownWrite();
  int n_answers = 0;
  while (n_answers < 3) {
    const RawResponse response = client.ReadResponse();
    if (response.status == 100) continue;  // a probe
    ASSERT_EQ(response.body, "/x:");
    ++n_answers;
  }
  EXPECT_TRUE(client.ReadsEnd());
}

TEST_F(HttpServerTest, EndInTheMiddleOfARequestClosesWithoutTheHandler) {
  std::atomic<int> n_calls = 0;
  StartWith([&](const HttpRequest&, const std::shared_ptr<HttpResponse>& response) {
    ++n_calls;
    response->SendFull(200, {}, "");
  });
  RawClient client(server_->port());
  client.Send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc");
  client.ShutdownWrite();
  EXPECT_TRUE(client.ReadsEnd());
  EXPECT_EQ(n_calls, 0);
}

TEST_F(HttpServerTest, OnClosedIsNotCalledAfterTheResponseIsComplete) {
  Start();
  RawClient client(server_->port());
  client.Send(kGet);
  Exchange exchange = Next();
  const auto alive = std::make_shared<int>(0);
  exchange.response->OnClosed([alive] { ADD_FAILURE() << "called"; });
  EXPECT_EQ(alive.use_count(), 2);
  exchange.response->SendFull(200, {}, "done");
  EXPECT_EQ(alive.use_count(), 1) << "the callback outlives the response";
  EXPECT_EQ(client.ReadResponse().body, "done");
  client.Reset();
  server_->Stop();
}

// ---- Start, drain, stop ----------------------------------------------------------------------

TEST_F(HttpServerTest, PortInUseAndBadAddressesAreTypedErrors) {
  StartWith(Echo);
  HttpServerOptions options;
  options.port = server_->port();
  EXPECT_EQ(HttpServer::Start(options, Echo).error().code, ErrorCode::kAlreadyExists);
  options.port = 0;
  options.host = "192.0.2.1";  // RFC 5737: nobody's
  EXPECT_EQ(HttpServer::Start(options, Echo).error().code, ErrorCode::kInvalidArgument);
  options.host = "no such host";
  EXPECT_EQ(HttpServer::Start(options, Echo).error().code, ErrorCode::kInvalidArgument);
  options.host = "127.0.0.1";
  options.io_threads = 0;
  EXPECT_EQ(HttpServer::Start(options, Echo).error().code, ErrorCode::kInvalidArgument);
}

TEST_F(HttpServerTest, ListensOnIpv6) {
  HttpServerOptions options;
  options.host = "::1";
  auto server = HttpServer::Start(
      options, [this](HttpRequest request, std::shared_ptr<HttpResponse> response) {
        exchanges_.TryPush({std::move(request), std::move(response)});
      });
  if (!server) GTEST_SKIP() << "no IPv6 here: " << server.error().message;
  RawClient client((*server)->port(), 0, /*ipv6=*/true);
  client.Send(kGet);
  Exchange exchange = Next();
  EXPECT_THAT(exchange.request.remote_address, ::testing::StartsWith("[::1]:"));
  exchange.response->SendFull(200, {}, "six");
  EXPECT_EQ(client.ReadResponse().body, "six");
}

TEST_F(HttpServerTest, DrainFinishesWhatRunsAndClosesWhatIdles) {
  Start();
  RawClient idle(server_->port());
  idle.Send(kGet);
  Next().response->SendFull(200, {}, "");
  EXPECT_EQ(idle.ReadResponse().status, 200);
  RawClient busy(server_->port());
  busy.Send(kGet);
  Exchange exchange = Next();
  RawClient streaming(server_->port());
  streaming.Send(kGet);
  Exchange stream = Next();
  stream.response->StartStream(200, {});

  auto drained = std::async(std::launch::async, [&] { return server_->Drain(kPatience); });
  EXPECT_TRUE(idle.ReadsEnd());
  RawClient late(server_->port());
  EXPECT_FALSE(late.connected() && late.Send(kGet) && late.ReadSome());
  exchange.response->SendFull(200, {}, "finished");
  const RawResponse response = busy.ReadResponse();
  EXPECT_EQ(response.body, "finished");
  EXPECT_EQ(response.headers.Find("Connection"), "close");
  stream.response->Write("the end");
  stream.response->Finish();
  EXPECT_EQ(streaming.ReadResponse().body, "the end");
  EXPECT_TRUE(streaming.ReadsEnd());
  EXPECT_TRUE(drained.get());
  EXPECT_EQ(server_->n_connections(), 0);
}

TEST_F(HttpServerTest, DrainCutsWhatIsNotDoneInTime) {
  Start();
  RawClient client(server_->port());
  client.Send(kGet);
  Exchange exchange = Next();
  Signal closed;
  exchange.response->OnClosed([&] { closed.Set(); });
  EXPECT_FALSE(server_->Drain(milliseconds(1)));
  EXPECT_TRUE(closed.IsSet()) << "Drain returned before the request knew";
  EXPECT_TRUE(client.ReadsEnd());
}

TEST_F(HttpServerTest, ResponseMayOutliveTheServer) {
  Start();
  RawClient client(server_->port());
  client.Send(kGet);
  Exchange exchange = Next();
  exchange.response->StartStream(200, {});
  server_.reset();
  EXPECT_TRUE(exchange.response->closed());
  EXPECT_EQ(exchange.response->Write("x"), WriteResult::kClosed);
  EXPECT_FALSE(exchange.response->Finish());
  bool called = false;
  exchange.response->OnClosed([&] { called = true; });
  EXPECT_TRUE(called);
}

TEST_F(HttpServerTest, TwoServersCanShareThreads) {
  auto io = IoThreads::Start(2);
  ASSERT_TRUE(io);
  HttpServerOptions options;
  options.io = *io;
  StartWith(Echo, options);
  auto other = HttpServer::Start(options, Echo);
  ASSERT_TRUE(other);
  RawClient one(server_->port());
  server_->Stop();
  RawClient two((*other)->port());
  two.Send(kGet);
  EXPECT_EQ(two.ReadResponse().body, "/x:") << "stopping one server stopped the other";
}

// For the thread sanitizer: streams written by other threads while clients come, read and leave.
TEST_F(HttpServerTest, ManyStreamsFromManyThreads) {
  HttpServerOptions options;
  options.io_threads = 2;
  options.max_buffered_bytes = 4096;
  std::atomic<int> n_closed = 0;
  BoundedQueue<std::shared_ptr<HttpResponse>> work(1000);
  StartWith(
      [&](const HttpRequest&, std::shared_ptr<HttpResponse> response) {
        response->OnClosed([&] { ++n_closed; });
        work.TryPush(std::move(response));
      },
      options);
  std::vector<std::jthread> writers;
  for (int i = 0; i < 3; ++i) {
    writers.emplace_back([&](std::stop_token stop) {
      while (auto response = work.Pop(stop)) {
        (*response)->StartStream(200, {});
        for (int n = 0; n < 50;) {
          const WriteResult result = (*response)->Write("data: some token or other\n\n");
          if (result == WriteResult::kClosed) break;
          n += result == WriteResult::kOk;
        }
        (*response)->Finish();
      }
    });
  }
  std::vector<std::jthread> clients;
  std::atomic<int> n_complete = 0;
  for (int i = 0; i < 4; ++i) {
    clients.emplace_back([&, i] {
      for (int n = 0; n < 25; ++n) {
        RawClient client(server_->port());
        client.Send(kGet);
        if ((n + i) % 3 == 0) {
          client.ReadSome();
          client.Reset();
        } else {
          const RawResponse response = client.ReadResponse();
          n_complete += response.complete && response.body.size() == 50 * 27;
        }
      }
    });
  }
  clients.clear();
  writers.clear();
  server_->Stop();
  EXPECT_EQ(n_complete, 66);
}

}  // namespace
}  // namespace tandem::net
