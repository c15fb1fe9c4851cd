#include "net/transfer.h"

#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "net/testing/fake_origin.h"

namespace tandem::net {
namespace {

using ::testing::HasSubstr;

constexpr size_t kEnough = 1UL << 20;

class TransferTest : public ::testing::Test {
 protected:
  TransferTest() {
    for (const char* name : {"http_proxy", "all_proxy", "ALL_PROXY"}) ::unsetenv(name);
  }

  Result<TextReply> Get(TransferRequest request, size_t max_bytes = kEnough) {
    return FetchText(request, clock_, stop_.get_token(), max_bytes);
  }

  FakeClock clock_;
  std::stop_source stop_;
};

FakeOrigin::Reply Text(std::string body) { return {.body = std::move(body)}; }

TEST_F(TransferTest, GetReturnsStatusHeadersAndBody) {
  FakeOrigin origin([](const FakeOrigin::Request&) {
    return FakeOrigin::Reply{
        .status = 404, .headers = {{"X-Error-Code", "EntryNotFound"}}, .body = "no"};
  });
  const auto reply = Get({.url = origin.url("/a?b=c"), .headers = {{"X-One", "1"}}});
  ASSERT_TRUE(reply) << reply.error().message;
  EXPECT_EQ(reply->head.status, 404);
  EXPECT_EQ(reply->head.headers.Find("x-error-code"), "EntryNotFound");
  EXPECT_EQ(reply->body, "no");
  ASSERT_EQ(origin.requests().size(), 1U);
  EXPECT_EQ(origin.requests()[0].target, "/a?b=c");
  EXPECT_EQ(origin.requests()[0].headers.Find("x-one"), "1");
  EXPECT_EQ(origin.requests()[0].headers.Find("accept-encoding"), "identity");
}

TEST_F(TransferTest, HeadReadsHeadersOnly) {
  FakeOrigin origin([](const FakeOrigin::Request&) { return Text("a body"); });
  const auto reply = Get({.url = origin.url("/"), .method = TransferRequest::Method::kHead});
  ASSERT_TRUE(reply) << reply.error().message;
  EXPECT_EQ(reply->head.headers.Find("content-length"), "6");
  EXPECT_EQ(reply->body, "");
}

TEST_F(TransferTest, TheTokenIsSentToItsOriginAndNeverToAnother) {
  FakeOrigin cdn([](const FakeOrigin::Request&) { return Text("bytes"); });
  FakeOrigin hub([&](const FakeOrigin::Request& request) {
    if (request.target == "/first") return FakeOrigin::Redirect("/second");
    return FakeOrigin::Redirect(cdn.url("/blob?signature=s3cret"));
  });
  const auto reply = Get({.url = hub.url("/first"), .bearer_token = "hf_abc"});
  ASSERT_TRUE(reply) << reply.error().message;
  EXPECT_EQ(reply->body, "bytes");
  EXPECT_TRUE(reply->head.left_origin);
  ASSERT_EQ(hub.requests().size(), 2U);
  EXPECT_EQ(hub.requests()[0].headers.Find("authorization"), "Bearer hf_abc");
  EXPECT_EQ(hub.requests()[1].headers.Find("authorization"), "Bearer hf_abc");
  ASSERT_EQ(cdn.requests().size(), 1U);
  EXPECT_FALSE(cdn.requests()[0].headers.Find("authorization"));
}

TEST_F(TransferTest, AWayBackToTheOriginDoesNotBringTheTokenBack) {
  std::string hub_url;
  FakeOrigin other([&](const FakeOrigin::Request&) {
    return FakeOrigin::Redirect(hub_url + "/delete?everything");
  });
  FakeOrigin hub([&](const FakeOrigin::Request& request) {
    return request.target == "/first" ? FakeOrigin::Redirect(other.url("/")) : Text("done");
  });
  hub_url = hub.url();
  const auto reply = Get({.url = hub.url("/first"), .bearer_token = "hf_abc"});
  ASSERT_TRUE(reply) << reply.error().message;
  ASSERT_EQ(hub.requests().size(), 2U);
  EXPECT_FALSE(hub.requests()[1].headers.Find("authorization"));
}

TEST_F(TransferTest, SameOriginModeReturnsTheRedirectThatLeaves) {
  FakeOrigin cdn([](const FakeOrigin::Request&) { return Text("bytes"); });
  FakeOrigin hub([&](const FakeOrigin::Request& request) {
    if (request.target == "/old-name") return FakeOrigin::Redirect("/new-name");
    return FakeOrigin::Redirect(cdn.url("/blob"), {{"X-Linked-Size", "5"}});
  });
  const auto reply = Get({.url = hub.url("/old-name"),
                          .method = TransferRequest::Method::kHead,
                          .redirects = TransferRequest::Redirects::kSameOrigin});
  ASSERT_TRUE(reply) << reply.error().message;
  EXPECT_EQ(reply->head.status, 302);
  EXPECT_EQ(reply->head.url, hub.url("/new-name"));
  EXPECT_EQ(reply->head.headers.Find("x-linked-size"), "5");
  EXPECT_TRUE(cdn.requests().empty());
}

TEST_F(TransferTest, EndlessRedirectsEnd) {
  FakeOrigin origin([](const FakeOrigin::Request&) { return FakeOrigin::Redirect("/again"); });
  const auto reply = Get({.url = origin.url("/"), .max_redirects = 3});
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_EQ(origin.requests().size(), 4U);
}

TEST_F(TransferTest, ACutBodyIsUnavailable) {
  FakeOrigin origin([](const FakeOrigin::Request&) {
    return FakeOrigin::Reply{.body = std::string(1000, 'x'), .cut_at = 10};
  });
  const auto reply = Get({.url = origin.url("/file?signature=s3cret")});
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(reply.error().message, HasSubstr("/file"));
  EXPECT_THAT(reply.error().message, Not(HasSubstr("s3cret")));
}

TEST_F(TransferTest, AnAnswerThatIsNotHttpAndNobodyListeningAreErrors) {
  int port = 0;
  {
    FakeOrigin origin([](const FakeOrigin::Request&) { return Text(""); });
    port = origin.port();
  }
  const auto reply = Get({.url = fmt::format("http://127.0.0.1:{}/", port)});
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code, ErrorCode::kUnavailable);
}

TEST_F(TransferTest, AStalledTransferIsGivenUpOnTheCallersClock) {
  FakeOrigin origin([this](const FakeOrigin::Request&) {
    return FakeOrigin::Reply{.body = std::string(100'000, 'x'),
                             .pause_at = 10,
                             .on_pause = [this] { clock_.Advance(std::chrono::seconds(31)); },
                             .hang = true};
  });
  const auto reply = Get({.url = origin.url("/"), .stall_window = std::chrono::seconds(30)});
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code, ErrorCode::kDeadlineExceeded);
}

TEST_F(TransferTest, AStopEndsATransferThatWaits) {
  FakeOrigin origin([this](const FakeOrigin::Request&) {
    return FakeOrigin::Reply{.body = std::string(100, 'x'),
                             .pause_at = 10,
                             .on_pause = [this] { stop_.request_stop(); },
                             .hang = true};
  });
  const auto reply = Get({.url = origin.url("/")});
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code, ErrorCode::kCancelled);
}

TEST_F(TransferTest, ABodyAboveTheLimitIsRefused) {
  FakeOrigin origin([](const FakeOrigin::Request&) { return Text(std::string(1001, 'x')); });
  EXPECT_TRUE(Get({.url = origin.url("/")}, 1001));
  const auto reply = Get({.url = origin.url("/")}, 1000);
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code, ErrorCode::kResourceExhausted);
}

TEST_F(TransferTest, EndlessHeadersAreRefused) {
  FakeOrigin origin([](const FakeOrigin::Request&) {
    FakeOrigin::Reply reply = Text("");
    for (int i = 0; i < 200; ++i) reply.headers.Add("X-Filler", std::string(1000, 'x'));
    return reply;
  });
  const auto reply = Get({.url = origin.url("/")});
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code, ErrorCode::kCorrupt);
}

TEST_F(TransferTest, OtherSchemesCredentialsAndLineBreaksAreRefused) {
  for (const char* url : {"file:///etc/passwd", "ftp://example.org/x", "not a url", "",
                          "http://user:secret@127.0.0.1/", "gopher://127.0.0.1/"}) {
    const auto reply = Get({.url = url});
    ASSERT_FALSE(reply) << url;
    EXPECT_EQ(reply.error().code, ErrorCode::kInvalidArgument) << url;
    EXPECT_THAT(reply.error().message, Not(HasSubstr("secret")));
  }
  const auto reply = Get({.url = "http://127.0.0.1:1/", .bearer_token = "abc\r\nX-Evil: 1"});
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code, ErrorCode::kInvalidArgument);
}

TEST_F(TransferTest, TheProxyOfTheEnvironmentIsUsed) {
  FakeOrigin proxy([](const FakeOrigin::Request& request) { return Text(request.target); });
  ::setenv("http_proxy", proxy.url().c_str(), 1);
  const auto reply = Get({.url = "http://hub.invalid/api"});
  ::unsetenv("http_proxy");
  ASSERT_TRUE(reply) << reply.error().message;
  EXPECT_EQ(reply->body, "http://hub.invalid/api");
}

TEST(ResolveRedirectTest, RelativeAbsoluteAndOtherOrigins) {
  const std::string from = "https://hub.example/a/b?x=1";
  EXPECT_EQ(ResolveRedirect(from, "c")->url, "https://hub.example/a/c");
  EXPECT_TRUE(ResolveRedirect(from, "/c")->same_origin);
  EXPECT_TRUE(ResolveRedirect(from, "https://HUB.example:443/c")->same_origin);
  EXPECT_FALSE(ResolveRedirect(from, "https://hub.example:444/c")->same_origin);
  EXPECT_FALSE(ResolveRedirect(from, "https://cdn.example/c")->same_origin);
  EXPECT_FALSE(ResolveRedirect(from, "//cdn.example/c")->same_origin);
  EXPECT_FALSE(ResolveRedirect("http://hub.example/", "https://hub.example/")->same_origin);
}

TEST(ResolveRedirectTest, DowngradesForeignSchemesAndCredentialsAreRefused) {
  const std::string from = "https://hub.example/a?signature=s3cret";
  for (const char* location : {"http://hub.example/a", "ftp://hub.example/a", "file:///etc/passwd",
                               "https://user:pw@hub.example/"}) {
    const auto hop = ResolveRedirect(from, location);
    ASSERT_FALSE(hop) << location;
    EXPECT_EQ(hop.error().code, ErrorCode::kFailedPrecondition) << location;
    EXPECT_THAT(hop.error().message, Not(HasSubstr("s3cret")));
  }
  EXPECT_TRUE(ResolveRedirect("http://hub.example/", "https://hub.example/"));
}

TEST(UrlEncodeTest, KeepsUnreservedCharactersOnly) {
  EXPECT_EQ(UrlEncode("Q4_K-M.gguf~"), "Q4_K-M.gguf~");
  EXPECT_EQ(UrlEncode("a b/c%\xC3\xA9?"), "a%20b%2Fc%25%C3%A9%3F");
}

}  // namespace
}  // namespace tandem::net
