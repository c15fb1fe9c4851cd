#include "gateway/classify/features.h"

#include <algorithm>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/utf8.h"
#include "gateway/classify/fold.h"

namespace tandem::gateway {
namespace {

std::string Folded(std::string_view text) {
  std::vector<FoldedChar> chars(text.size());
  const size_t n = Fold(text, chars);
  std::string result;
  for (size_t i = 0; i < n; ++i) utf8::Append(chars[i].code_point, &result);
  return result;
}

std::vector<uint32_t> Hashes(std::string_view text) {
  FeatureSet features;
  ExtractFeatures(text, &features);
  std::vector<uint32_t> hashes(features.instruction().begin(), features.instruction().end());
  hashes.insert(hashes.end(), features.content().begin(), features.content().end());
  std::ranges::sort(hashes);
  return hashes;
}

TEST(FoldTest, LosesCaseAccentsAndWidth) {
  EXPECT_EQ(Folded("ÜBERSETZE Straße"), "ubersetze strase");
  EXPECT_EQ(Folded("Đổi địa chỉ, ƯỚC"), "doi dia chi, uoc");
  EXPECT_EQ(Folded("¿Cuánto ñandú?"), "¿cuanto nandu?");
  EXPECT_EQ(Folded("ＡＢ１２？。「x」"), "ab00?.\"x\"");
  EXPECT_EQ(Folded("๓ + ٤"), "0 + 0");
  EXPECT_EQ(Folded("แปล翻译"), "แปล翻译");
}

TEST(FoldTest, DecomposedAccentsAreTheSameAsComposedOnes) {
  EXPECT_EQ(Folded("e\u0302\u0301 u\u0308"), Folded("ế ü"));
}

TEST(FoldTest, BytesThatAreNoUtf8AreSpaces) {
  EXPECT_EQ(Folded("a\xFF\xC3z"), "a  z");
  EXPECT_EQ(Folded("a\xE0\xB8"), "a ");  // cut inside a character
}

TEST(FoldTest, StopsWhereTheOutputIsFull) {
  std::vector<FoldedChar> two(2);
  EXPECT_EQ(Fold("abc", two), 2U);
}

TEST(FeaturesTest, SameWordsGiveSameFeaturesAndNumbersCountByLengthOnly) {
  EXPECT_EQ(Hashes("Traduce ESTO"), Hashes("traduce esto"));
  EXPECT_EQ(Hashes("what is 12 + 34"), Hashes("what is 98 + 76"));
  EXPECT_NE(Hashes("what is 12 + 34"), Hashes("what is 12 + 3456"));
  EXPECT_NE(Hashes("dog bites man"), Hashes("man bites dog"));
}

TEST(FeaturesTest, UnspacedScriptsShareFeaturesOfParts) {
  for (const auto& [whole, part] : {std::pair("请把这句话翻译成英文", "翻译"),
                                    std::pair("ช่วยแปลข้อความนี้เป็นภาษาอังกฤษ", "ภาษาอังกฤษ")}) {
    const std::vector<uint32_t> of_whole = Hashes(whole);
    int shared = 0;
    for (const uint32_t hash : Hashes(part)) {
      shared += std::ranges::binary_search(of_whole, hash) ? 1 : 0;
    }
    EXPECT_GE(shared, 3) << whole;
  }
}

TEST(FeaturesTest, LongTextIsReadAtBothEdgesOnly) {
  const std::string filler(1'000'000, 'x');
  const std::string head = "summarise this " + filler;
  EXPECT_EQ(Hashes(head + " please"), Hashes(head + filler + " please"));
  EXPECT_NE(Hashes(head + " please"), Hashes(head + " danke"));
  // Cut in the middle of a character on both sides: still the same.
  std::string thai;
  while (thai.size() < 4000) thai += "ก";
  EXPECT_EQ(Hashes("a" + thai), Hashes("a" + thai + thai));
}

// Of a feature set: features of the instruction, features of the content.
std::pair<size_t, size_t> Parts(std::string_view text) {
  FeatureSet features;
  ExtractFeatures(text, &features);
  return {features.instruction().size(), features.content().size()};
}

TEST(FeaturesTest, WhatAnInstructionIsAboutIsContent) {
  EXPECT_EQ(Parts("What is the capital of Australia?").second, 0U);
  // After a colon, in quotes, between a first and a last line, and far from the beginning.
  const std::string passage = "the council approved a plan for safer cycling on Tuesday evening";
  EXPECT_GE(Parts("Summarise: " + passage).second, 9U);
  EXPECT_GE(Parts("What does \"" + passage + "\" mean?").second, 9U);
  EXPECT_GE(Parts("Please do this for me: \n" + passage + "\nTranslate it").second, 9U);
  std::string far = "Tell me what this says. ";
  for (int i = 0; i < 5; ++i) far += passage + " ";
  EXPECT_GE(Parts(far).second, 9U);
  EXPECT_GT(Parts(far + "Is it good?").first, Parts(far + "It is good.").first);
}

TEST(FeaturesTest, LastLineIsInstructionAgain) {
  const std::string passage(300, 'x');
  FeatureSet features;
  ExtractFeatures(passage + "\nsummarise please", &features);
  FeatureSet alone;
  ExtractFeatures("y summarise please", &alone);
  size_t shared = 0;
  for (const uint32_t hash : alone.instruction()) {
    shared += std::ranges::count(features.instruction(), hash);
  }
  EXPECT_GE(shared, 5U);  // both words, their prefixes and the pair
}

TEST(FeaturesTest, RandomBytesFillTheSetAndNoMore) {
  std::mt19937 generator(1);
  for (int round = 0; round < 200; ++round) {
    std::string bytes(generator() % 4096, '\0');
    for (char& byte : bytes) byte = static_cast<char>(generator());
    EXPECT_LE(Hashes(bytes).size(), 8192U);
  }
  FeatureSet full;
  for (uint32_t i = 0; i < 1'000'000; ++i) full.Add(i * 2654435761U);
  full.EndInstruction();
  EXPECT_EQ(full.instruction().size(), 8192U);
}

}  // namespace
}  // namespace tandem::gateway
