#include "engine/tokenizer/python_json.h"

#include <string>

#include <gtest/gtest.h>

namespace tandem::tokenizer {
namespace {

std::string Spell(std::string_view json) {
  const auto text = PythonJson(json);
  return text ? *text : "error: " + text.error().message;
}

// Right sides are what Python 3.11's json.dumps(json.loads(left), ensure_ascii=False) prints.
TEST(PythonJsonTest, SpellingIsPythons) {
  EXPECT_EQ(Spell(R"({"b":1,"a":[true,false,null,"x"],"c":{}})"),
            R"({"b": 1, "a": [true, false, null, "x"], "c": {}})");
  EXPECT_EQ(Spell(" [ ] "), "[]");
  EXPECT_EQ(Spell(R"("caf\u00e9 \ud83d\ude00 <&> \/")"), "\"caf\u00E9 \U0001F600 <&> /\"");
  EXPECT_EQ(Spell(R"("\"\\\n\r\t\f\b\u0001\u001f\u007f")"),
            "\"\\\"\\\\\\n\\r\\t\\f\\b\\u0001\\u001f\x7F\"");
}

TEST(PythonJsonTest, NumbersArePythons) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"0", "0"},
      {"-7", "-7"},
      {"18446744073709551615", "18446744073709551615"},
      {"1.0", "1.0"},
      {"-0.0", "-0.0"},
      {"0.1", "0.1"},
      {"100.0", "100.0"},
      {"123.456", "123.456"},
      {"1e5", "100000.0"},
      {"1e15", "1000000000000000.0"},
      {"1e16", "1e+16"},
      {"0.0001", "0.0001"},
      {"0.00001", "1e-05"},
      {"1.5e-7", "1.5e-07"},
      {"1e300", "1e+300"},
      {"5e-324", "5e-324"},
  };
  for (const auto& [json, expected] : cases) EXPECT_EQ(Spell(json), expected) << json;
}

TEST(PythonJsonTest, WhatIsNotJsonIsAnError) {
  for (const std::string& json : {std::string("{"), std::string(), std::string("nul"),
                                  std::string("\"\\ud800\""), std::string(100'000, '[')}) {
    const auto text = PythonJson(json);
    ASSERT_FALSE(text) << json.substr(0, 20);
    EXPECT_EQ(text.error().code, ErrorCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace tandem::tokenizer
