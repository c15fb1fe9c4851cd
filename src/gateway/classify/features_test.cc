#include "gateway/classify/features.h"

#include <algorithm>
#include <random>
#include <string>
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

std::vector<uint16_t> Buckets(std::string_view text) {
  FeatureSet features;
  ExtractFeatures(text, &features);
  std::vector<uint16_t> buckets(features.instruction().begin(), features.instruction().end());
  buckets.insert(buckets.end(), features.content().begin(), features.content().end());
  std::ranges::sort(buckets);
  return buckets;
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
  EXPECT_EQ(Buckets("Traduce ESTO"), Buckets("traduce esto"));
  EXPECT_EQ(Buckets("what is 12 + 34"), Buckets("what is 98 + 76"));
  EXPECT_NE(Buckets("what is 12 + 34"), Buckets("what is 12 + 3456"));
  EXPECT_NE(Buckets("dog bites man"), Buckets("man bites dog"));
}

TEST(FeaturesTest, UnspacedScriptsShareFeaturesOfParts) {
  for (const auto& [whole, part] : {std::pair("请把这句话翻译成英文", "翻译"),
                                    std::pair("ช่วยแปลข้อความนี้เป็นภาษาอังกฤษ", "ภาษาอังกฤษ")}) {
    const std::vector<uint16_t> of_whole = Buckets(whole);
    int shared = 0;
    for (const uint16_t bucket : Buckets(part)) {
      shared += std::ranges::binary_search(of_whole, bucket) ? 1 : 0;
    }
    EXPECT_GE(shared, 3) << whole;
  }
}

TEST(FeaturesTest, LongTextIsReadAtBothEdgesOnly) {
  const std::string filler(1'000'000, 'x');
  const std::string head = "summarise this " + filler;
  EXPECT_EQ(Buckets(head + " please"), Buckets(head + filler + " please"));
  EXPECT_NE(Buckets(head + " please"), Buckets(head + " danke"));
  // Cut in the middle of a character on both sides: still the same.
  std::string thai;
  while (thai.size() < 4000) thai += "ก";
  EXPECT_EQ(Buckets("a" + thai), Buckets("a" + thai + thai));
}

TEST(FeaturesTest, MiddleOfAMessageIsBody) {
  std::string text = "first words here. ";
  while (text.size() < 1000) text += "middle " + std::to_string(text.size()) + " ";
  FeatureSet features;
  ExtractFeatures(text + "uniqueword" + text, &features);
  EXPECT_GT(features.content().size(), 0U);
  FeatureSet short_text;
  ExtractFeatures("first words here.", &short_text);
  EXPECT_TRUE(short_text.content().empty());
}

TEST(FeaturesTest, RandomBytesFillTheSetAndNoMore) {
  std::mt19937 generator(1);
  for (int round = 0; round < 200; ++round) {
    std::string bytes(generator() % 4096, '\0');
    for (char& byte : bytes) byte = static_cast<char>(generator());
    FeatureSet features;
    ExtractFeatures(bytes, &features);
    for (const uint16_t bucket : features.instruction()) ASSERT_LT(bucket, kFeatureBuckets);
  }
  FeatureSet full;
  for (uint32_t i = 0; i < 1'000'000; ++i) full.Add(i * 2654435761U);
  EXPECT_EQ(full.instruction().size() + full.content().size(), 0U + full.content().size());
  full.EndInstruction();
  EXPECT_EQ(full.instruction().size(), 8192U);
}

}  // namespace
}  // namespace tandem::gateway
