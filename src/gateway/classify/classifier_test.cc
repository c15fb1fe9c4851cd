#include "gateway/classify/classifier.h"

#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace tandem::gateway {
namespace {

TaskClass TaskOf(std::string_view prompt, const PromptHints& hints = {}) {
  return Classify(prompt, hints).task;
}

// The held-out figures are in tools/train_classify; here what a reader would try first.
TEST(ClassifierTest, PlainRequestsOfEachClass) {
  EXPECT_EQ(TaskOf("Solve the equation 3x + 4 = 19"), TaskClass::kMathReasoning);
  EXPECT_EQ(TaskOf("Write a Python function that sorts a list"), TaskClass::kCodeGeneration);
  EXPECT_EQ(TaskOf("Escribe un poema sobre el mar"), TaskClass::kCreativeWriting);
  EXPECT_EQ(TaskOf("Übersetze „Guten Morgen“ ins Englische"), TaskClass::kTranslation);
  EXPECT_EQ(TaskOf("Tóm tắt văn bản sau: Hội đồng thành phố đã thông qua kế hoạch mới."),
            TaskClass::kSummarisation);
  EXPECT_EQ(TaskOf("Extract all e-mail addresses from this text: write to ana@example.com"),
            TaskClass::kExtraction);
  EXPECT_EQ(TaskOf("Di mana pesanan saya?"), TaskClass::kProductQuestion);
  EXPECT_EQ(TaskOf("你好，今天怎么样？"), TaskClass::kGeneralConversation);
}

TEST(ClassifierTest, WordsThatMisleadKeywordLists) {
  EXPECT_EQ(TaskOf("What is the number of your support line?"), TaskClass::kProductQuestion);
  EXPECT_EQ(TaskOf("Translate this function to Rust:\ndef add(a, b):\n    return a + b"),
            TaskClass::kCodeGeneration);
}

TEST(ClassifierTest, SaysWhoDecided) {
  const Classification rule = Classify("12 * 12 = ?");
  EXPECT_EQ(rule.reason, "arithmetic");
  EXPECT_EQ(rule.task, TaskClass::kMathReasoning);
  const Classification model = Classify("Tell me a bedtime story about a dragon");
  EXPECT_EQ(model.reason, "model");
  EXPECT_GT(model.confidence, 0.5F);
}

TEST(ClassifierTest, FencedCodeThatIsToBeSummarisedIsNotCode) {
  const std::string code = "\n```\ndef f(x):\n    return x + 1\n```";
  EXPECT_EQ(Classify("what is wrong here" + code).reason, "code_fence");
  EXPECT_EQ(TaskOf("Summarise this text in three bullet points for the board: the script below "
                   "is what the team wrote last week." +
                   code),
            TaskClass::kSummarisation);
}

TEST(ClassifierTest, FollowUpLeansOnTheMessageBefore) {
  const PromptHints after_maths{.previous_user_text = "Calculate 17 * 23 and show the steps."};
  EXPECT_EQ(TaskOf("and for 19?", after_maths), TaskClass::kMathReasoning);
  EXPECT_EQ(TaskOf("Thanks, that helped a lot!", after_maths), TaskClass::kGeneralConversation);
  // A long message speaks for itself.
  const std::string long_text =
      "Write a long and funny poem about a lonely lighthouse keeper who is visited by a whale "
      "every evening, please.";
  EXPECT_EQ(Classify(long_text, after_maths).complexity, Classify(long_text).complexity);
}

TEST(ClassifierTest, HintsMoveTheScoresTheyAreAbout) {
  const char* edit = "now without the loop";
  EXPECT_EQ(TaskOf(edit, {.has_code = true}), TaskClass::kCodeGeneration);
  EXPECT_GT(Classify(edit, {.has_code = true}).confidence, Classify(edit).confidence + 0.2F);
  const char* prompt = "What should I know about coffee?";
  EXPECT_GT(Classify(prompt, {.has_tools = true}).complexity, Classify(prompt).complexity);
  const auto unsure = Classify("name and city: Dana Ruiz, Austin", {.wants_json = true});
  EXPECT_EQ(unsure.task, TaskClass::kExtraction);
}

TEST(ClassifierTest, ComplexReasoningIsSeenInProofsAndNotInGreetings) {
  EXPECT_TRUE(Classify("Prove by induction that the sum of the first n odd numbers is n squared, "
                       "and explain each step.")
                  .complex_reasoning);
  EXPECT_FALSE(Classify("Hello, how are you?").complex_reasoning);
  EXPECT_FALSE(Classify("Where is my order?").complex_reasoning);
}

TEST(ClassifierTest, AnyBytesGiveAnAnswer) {
  std::mt19937 generator(7);
  std::vector<std::string> inputs = {"",
                                     " ",
                                     "\n",
                                     "?",
                                     std::string(1, '\0'),
                                     "\xFF\xFE",
                                     "\xE0\xB8",
                                     std::string(1 << 20, '\xF0'),
                                     std::string(1 << 20, 'a'),
                                     std::string(1 << 20, '('),
                                     std::string(1 << 20, '`')};
  for (int i = 0; i < 200; ++i) {
    std::string bytes(generator() % 3000, '\0');
    for (char& byte : bytes) byte = static_cast<char>(generator());
    inputs.push_back(std::move(bytes));
  }
  for (const std::string& input : inputs) {
    const Classification said = Classify(input, {.previous_user_text = input});
    EXPECT_GE(said.confidence, 1.0F / kTaskClassCount - 1e-4F);
    EXPECT_LE(said.confidence, 1);
    EXPECT_FALSE(said.reason.empty());
  }
}

TEST(ClassifierTest, EmptyTextIsConversation) {
  EXPECT_EQ(TaskOf(""), TaskClass::kGeneralConversation);
  EXPECT_EQ(TaskOf("  \n "), TaskClass::kGeneralConversation);
}

TEST(ClassifierTest, ThreadsGetTheSameAnswer) {
  const char* prompt = "Calcula el 15 por ciento de 860";
  const Classification expected = Classify(prompt);
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 100; ++i) {
        const Classification said = Classify(prompt);
        ASSERT_EQ(said.task, expected.task);
        ASSERT_EQ(said.confidence, expected.confidence);
      }
    });
  }
}

}  // namespace
}  // namespace tandem::gateway
