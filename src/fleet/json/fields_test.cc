#include "fleet/json/fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <boost/json.hpp>

namespace tandem::fleet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(JsonFieldsTest, NullAndAbsenceAreNothing) {
  const auto value = ParseJson(R"({"a": null})", "x");
  ASSERT_TRUE(value);
  JsonFields fields(*value, "x");
  for (const char* name : {"a", "b"}) {
    EXPECT_EQ(fields.Text(name), "");
    EXPECT_EQ(fields.Number(name), std::nullopt);
    EXPECT_EQ(fields.Real(name), std::nullopt);
    EXPECT_EQ(fields.Bool(name), std::nullopt);
    EXPECT_EQ(fields.Count(name, 7), 0);
    EXPECT_THAT(fields.List(name), IsEmpty());
    EXPECT_EQ(fields.Object(name), nullptr);
  }
  EXPECT_TRUE(fields.Done());
  fields.Text("a", JsonFields::kRequired);
  ASSERT_FALSE(fields.Done());
  EXPECT_EQ(fields.Done().error().message, "x: a is missing");
}

TEST(JsonFieldsTest, ValuesComeBack) {
  const auto value =
      ParseJson(R"({"t": "x", "n": 7, "r": 0.5, "b": false, "l": ["a", "b"], "o": {"n": 1}})", "x");
  ASSERT_TRUE(value);
  JsonFields fields(*value, "x");
  EXPECT_EQ(fields.Text("t"), "x");
  EXPECT_EQ(fields.Number("n"), 7U);
  EXPECT_EQ(fields.Count("n", 7), 7);
  EXPECT_EQ(fields.Real("r"), 0.5);
  EXPECT_EQ(fields.Real("n"), 7.0);
  EXPECT_EQ(fields.Bool("b"), false);
  EXPECT_THAT(fields.Texts("l"), ElementsAre("a", "b"));
  ASSERT_NE(fields.Object("o"), nullptr);
  EXPECT_TRUE(fields.Done());
}

TEST(JsonFieldsTest, TheFirstThingThatIsWrongIsNamed) {
  const auto value = ParseJson(R"({"t": 1, "n": -1, "b": "true", "l": "a", "o": []})", "x");
  ASSERT_TRUE(value);
  const auto message = [&](auto read) {
    JsonFields fields(*value, "x");
    read(fields);
    fields.Fail("later", "is not kept");
    return fields.Done() ? std::string() : fields.Done().error().message;
  };
  EXPECT_EQ(message([](JsonFields& f) { f.Text("t"); }), "x: t must be a string");
  EXPECT_THAT(message([](JsonFields& f) { f.Number("n"); }), HasSubstr("x: n must be a whole"));
  EXPECT_THAT(message([](JsonFields& f) { f.Real("n"); }), HasSubstr("x: n must be a number"));
  EXPECT_THAT(message([](JsonFields& f) { f.Bool("b"); }), HasSubstr("true or false"));
  EXPECT_THAT(message([](JsonFields& f) { f.List("l"); }), HasSubstr("must be a list"));
  EXPECT_THAT(message([](JsonFields& f) { f.Object("o"); }), HasSubstr("must be an object"));
  EXPECT_THAT(message([](JsonFields& f) { f.Count("t", 0); }), HasSubstr("at most 0"));
  EXPECT_EQ(message([](JsonFields&) {}), "x: later is not kept");
}

TEST(JsonFieldsTest, WhatIsNoDocumentIsAnError) {
  EXPECT_THAT(ParseJson("{", "the table").error().message, HasSubstr("the table is not JSON"));
  EXPECT_FALSE(ParseJson(std::string(100, '[') + std::string(100, ']'), "x"));
  const auto value = ParseJson("[]", "x");
  ASSERT_TRUE(value);
  EXPECT_EQ(JsonFields(*value, "x").Done().error().message, "x must be an object");
}

}  // namespace
}  // namespace tandem::fleet
