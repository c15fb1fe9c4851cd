#include "gateway/relay/json_state.h"

#include <string>
#include <string_view>

#include <gtest/gtest.h>

namespace tandem::gateway::relay {
namespace {

// How many bytes are taken when they come one by one; the same as at once.
size_t Taken(std::string_view text) {
  JsonState at_once;
  const size_t n = at_once.Push(text);
  JsonState one_by_one;
  size_t i = 0;
  while (i < text.size() && one_by_one.Push(text.substr(i, 1)) == 1) ++i;
  EXPECT_EQ(i, n) << text;
  EXPECT_EQ(one_by_one.complete(), at_once.complete()) << text;
  return n;
}

bool Complete(std::string_view text) {
  JsonState state;
  return state.Push(text) == text.size() && state.complete();
}

TEST(JsonStateTest, WholeValuesAreComplete) {
  for (const std::string_view text :
       {"{}", "[]", "\"\"", "0", "-0", "12", "-1.5e+10", "1E9", "0.25", "true", "false", "null",
        " { \"a\" : [ 1 , 2.0 , { } , [ ] ] , \"b\" : \"c\\n\\u00e9\\\"\" } \n",
        R"({"emoji":"\ud83d\ude00","e":"é"})", "[[[[1]]]]"}) {
    EXPECT_EQ(Taken(text), text.size()) << text;
    EXPECT_TRUE(Complete(text)) << text;
  }
}

TEST(JsonStateTest, BeginningsAreTakenButNotComplete) {
  for (const std::string_view text :
       {"",          " ",   "{",   "[",     "\"",       "-",          "1.",
        "1e",        "1e+", "tru", "{\"a",  "{\"a\"",   "{\"a\":",    "{\"a\":1",
        "{\"a\":1,", "[1",  "[1,", "[\"\\", "[\"\\u00", "[{\"a\":[]}"}) {
    EXPECT_EQ(Taken(text), text.size()) << text;
    EXPECT_FALSE(Complete(text)) << text;
  }
}

TEST(JsonStateTest, FirstByteThatCannotBeIsRefused) {
  const std::pair<std::string_view, size_t> rows[] = {
      {"x", 0},         {"{a", 1},
      {"{,", 1},        {"{\"a\",", 4},
      {"{\"a\":}", 5},  {"[,", 1},
      {"[1,]", 3},      {"{\"a\":1,}", 7},
      {"[1}", 2},       {"{]", 1},
      {"01", 1},        {"-x", 1},
      {"1.x", 2},       {"1.e", 2},
      {"1ex", 2},       {"trux", 3},
      {"truex", 4},     {"\"a\nb\"", 2},
      {"\"\\x\"", 2},   {"\"\\u00g0\"", 5},
      {"{} {}", 3},     {"1 2", 2},
      {"[1 2]", 3},     {"nul ", 3},
      {"{\"a\" 1}", 5}, {"[\"a\" \"b\"]", 5},
  };
  for (const auto& [text, taken] : rows) EXPECT_EQ(Taken(text), taken) << text;
}

TEST(JsonStateTest, NothingIsTakenAfterARefusal) {
  JsonState state;
  EXPECT_EQ(state.Push("[x"), 1u);
  EXPECT_TRUE(state.broken());
  EXPECT_FALSE(state.behind_value());
  EXPECT_EQ(state.Push("1]"), 0u);
  EXPECT_FALSE(state.complete());
}

TEST(JsonStateTest, TextBehindAWholeValueIsToldApart) {
  JsonState state;
  EXPECT_EQ(state.Push("{\"a\":1}\nHere you are"), 8u);
  EXPECT_TRUE(state.broken());
  EXPECT_TRUE(state.behind_value());
}

TEST(JsonStateTest, SaysWhereItIs) {
  JsonState state;
  EXPECT_FALSE(state.started());
  state.Push(" ");
  EXPECT_FALSE(state.started());
  state.Push("{\"a\\");
  EXPECT_TRUE(state.started());
  EXPECT_TRUE(state.in_string());
  EXPECT_EQ(state.escape_bytes(), 1u);
  EXPECT_EQ(state.depth(), 1u);
  state.Push("u00");
  EXPECT_EQ(state.escape_bytes(), 4u);
  state.Push("e9");
  EXPECT_FALSE(state.in_escape());
  EXPECT_TRUE(state.in_string());
  state.Push("\\n");
  EXPECT_FALSE(state.in_escape());
  state.Push("\":[");
  EXPECT_FALSE(state.in_string());
  EXPECT_EQ(state.depth(), 2u);
}

TEST(JsonStateTest, HalfASurrogatePairIsAnOpenEscape) {
  JsonState state;
  state.Push("\"x\\ud83d");
  EXPECT_EQ(state.escape_bytes(), 6u);
  state.Push("\\ude0");
  EXPECT_EQ(state.escape_bytes(), 11u);
  state.Push("0");
  EXPECT_FALSE(state.in_escape());
}

TEST(JsonStateTest, DepthIsBounded) {
  JsonState state;
  const std::string deep(JsonState::kMaxDepth + 5, '[');
  EXPECT_EQ(state.Push(deep), JsonState::kMaxDepth);
  EXPECT_TRUE(state.broken());
}

}  // namespace
}  // namespace tandem::gateway::relay
