#include "fleet/json/canonical.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <boost/json.hpp>

namespace tandem::fleet {
namespace {

using ::testing::HasSubstr;

std::string Canonical(std::string_view text) {
  const auto canonical =
      CanonicalJson(boost::json::parse(boost::json::string_view(text.data(), text.size())));
  return canonical ? *canonical : canonical.error().message;
}

TEST(CanonicalJsonTest, OneTextHoweverItWasWritten) {
  const std::string expected =
      "{\"a\":[1,-2,true,null],\"b\":{\"c\":\"\",\"d\":\"x\"},\"z\":\"\\\"\\\\/"
      "\\n\\u0001\xC3\xA9\"}";
  EXPECT_EQ(Canonical("{ \"z\": \"\\u0022\\\\\\/\\u000a\\u0001\\u00e9\", \"b\": {\"d\":\"x\","
                      "\"c\":\"\"}, \"a\": [1, -2, true, null] }"),
            expected);
  EXPECT_EQ(Canonical(expected), expected);
}

TEST(CanonicalJsonTest, NamesAreSortedByTheirBytes) {
  EXPECT_EQ(Canonical(R"({"b":1,"B":2,"a1":3,"a":4,"":5,"_":6})"),
            R"({"":5,"B":2,"_":6,"a":4,"a1":3,"b":1})");
}

TEST(CanonicalJsonTest, WhatReadersCouldReadDifferentlyIsRefused) {
  EXPECT_THAT(Canonical(R"({"a": [0, 1.5]})"), HasSubstr("the document.a[1] is no whole number"));
  EXPECT_THAT(Canonical(R"({"a": 1e2})"), HasSubstr("no whole number"));
  EXPECT_THAT(Canonical(R"({"a": 9007199254740993})"), HasSubstr("2^53"));
  EXPECT_THAT(Canonical(R"({"a": 18446744073709551615})"), HasSubstr("2^53"));
  EXPECT_THAT(Canonical("{\"\xC3\xA9\": 1}"), HasSubstr("outside ASCII"));
  EXPECT_EQ(Canonical(R"({"a": 9007199254740992})"), R"({"a":9007199254740992})");
}

}  // namespace
}  // namespace tandem::fleet
