#include "gateway/openai/tool_calls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::gateway::openai {
namespace {

using ::testing::ElementsAre;

struct Answer {
  std::string text;
  std::vector<ToolCall> calls;
  friend bool operator==(const Answer&, const Answer&) = default;
};

Answer Collect(const std::vector<std::string_view>& pieces) {
  ToolCallParser parser;
  std::vector<ToolCallEvent> events;
  for (const std::string_view piece : pieces) parser.Push(piece, &events);
  parser.Finish(&events);
  Answer answer;
  for (ToolCallEvent& event : events) {
    if (auto* text = std::get_if<std::string>(&event)) answer.text += *text;
    if (auto* call = std::get_if<ToolCall>(&event)) answer.calls.push_back(*call);
  }
  return answer;
}

struct Row {
  std::string_view output;
  std::string_view text;
  std::vector<ToolCall> calls;
};

const std::vector<Row>& Rows() {
  static const auto& rows = *new std::vector<Row>{
      {"", "", {}},
      {"Hello there.\n", "Hello there.\n", {}},
      {"  \n", "  \n", {}},
      // Phi-4-mini
      {R"(<|tool_call|>[{"name": "f", "arguments": {"city": "Paris"}}]<|/tool_call|>)",
       "",
       {{"", "f", R"({"city":"Paris"})"}}},
      {R"(<|tool_call|>[{"name":"f","arguments":{}},{"name":"g","arguments":{"a":[1,2.5]}}])",
       "",
       {{"", "f", "{}"}, {"", "g", R"({"a":[1,2.5]})"}}},
      {R"(<|tool_call|>{"name":"f","arguments":{"s":"}]\"<|/tool_call|>"}}<|/tool_call|>)",
       "",
       {{"", "f", R"({"s":"}]\"<|/tool_call|>"})"}}},
      {R"(<|tool_call|>[{"name":"f","arguments":{}})", "", {{"", "f", "{}"}}},
      {R"(<|tool_call|>[{"name":"f"}]<|/tool_call|>Done.)", "Done.", {{"", "f", "{}"}}},
      // MiMo
      {"Let me look.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"q\": 1}}\n</tool_call>\n"
       "<tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>\n",
       "Let me look.",
       {{"", "f", R"({"q":1})"}, {"", "g", "{}"}}},
      {"<tool_call>{\"name\":\"f\"}</tool_call> and <b>", "and <b>", {{"", "f", "{}"}}},
      // vLLM's convention
      {R"( functools[{"name":"f","arguments":{"x":true}}])", "", {{"", "f", R"({"x":true})"}}},
      {R"(Use functools[{"name":"f"}] in Python.)",
       R"(Use functools[{"name":"f"}] in Python.)",
       {}},
      // Sloppy but clear
      {R"(<tool_call>{"name":"f","parameters":{"a":1}}</tool_call>)",
       "",
       {{"", "f", R"({"a":1})"}}},
      {R"(<tool_call>{"name":"f","arguments":"{\"a\": 1}"}</tool_call>)",
       "",
       {{"", "f", R"({"a": 1})"}}},
      {R"(<tool_call>{"type":"function","function":{"name":"f","arguments":null}}</tool_call>)",
       "",
       {{"", "f", "{}"}}},
      {R"(<tool_call><tool_call>{"name":"f"}</tool_call></tool_call>)",
       "<tool_call>",
       {{"", "f", "{}"}}},
      // Not calls: the text stays whole
      {"a < b, <tool, <|tool_cal", "a < b, <tool, <|tool_cal", {}},
      {"f fun functool functools functools(", "f fun functool functools functools(", {}},
      {"<tool_call>soon</tool_call>", "<tool_call>soon</tool_call>", {}},
      {"x\n<tool_call> {\"nam\":\"f\"} </tool_call>",
       "x\n<tool_call> {\"nam\":\"f\"} </tool_call>",
       {}},
      {"<|tool_call|>[]<|/tool_call|>", "<|tool_call|>[]<|/tool_call|>", {}},
      {"<|tool_call|>[{\"name\":\"f\"},5]", "<|tool_call|>[{\"name\":\"f\"},5]", {}},
      {"<tool_call>{'name':'f'}", "<tool_call>{'name':'f'}", {}},
      {R"(<tool_call>{"name":"f","arguments":{"cut":"of)",
       R"(<tool_call>{"name":"f","arguments":{"cut":"of)",
       {}},
      {R"(<tool_call>{"name":"f","arguments":{"a":1})",
       R"(<tool_call>{"name":"f","arguments":{"a":1})",
       {}},
      {"<<tool_call>{\"name\":\"f\"}", "<", {{"", "f", "{}"}}},
      {"<|<|tool_call|>{\"name\":\"f\"}", "<|", {{"", "f", "{}"}}},
      {"<tool_call>{\"name\":\"f\"}</tool_", "</tool_", {{"", "f", "{}"}}},
  };
  return rows;
}

TEST(ToolCallParserTest, WholeTextGivesCallsAndText) {
  for (const Row& row : Rows()) {
    const Answer answer = Collect({row.output});
    EXPECT_EQ(answer.text, row.text) << row.output;
    EXPECT_EQ(answer.calls, row.calls) << row.output;
  }
}

TEST(ToolCallParserTest, EverySplitInThreeGivesTheSame) {
  for (const Row& row : Rows()) {
    const Answer whole{std::string(row.text), row.calls};
    const size_t n = row.output.size();
    for (size_t i = 0; i <= n; ++i) {
      for (size_t j = i; j <= n; ++j) {
        ASSERT_EQ(
            Collect({row.output.substr(0, i), row.output.substr(i, j - i), row.output.substr(j)}),
            whole)
            << row.output << " at " << i << "," << j;
      }
    }
  }
}

TEST(ToolCallParserTest, TextIsNotHeldBackLongerThanNeeded) {
  ToolCallParser parser;
  std::vector<ToolCallEvent> events;
  parser.Push("Hello", &events);
  EXPECT_THAT(events, ElementsAre(ToolCallEvent("Hello")));
  events.clear();
  parser.Push(" wor <", &events);
  EXPECT_THAT(events, ElementsAre(ToolCallEvent(" wor")));
  events.clear();
  parser.Push("b>", &events);
  EXPECT_THAT(events, ElementsAre(ToolCallEvent(" <b>")));
}

TEST(ToolCallParserTest, CallIsDeliveredWhenItsValueIsComplete) {
  ToolCallParser parser;
  std::vector<ToolCallEvent> events;
  parser.Push(R"(<tool_call>{"name":"f","arguments":{})", &events);
  EXPECT_TRUE(events.empty());
  parser.Push("}", &events);
  EXPECT_THAT(events, ElementsAre(ToolCallEvent(ToolCall{"", "f", "{}"})));
}

TEST(ToolCallParserTest, CallWithoutEndBecomesTextAtTheLimit) {
  ToolCallParser parser;
  std::vector<ToolCallEvent> events;
  const std::string endless =
      "<tool_call>{\"name\":\"" + std::string(ToolCallParser::kMaxCallBytes, 'x');
  parser.Push(endless, &events);
  ASSERT_FALSE(events.empty());
  parser.Finish(&events);
  EXPECT_THAT(events, ElementsAre(ToolCallEvent(endless)));
}

TEST(ToolCallParserTest, DeepValueIsTextAndDoesNotRecurse) {
  const std::string deep = "<tool_call>" + std::string(50'000, '[') + std::string(50'000, ']');
  const Answer answer = Collect({deep});
  EXPECT_EQ(answer.text, deep);
  EXPECT_TRUE(answer.calls.empty());
}

}  // namespace
}  // namespace tandem::gateway::openai
