#include "net/internal/response_parser.h"

#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace tandem::net::internal {
namespace {

using Outcome = ResponseParser::Outcome;

struct Collector final : ResponseParser::Sink {
  void OnParsedHead(ClientResponseHead parsed) override { head = std::move(parsed); }
  void OnParsedBody(std::string_view bytes) override { body += bytes; }
  ClientResponseHead head;
  std::string body;
};

struct Parsed {
  Outcome outcome = Outcome::kNeedMore;
  ClientResponseHead head;
  std::string body;
  std::string rest;
  Error error;
  bool keep_alive = false;
};

// Feeds `pieces` as a call does: what was not consumed again with the next, interim responses
// passed over. at_end: the peer closes after them.
Parsed ParsePieces(const std::vector<std::string>& pieces, bool at_end = false,
                   bool head_only = false) {
  Collector collector;
  auto parser = std::make_unique<ResponseParser>(&collector, 1024, head_only);
  Parsed parsed;
  for (const std::string& piece : pieces) {
    parsed.rest += piece;
    while (parsed.outcome == Outcome::kNeedMore) {
      size_t used = 0;
      parsed.outcome = parser->Feed(parsed.rest, &used);
      parsed.rest.erase(0, used);
      if (parsed.outcome != Outcome::kInterim) break;
      parser = std::make_unique<ResponseParser>(&collector, 1024, head_only);
      parsed.outcome = Outcome::kNeedMore;
    }
  }
  if (at_end && parsed.outcome == Outcome::kNeedMore) parsed.outcome = parser->FeedEnd();
  parsed.head = collector.head;
  parsed.body = collector.body;
  parsed.error = parser->error();
  parsed.keep_alive = parser->may_keep_alive();
  return parsed;
}

TEST(ResponseParserTest, EverySplitInThreeGivesTheSameResponse) {
  const std::string head = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX-Tag: v\r\n";
  for (const std::string& bytes :
       {head + "Content-Length: 5\r\n\r\nhello",
        head + "Transfer-Encoding: chunked\r\n\r\n2;x=1\r\nhe\r\n3\r\nllo\r\n0\r\nT: t\r\n\r\n"}) {
    for (size_t i = 0; i <= bytes.size(); ++i) {
      for (size_t j = i; j <= bytes.size(); ++j) {
        const Parsed parsed =
            ParsePieces({bytes.substr(0, i), bytes.substr(i, j - i), bytes.substr(j) + "surplus"});
        ASSERT_EQ(parsed.outcome, Outcome::kComplete) << i << " " << j;
        ASSERT_EQ(parsed.head.status, 200);
        ASSERT_EQ(parsed.head.headers.Find("x-tag"), "v");
        ASSERT_EQ(parsed.head.headers.Find("t"), std::nullopt);
        ASSERT_EQ(parsed.body, "hello");
        ASSERT_EQ(parsed.rest, "surplus");
        ASSERT_TRUE(parsed.keep_alive);
      }
    }
  }
}

TEST(ResponseParserTest, BodyWithoutLengthEndsWithTheConnection) {
  const Parsed parsed = ParsePieces({"HTTP/1.1 200 OK\r\n\r\n", "some ", "body"}, /*at_end=*/true);
  EXPECT_EQ(parsed.outcome, Outcome::kComplete);
  EXPECT_EQ(parsed.body, "some body");
  EXPECT_FALSE(parsed.keep_alive);
}

TEST(ResponseParserTest, SomeResponsesHaveNoBodyWhateverTheySay) {
  EXPECT_EQ(ParsePieces({"HTTP/1.1 204 No Content\r\n\r\n"}).outcome, Outcome::kComplete);
  EXPECT_EQ(ParsePieces({"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"}).outcome,
            Outcome::kComplete);
  EXPECT_EQ(ParsePieces({"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"}, false, true).outcome,
            Outcome::kComplete);
}

TEST(ResponseParserTest, EndInTheMiddleIsAnErrorThatSaysWhere) {
  const std::pair<std::string, std::string> cases[] = {
      {"", "the peer closed the connection unanswered"},
      {"HTTP/1.1 200", "the peer cut the response in its headers"},
      {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", "the peer cut the response in its body"},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
       "the peer cut the response in its body"},
  };
  for (const auto& [bytes, message] : cases) {
    const Parsed parsed = ParsePieces({bytes}, /*at_end=*/true);
    EXPECT_EQ(parsed.outcome, Outcome::kError) << bytes;
    EXPECT_EQ(parsed.error.message, message);
    EXPECT_EQ(parsed.error.code, ErrorCode::kUnavailable);
  }
}

TEST(ResponseParserTest, NonsenseIsRefused) {
  for (const std::string& bytes : {
           std::string("SSH-2.0-OpenSSH\r\n\r\n"),
           std::string("HTTP/2.0 200 OK\r\n\r\n"),
           std::string("HTTP/1.1 abc OK\r\n\r\n"),
           std::string("HTTP/1.1 101 Switching Protocols\r\n\r\n"),
           std::string("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
           std::string("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
           std::string("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"),
           std::string("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;" + std::string(2000, 'x'),
       }) {
    const Parsed parsed = ParsePieces({bytes});
    EXPECT_EQ(parsed.outcome, Outcome::kError) << bytes;
    EXPECT_EQ(parsed.error.code, ErrorCode::kCorrupt) << bytes;
  }
}

TEST(ResponseParserTest, HeaderLimitHoldsForOneLineAndForMany) {
  EXPECT_EQ(ParsePieces({"HTTP/1.1 200 OK\r\nX: " + std::string(2000, 'x')}).error.code,
            ErrorCode::kResourceExhausted);
  std::vector<std::string> pieces = {"HTTP/1.1 200 OK\r\n"};
  for (int i = 0; i < 100; ++i) pieces.push_back("Name-" + std::to_string(i) + ": value\r\n");
  EXPECT_EQ(ParsePieces(pieces).error.code, ErrorCode::kResourceExhausted);
}

}  // namespace
}  // namespace tandem::net::internal
