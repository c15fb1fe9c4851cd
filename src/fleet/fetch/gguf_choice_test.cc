#include "fleet/fetch/gguf_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::fleet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(GgufChoiceTest, LabelsAsTheyAreWrittenInTheWild) {
  const std::pair<const char*, const char*> cases[] = {
      {"microsoft_Phi-4-mini-instruct-Q4_K_M.gguf", "Q4_K_M"},
      {"microsoft_Phi-4-mini-instruct-Q4_0.gguf", "Q4_0"},
      {"MiMo-7B-RL-0530-Qwenified.Q4_K_M.gguf", "Q4_K_M"},
      {"ggml-model-q4_0.gguf", "Q4_0"},
      {"model-f16.gguf", "F16"},
      {"model-bf16.GGUF", "BF16"},
      {"x-IQ4_NL.gguf", "IQ4_NL"},
      {"x-IQ3_XXS.gguf", "IQ3_XXS"},
      {"Phi-4-mini-instruct-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"},
      {"big-Q8_0-00001-of-00003.gguf", "Q8_0"},
      {"tandem_demo_q4_0.gguf", "Q4_0"},
      {"x-TQ1_0.gguf", "TQ1_0"},
      {"Q4_K_M.gguf", "Q4_K_M"},
      {"model.gguf", ""},
      {"qwen-7b-chat.gguf", ""},
      {"x-Q4.gguf", "Q4"},
      {"Quality-model.gguf", ""},
  };
  for (const auto& [name, label] : cases) EXPECT_EQ(QuantLabel(name), label) << name;
}

TEST(GgufChoiceTest, TheLabelIsMatchedWithoutCase) {
  const auto choice = ChooseGguf({"README.md", "x-Q8_0.gguf", "x-q4_k_m.gguf"}, "Q4_k_M");
  ASSERT_TRUE(choice);
  EXPECT_THAT(choice->paths, ElementsAre("x-q4_k_m.gguf"));
  EXPECT_EQ(choice->quant, "Q4_K_M");
}

TEST(GgufChoiceTest, WithoutALabelTheOrderIsQ4KMThenQ40ThenTheFirst) {
  EXPECT_EQ(ChooseGguf({"x-Q8_0.gguf", "x-Q4_0.gguf", "x-Q4_K_M.gguf"}, "")->quant, "Q4_K_M");
  EXPECT_EQ(ChooseGguf({"x-Q8_0.gguf", "x-Q4_0.gguf"}, "")->quant, "Q4_0");
  EXPECT_EQ(ChooseGguf({"x-Q8_0.gguf", "x-Q5_K_M.gguf"}, "")->quant, "Q8_0");
  EXPECT_EQ(ChooseGguf({"model.gguf"}, "")->quant, "");
}

TEST(GgufChoiceTest, SplitFilesComeWholeAndInOrder) {
  const std::vector<std::string> paths = {
      "Q4_K_M/x-Q4_K_M-00002-of-00003.gguf", "Q4_K_M/x-Q4_K_M-00003-of-00003.gguf",
      "Q4_K_M/x-Q4_K_M-00001-of-00003.gguf", "x-Q8_0-00001-of-00002.gguf"};
  const auto choice = ChooseGguf(paths, "Q4_K_M");
  ASSERT_TRUE(choice);
  EXPECT_THAT(choice->paths, ElementsAre(paths[2], paths[0], paths[1]));
  const auto incomplete = ChooseGguf(paths, "Q8_0");
  ASSERT_FALSE(incomplete);
  EXPECT_EQ(incomplete.error().code, ErrorCode::kNotFound);
}

TEST(GgufChoiceTest, PartNumbersThatMakeNoSenseAreOrdinaryNames) {
  EXPECT_EQ(ListGgufChoices({"x-00003-of-00002.gguf"}).size(), 1U);
  EXPECT_EQ(ListGgufChoices({"x-00000-of-00002.gguf"}).size(), 1U);
  EXPECT_EQ(ListGgufChoices({"x-0001-of-0002.gguf"}).size(), 1U);
  EXPECT_EQ(ListGgufChoices({"x-00001-of-00002.gguf"}).size(), 0U);
}

TEST(GgufChoiceTest, ProjectorsAndCalibrationDataAreNoModels) {
  EXPECT_TRUE(ListGgufChoices({"mmproj-x-f16.gguf", "imatrix.gguf", "x.imatrix.gguf"}).empty());
  const auto none = ChooseGguf({"mmproj-f16.gguf", "model.safetensors"}, "");
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, ErrorCode::kNotFound);
}

TEST(GgufChoiceTest, AMissingLabelIsAnsweredWithWhatThereIs) {
  const auto choice = ChooseGguf({"x-Q4_0.gguf", "x-Q8_0.gguf", "odd.gguf"}, "Q2_K");
  ASSERT_FALSE(choice);
  EXPECT_THAT(choice.error().message, HasSubstr("Q4_0, Q8_0, odd.gguf"));
  EXPECT_EQ(choice.error().param, "model");
}

}  // namespace
}  // namespace tandem::fleet
