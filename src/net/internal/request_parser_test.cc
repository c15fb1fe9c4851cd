#include "net/internal/request_parser.h"

#include <random>
#include <string>

#include <gtest/gtest.h>

namespace tandem::net::internal {
namespace {

using Outcome = RequestParser::Outcome;

constexpr RequestParser::Limits kLimits{.max_header_bytes = 1024, .max_body_bytes = 64};

struct Parsed {
  Outcome outcome = Outcome::kNeedMore;
  HttpRequest request;
  int status = 0;
  std::string rest;  // what was not consumed
};

// Feeds `pieces` as a connection does: what was not consumed comes again with the next piece.
Parsed ParsePieces(const std::vector<std::string>& pieces,
                   const RequestParser::Limits& limits = kLimits) {
  RequestParser parser(limits);
  Parsed parsed;
  for (const std::string& piece : pieces) {
    parsed.rest += piece;
    if (parsed.outcome != Outcome::kNeedMore) continue;
    size_t used = 0;
    parsed.outcome = parser.Feed(parsed.rest, &used);
    parsed.rest.erase(0, used);
  }
  parsed.status = parser.error_status();
  if (parsed.outcome == Outcome::kComplete) parsed.request = parser.TakeRequest();
  return parsed;
}

Parsed ParseAll(const std::string& bytes, const RequestParser::Limits& limits = kLimits) {
  return ParsePieces({bytes}, limits);
}

constexpr std::string_view kWithLength =
    "POST /v1/x?a=b&c HTTP/1.1\r\nHost: h\r\nX-Tag:  v v \r\nContent-Length: 5\r\n\r\nhello";
constexpr std::string_view kChunked =
    "POST /v1/x?a=b&c HTTP/1.1\r\nHost: h\r\nX-Tag: v v\r\nTransfer-Encoding: Chunked\r\n\r\n"
    "2;ext=1\r\nhe\r\n3\r\nllo\r\n0\r\nX-Trailer: t\r\n\r\n";

TEST(RequestParserTest, EverySplitInThreeGivesTheSameRequest) {
  for (const std::string_view whole : {kWithLength, kChunked}) {
    const std::string bytes(whole);
    for (size_t i = 0; i <= bytes.size(); ++i) {
      for (size_t j = i; j <= bytes.size(); ++j) {
        const Parsed parsed = ParsePieces(
            {bytes.substr(0, i), bytes.substr(i, j - i), bytes.substr(j) + "GET /next"});
        ASSERT_EQ(parsed.outcome, Outcome::kComplete) << i << " " << j;
        ASSERT_EQ(parsed.request.method, "POST");
        ASSERT_EQ(parsed.request.target, "/v1/x?a=b&c");
        ASSERT_EQ(parsed.request.path, "/v1/x");
        ASSERT_EQ(parsed.request.query, "a=b&c");
        ASSERT_EQ(parsed.request.headers.Find("x-tag"), "v v");
        ASSERT_EQ(parsed.request.headers.Find("x-trailer"), std::nullopt);
        ASSERT_EQ(parsed.request.body, "hello");
        ASSERT_EQ(parsed.rest, "GET /next") << i << " " << j;
      }
    }
  }
}

TEST(RequestParserTest, SkipsLineBreaksBeforeARequest) {
  const Parsed parsed = ParseAll("\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_EQ(parsed.outcome, Outcome::kComplete);
  EXPECT_EQ(parsed.request.method, "GET");
}

TEST(RequestParserTest, RefusesWhatIsNotHttpOrCouldBeReadTwoWays) {
  const std::pair<std::string, int> cases[] = {
      {"\x16\x03\x01\x02", 400},  // a TLS client
      {"GET\r\n\r\n", 400},
      {"GET / FTP/1.1\r\n\r\n", 400},
      {"GET / HTTP/2.0\r\n\r\n", 505},
      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
      {"GET / HTTP/1.1\r\n\r\n", 400},  // no Host
      {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a\r\nNo colon\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n", 400},
      {"GET / HTTP/1.1\nHost: a\n\n", 400},
      {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
       400},
      {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
       400},
      {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501},
      {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", 501},
      {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
       400},
      {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nheXX0\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a\r\nExpect: a-miracle\r\n\r\n", 417},
  };
  for (const auto& [bytes, status] : cases) {
    const Parsed parsed = ParseAll(bytes);
    EXPECT_EQ(parsed.outcome, Outcome::kError) << bytes;
    EXPECT_EQ(parsed.status, status) << bytes;
  }
}

TEST(RequestParserTest, HeaderLimitHoldsForOneLineForManyAndForAnEndlessOne) {
  const std::string start = "GET / HTTP/1.1\r\nHost: a\r\n";
  EXPECT_EQ(ParseAll("GET /" + std::string(1024, 'a') + " HTTP/1.1\r\n\r\n").status, 431);
  EXPECT_EQ(ParseAll(start + "X: " + std::string(1024, 'a') + "\r\n\r\n").status, 431);
  EXPECT_EQ(ParseAll(start + "X: " + std::string(1024, 'a')).status, 431);
  // Line by line, so that no single piece is too long.
  std::vector<std::string> pieces = {start};
  for (int i = 0; i < 100; ++i) pieces.push_back("Name-" + std::to_string(i) + ": value\r\n");
  EXPECT_EQ(ParsePieces(pieces).status, 431);
  EXPECT_EQ(ParseAll(start + "X: " + std::string(900, 'a') + "\r\n\r\n").outcome,
            Outcome::kComplete);
}

TEST(RequestParserTest, FieldCountIsLimited) {
  std::string bytes = "GET / HTTP/1.1\r\nHost: a\r\n";
  for (int i = 0; i < 200; ++i) bytes += "a:\r\n";
  EXPECT_EQ(ParseAll(bytes + "\r\n", {.max_header_bytes = 1 << 20, .max_body_bytes = 0}).status,
            431);
}

TEST(RequestParserTest, BodyLimitHoldsForBothFramings) {
  const std::string with_length = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ";
  const std::string chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  const std::string full(64, 'b');
  EXPECT_EQ(ParseAll(with_length + "65\r\n\r\n").status, 413);  // before any of the body comes
  EXPECT_EQ(ParseAll(with_length + "64\r\n\r\n" + full).outcome, Outcome::kComplete);
  EXPECT_EQ(ParseAll(chunked + "41\r\n").status, 413);
  EXPECT_EQ(ParseAll(chunked + "40\r\n" + full + "\r\n1\r\n").status, 413);
  EXPECT_EQ(ParseAll(chunked + "40\r\n" + full + "\r\n0\r\n\r\n").outcome, Outcome::kComplete);
}

TEST(RequestParserTest, EndlessChunkLineOrTrailersAreRefused) {
  const std::string chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  EXPECT_EQ(ParseAll(chunked + "1;" + std::string(2000, 'x')).status, 400);
  EXPECT_EQ(ParseAll(chunked + "0\r\nX: " + std::string(2000, 'x')).status, 400);
}

TEST(RequestParserTest, KeepAliveFollowsVersionAndConnectionHeader) {
  const auto keeps = [](const std::string& bytes) {
    RequestParser parser(kLimits);
    size_t used = 0;
    EXPECT_EQ(parser.Feed(bytes, &used), Outcome::kComplete);
    return parser.wants_keep_alive();
  };
  EXPECT_TRUE(keeps("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
  EXPECT_FALSE(keeps("GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n"));
  EXPECT_FALSE(keeps("GET / HTTP/1.0\r\n\r\n"));
  EXPECT_TRUE(keeps("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
}

// Whatever comes, in whatever pieces: an answer, and no assertion or sanitizer report.
TEST(RequestParserTest, MutatedRequestsNeverCrash) {
  std::mt19937 random(1);
  int n_complete = 0;
  int n_error = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string bytes(round % 2 == 0 ? kWithLength : kChunked);
    for (unsigned n = random() % 4; n > 0; --n) {
      const size_t at = random() % bytes.size();
      switch (random() % 3) {
        case 0:
          bytes[at] = static_cast<char>(random());
          break;
        case 1:
          bytes.erase(at, random() % 4);
          break;
        default:
          bytes.insert(at, 1, "\r\n:0; f"[random() % 7]);
          break;
      }
      if (bytes.empty()) bytes = "x";
    }
    std::vector<std::string> pieces;
    for (size_t at = 0; at < bytes.size();) {
      const size_t n = 1 + random() % 20;
      pieces.push_back(bytes.substr(at, n));
      at += n;
    }
    const Parsed parsed = ParsePieces(pieces);
    n_complete += parsed.outcome == Outcome::kComplete;
    n_error += parsed.outcome == Outcome::kError;
  }
  EXPECT_GT(n_complete, 1000);
  EXPECT_GT(n_error, 1000);
}

}  // namespace
}  // namespace tandem::net::internal
