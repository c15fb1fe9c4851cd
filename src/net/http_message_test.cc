#include "net/http_message.h"

#include <gtest/gtest.h>

namespace tandem::net {
namespace {

TEST(HeadersTest, FindIgnoresCaseAndReturnsTheFirst) {
  Headers headers{{"Content-Type", "a"}, {"X-Tag", "1"}, {"x-tag", "2"}};
  EXPECT_EQ(headers.Find("content-type"), "a");
  EXPECT_EQ(headers.Find("X-TAG"), "1");
  EXPECT_EQ(headers.Find("X-Tags"), std::nullopt);
  EXPECT_EQ(headers.Count("x-TAG"), 2u);
}

TEST(HeadersTest, SetReplacesEveryFieldOfThatName) {
  Headers headers{{"X-Tag", "1"}, {"x-tag", "2"}, {"Other", "o"}};
  headers.Set("X-TAG", "3");
  EXPECT_EQ(headers.size(), 2u);
  EXPECT_EQ(headers.Find("x-tag"), "3");
  headers.Remove("other");
  EXPECT_EQ(headers.Find("Other"), std::nullopt);
}

// Names fold A-Z only: '[' and '{' differ by the same bit as 'A' and 'a' but are not letters.
TEST(HeadersTest, CaseFoldingIsForLettersOnly) {
  EXPECT_TRUE(EqualsIgnoreCase("AZ-az_09", "az-AZ_09"));
  EXPECT_FALSE(EqualsIgnoreCase("[", "{"));
  EXPECT_FALSE(EqualsIgnoreCase("@", "`"));
}

TEST(ParseQueryTest, DecodesPairsAndLeavesBrokenOnesOut) {
  using Fields = std::map<std::string, std::string, std::less<>>;
  EXPECT_EQ(ParseQuery(""), Fields{});
  EXPECT_EQ(ParseQuery("a=1&b=x%20y+z&flag&=v&c=%zz&a=2&d=p%3Dq=r"),
            (Fields{{"a", "2"}, {"b", "x y z"}, {"flag", ""}, {"d", "p=q=r"}}));
  EXPECT_EQ(ParseQuery("&&a=&"), (Fields{{"a", ""}}));
}

TEST(PercentDecodeTest, DecodesEscapesAndRefusesBrokenOnes) {
  EXPECT_EQ(PercentDecode("/v1/models/a%2Fb%20c+d%c3%A9"), "/v1/models/a/b c+d\xC3\xA9");
  EXPECT_EQ(PercentDecode("%00").value().size(), 1u);
  for (const char* bad : {"%", "a%2", "%g0", "%0g", "%%20"}) {
    EXPECT_EQ(PercentDecode(bad), std::nullopt) << bad;
  }
}

TEST(ReasonPhraseTest, KnowsTheRegisteredOnes) {
  EXPECT_EQ(ReasonPhrase(200), "OK");
  EXPECT_EQ(ReasonPhrase(409), "Conflict");
  EXPECT_EQ(ReasonPhrase(299), "");
}

TEST(BasicCredentialsTest, UserAndPasswordAreDecoded) {
  const auto both = ParseBasicCredentials("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");  // RFC 7617, 2
  ASSERT_TRUE(both);
  EXPECT_EQ(both->user, "Aladdin");
  EXPECT_EQ(both->password, "open sesame");
  EXPECT_EQ(ParseBasicCredentials("basic  YTpiOmM")->password, "b:c");
  EXPECT_EQ(ParseBasicCredentials("Basic Og==")->password, "");
  for (const char* bad :
       {"", "Basic", "Basic ", "Basic YWJj", "Basic Y%3A", "Bearer YTpi", "BasicYTpi"}) {
    EXPECT_FALSE(ParseBasicCredentials(bad)) << bad;
  }
}

}  // namespace
}  // namespace tandem::net
