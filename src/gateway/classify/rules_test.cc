#include "gateway/classify/rules.h"

#include <string>

#include <gtest/gtest.h>

namespace tandem::gateway {
namespace {

std::string RuleOf(std::string_view prompt) {
  const std::optional<RuleMatch> match = MatchRule(prompt);
  return match ? std::string(match->name) : "";
}

TEST(RulesTest, SumsWithoutWordsAreArithmetic) {
  for (const char* prompt : {"12 * (7 + 5) = ?", "348×27", "17^2 - 5 =", "45 % 7", "3/4 + 5/6",
                             "１２＋３４＝", "2x + 5 = 17", "81 - 9"}) {
    EXPECT_EQ(RuleOf(prompt), "arithmetic") << prompt;
    EXPECT_EQ(MatchRule(prompt)->task, TaskClass::kMathReasoning);
  }
}

TEST(RulesTest, TelephoneNumbersDatesAndVersionsAreNoSums) {
  for (const char* prompt : {"+49 30 1234567", "555-1234", "2024-05-12", "12/05/2024", "1.2.3",
                             "48213", "?", "+", "5", "what is 2+2"}) {
    EXPECT_EQ(RuleOf(prompt), "") << prompt;
  }
}

TEST(RulesTest, NothingIsConversation) {
  EXPECT_EQ(RuleOf(""), "empty");
  EXPECT_EQ(RuleOf(" \r\n\t"), "empty");
  EXPECT_EQ(MatchRule("")->task, TaskClass::kGeneralConversation);
}

TEST(RulesTest, AskingForALanguageIsTranslation) {
  for (const char* prompt :
       {"Translate \"good night\" into German", "please could you translate this to Spanish: x",
        "Traduce esto al alemán: hola", "¿Puedes traducir esto al inglés? hola",
        "Übersetze den Satz ins Englische: x", "bitte ubersetzen sie das auf spanisch: x",
        "Tolong terjemahkan ini ke bahasa Inggris: x", "Dịch câu này sang tiếng Anh: x",
        "dich cau nay sang tieng anh", "ช่วยแปลข้อความนี้เป็นภาษาอังกฤษ", "请翻译成英文：你好",
        "TRANSLATE TO FRENCH: hi"}) {
    EXPECT_EQ(RuleOf(prompt), "translation") << prompt;
    EXPECT_EQ(MatchRule(prompt)->task, TaskClass::kTranslation);
  }
}

TEST(RulesTest, MentionsOfTranslationAreLeftToTheModel) {
  for (const char* prompt :
       {"Translate this function to Python", "Traduce esta función al inglés y a Rust",
        "Write a story about a woman who translates letters into German",
        "Does the translator translate to German?", "translate", "把这个函数翻译成英文注释的代码",
        "What is the best way to learn to translate into Thai?"}) {
    EXPECT_EQ(RuleOf(prompt), "") << prompt;
  }
}

TEST(RulesTest, FormulasCodeAndTracesYieldToAModelThatIsSure) {
  for (const auto& [prompt, name] : {
           std::pair("Evaluate $\\frac{1}{2} + \\sqrt{2}$", "latex"),
           std::pair("what is wrong\n```python\ndef f(x):\n  return x\n```", "code_fence"),
           std::pair("Traceback (most recent call last):\n  File \"a.py\"", "stack_trace"),
       }) {
    EXPECT_EQ(RuleOf(prompt), name);
    EXPECT_TRUE(MatchRule(prompt)->yields);
  }
  EXPECT_EQ(RuleOf("```\nDear team, the launch slips by two weeks\n```"), "");
}

TEST(RulesTest, OnlyTheBeginningOfALongTextIsRead) {
  EXPECT_EQ(RuleOf(std::string(1'000'000, 'a') + " \\frac{1}{2}"), "");
}

}  // namespace
}  // namespace tandem::gateway
