#include "net/sse.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::net {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// "event|id|data" of each event.
std::vector<std::string> ParsePieces(const std::vector<std::string_view>& pieces) {
  std::vector<std::string> events;
  SseParser parser([&](const SseEvent& event) {
    events.push_back(event.event + "|" + event.id + "|" + event.data);
  });
  for (const std::string_view piece : pieces) EXPECT_TRUE(parser.Push(piece));
  return events;
}

std::vector<std::string> Parse(std::string_view text) { return ParsePieces({text}); }

TEST(SseFormatTest, EventsAreWrittenAsTheStandardReads) {
  std::string out;
  AppendSseEvent("{\"a\":1}", &out);
  EXPECT_EQ(out, "data: {\"a\":1}\n\n");
  out.clear();
  AppendSseEvent("error", "7", "one\r\ntwo\rthree\n", &out);
  EXPECT_EQ(out, "event: error\nid: 7\ndata: one\ndata: two\ndata: three\ndata: \n\n");
  out.clear();
  AppendSseEvent("a\nb", "", "", &out);
  EXPECT_EQ(out, "event: a b\ndata: \n\n");
  out.clear();
  AppendSseComment("keep-alive", &out);
  EXPECT_EQ(out, ": keep-alive\n\n");
  out.clear();
  AppendSseComment("one\ndata: two", &out);
  EXPECT_EQ(out, ": one\n: data: two\n\n");
}

TEST(SseFormatTest, WhatIsWrittenReadsBack) {
  for (const std::string data :
       {"", "x", " leading space", "a\nb\n\nc", "data: x", ":no comment"}) {
    std::string out;
    AppendSseComment("beat", &out);
    AppendSseEvent("kind", "9", data, &out);
    EXPECT_THAT(Parse(out), ElementsAre("kind|9|" + data));
  }
}

TEST(SseParserTest, ReadsTheStandardsExamples) {
  EXPECT_THAT(Parse("data: YHOO\ndata: +2\ndata: 10\n\n"), ElementsAre("message||YHOO\n+2\n10"));
  EXPECT_THAT(Parse(": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\n"
                    "data:  third event\n"),
              ElementsAre("message|1|first event", "message||second event"));
  EXPECT_THAT(Parse("data\n\ndata\ndata\n\ndata:"), ElementsAre("message||", "message||\n"));
  EXPECT_THAT(Parse("data:test\n\ndata: test\n\n"), ElementsAre("message||test", "message||test"));
}

TEST(SseParserTest, SkipsCommentsUnknownFieldsAndEventsWithoutData) {
  EXPECT_THAT(Parse(": keep-alive\n\n\n\n:\n\n"), IsEmpty());
  EXPECT_THAT(Parse("event: ping\n\ndata: x\n\n"), ElementsAre("message||x"));
  EXPECT_THAT(Parse("foo: bar\ndatax: 1\nDATA: 2\ndata : 3\n\n"), IsEmpty());
}

TEST(SseParserTest, IdLastsAndIgnoresNul) {
  EXPECT_THAT(Parse("id: 5\ndata: a\n\ndata: b\n\n"), ElementsAre("message|5|a", "message|5|b"));
  using std::string_view_literals::operator""sv;
  EXPECT_THAT(Parse("id: 5\n\nid: a\0b\ndata: c\n\n"sv), ElementsAre("message|5|c"));
}

TEST(SseParserTest, ByteOrderMarkCountsOnlyAtTheStart) {
  EXPECT_THAT(Parse("\xEF\xBB\xBF"
                    "data: a\n\n"),
              ElementsAre("message||a"));
  EXPECT_THAT(Parse("\n\xEF\xBB\xBF"
                    "data: a\n\n"),
              IsEmpty());
}

TEST(SseParserTest, RetryTakesDigitsOnly) {
  SseParser parser([](const SseEvent&) {});
  ASSERT_TRUE(parser.Push("retry: 1x\nretry: -5\nretry: 99999999999999\n\n"));
  EXPECT_EQ(parser.retry_ms(), std::nullopt);
  ASSERT_TRUE(parser.Push("retry: 1500\n\n"));
  EXPECT_EQ(parser.retry_ms(), 1500);
}

// All ways to cut the stream in three, with each of the three line ends and a mix of them.
TEST(SseParserTest, EverySplitInThreeGivesTheSameEvents) {
  const std::string lf =
      "\xEF\xBB\xBF: hi\nevent: delta\ndata: {\"t\":\"\xC3\xA4\"}\nid: 1\n\ndata: a\ndata:\n"
      "data: b\n\nretry: 3\ndata: [DONE]\n\n";
  std::string crlf, cr, mixed;
  for (size_t i = 0, n = 0; i < lf.size(); ++i) {
    const bool is_end = lf[i] == '\n';
    crlf += is_end ? "\r\n" : std::string(1, lf[i]);
    cr += is_end ? '\r' : lf[i];
    // CRLF before LF and so on: an LF after a CR always belongs to it, so CR then LF is left out.
    mixed += is_end ? (n++ % 2 == 0 ? "\r\n" : "\n") : std::string(1, lf[i]);
  }
  const std::vector<std::string> expected = {"delta|1|{\"t\":\"\xC3\xA4\"}", "message|1|a\n\nb",
                                             "message|1|[DONE]"};
  for (const std::string& text : {lf, crlf, cr, mixed}) {
    for (size_t i = 0; i <= text.size(); ++i) {
      for (size_t j = i; j <= text.size(); ++j) {
        const std::string_view view = text;
        ASSERT_EQ(ParsePieces({view.substr(0, i), view.substr(i, j - i), view.substr(j)}), expected)
            << i << " " << j << " of " << text;
      }
    }
  }
}

TEST(SseParserTest, EventIsCalledAsSoonAsItsLastByteCame) {
  int n_events = 0;
  SseParser parser([&](const SseEvent&) { ++n_events; });
  ASSERT_TRUE(parser.Push("data: a\r\n\r"));  // CR alone ends the empty line
  EXPECT_EQ(n_events, 1);
  ASSERT_TRUE(parser.Push("\n"));
  EXPECT_EQ(n_events, 1);
}

TEST(SseParserTest, CutStreamIsSeen) {
  SseParser parser([](const SseEvent&) {});
  EXPECT_FALSE(parser.in_event());
  ASSERT_TRUE(parser.Push("data: a\n\n"));
  EXPECT_FALSE(parser.in_event());
  ASSERT_TRUE(parser.Push("da"));
  EXPECT_TRUE(parser.in_event());
  ASSERT_TRUE(parser.Push("ta: b\n"));
  EXPECT_TRUE(parser.in_event());
  ASSERT_TRUE(parser.Push("\n"));
  EXPECT_FALSE(parser.in_event());
}

TEST(SseParserTest, LimitHoldsForOneLineAndForManyLines) {
  const auto push_all = [](const std::vector<std::string>& pieces) {
    SseParser parser([](const SseEvent&) {}, 1000);
    Status status;
    for (const std::string& piece : pieces) status = parser.Push(piece);
    return status;
  };
  EXPECT_TRUE(push_all({"data: " + std::string(900, 'x') + "\n\n"}));
  EXPECT_EQ(push_all({"data: " + std::string(1000, 'x')}).error().code,
            ErrorCode::kResourceExhausted);
  EXPECT_FALSE(push_all({"data: " + std::string(1000, 'x') + "\n\n"}));
  EXPECT_TRUE(push_all(std::vector<std::string>(1000, "x")));
  EXPECT_FALSE(push_all(std::vector<std::string>(1001, "x")));
  EXPECT_FALSE(push_all(std::vector<std::string>(100, "data: 01234\n")));
  // A long stream of small events is no large event, and after an error the parser stays refused.
  EXPECT_TRUE(push_all(std::vector<std::string>(1000, "data: 01234\n\n")));
  EXPECT_TRUE(push_all(std::vector<std::string>(1000, ": comment\n")));
  EXPECT_FALSE(push_all({std::string(1001, 'x'), "\n\n"}));
}

}  // namespace
}  // namespace tandem::net
