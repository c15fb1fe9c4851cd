#include "gateway/dispatch/answer_check.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::gateway::dispatch {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string Repeat(std::string_view piece, int times) {
  std::string text;
  for (int i = 0; i < times; ++i) text += piece;
  return text;
}

TEST(FindDegenerationTest, GoodTextsPass) {
  for (const std::string& text : {
           std::string("Yes."),
           std::string("No, no, no, no, no, no, no, no!"),
           std::string("| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |"),
           "A rule:\n" + std::string(80, '-') + "\n",
           Repeat("A sentence that comes five times, as in a chorus. ", 5),
           Repeat("a loop in the middle ", 20) + "but the text goes on with something else.",
           std::string("one \xEF\xBF\xBD in a long enough text"),
           std::string("\xE4\xB8\xAD\xE6\x96\x87"),
       }) {
    EXPECT_EQ(FindDegeneration(text), std::nullopt) << text;
  }
}

TEST(FindDegenerationTest, EmptyTextIsNamed) {
  for (const char* text : {"", " \n\t"}) {
    ASSERT_TRUE(FindDegeneration(text).has_value());
    EXPECT_THAT(*FindDegeneration(text), StartsWith("empty"));
  }
}

TEST(FindDegenerationTest, LoopAtTheEndIsNamedWithItsFigure) {
  const auto word = FindDegeneration("I think that " + Repeat("the ", 50));
  ASSERT_TRUE(word.has_value());
  EXPECT_THAT(*word,
              HasSubstr("repetition: the last 201 bytes are one piece of 4 bytes, 50 times"));
  EXPECT_TRUE(FindDegeneration(std::string(160, '!')).has_value());
  EXPECT_FALSE(FindDegeneration(std::string(159, '!')).has_value());
  const std::string sentence = "This sentence is quite long and a quantised model repeats it. ";
  EXPECT_TRUE(FindDegeneration("Well. " + Repeat(sentence, 6)).has_value());
  EXPECT_TRUE(FindDegeneration("Well. " + Repeat(sentence, 7) + "This sen").has_value());
}

TEST(FindDegenerationTest, BrokenBytesAreNamed) {
  const auto found = FindDegeneration("ab\xEF\xBF\xBD\xEF\xBF\xBD");
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(*found, "replacement: 2 of 4 characters are U+FFFD");
}

}  // namespace
}  // namespace tandem::gateway::dispatch
