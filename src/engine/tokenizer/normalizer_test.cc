#include "engine/tokenizer/normalizer.h"

#include <string>

#include <gtest/gtest.h>

namespace tandem::tokenizer {
namespace {

TEST(NormalizerTest, DecomposedTextIsComposed) {
  EXPECT_EQ(NormalizeNfc("cafe\u0301"), "caf\u00E9");
  EXPECT_EQ(NormalizeNfc("Tie\u0302\u0301ng Vie\u0323\u0302t"), "Ti\u1EBFng Vi\u1EC7t");
  EXPECT_EQ(NormalizeNfc("\u1112\u1161\u11AB"), "\uD55C");  // Hangul by rule
}

TEST(NormalizerTest, ComposedTextAndAsciiStayAsTheyAre) {
  for (const std::string text : {"", "plain", "caf\u00E9", "\U0001F600", "x\u0301"}) {
    EXPECT_EQ(NormalizeNfc(text), text);
  }
  EXPECT_EQ(NormalizeNfc(std::string("a\0b", 3)), std::string("a\0b", 3));
}

TEST(NormalizerTest, SingletonsAndExclusionsAreDecomposed) {
  EXPECT_EQ(NormalizeNfc("\u212B"), "\u00C5");        // Angstrom sign
  EXPECT_EQ(NormalizeNfc("\u0958"), "\u0915\u093C");  // excluded from composition
  EXPECT_EQ(NormalizeNfc("\uFB01"), "\uFB01");        // compatibility only: stays
}

TEST(NormalizerTest, MarksAreOrderedByClassAndKeepTheirOrderWithinIt) {
  EXPECT_EQ(NormalizeNfc("q\u0307\u0323"), "q\u0323\u0307");
  EXPECT_EQ(NormalizeNfc("q\u0307\u0308\u0323"), "q\u0323\u0307\u0308");
}

// utf8proc 2.8 alone swallows it.
TEST(NormalizerTest, CodePointBeforeTheFinalConsonantsIsKept) {
  EXPECT_EQ(NormalizeNfc("\uAC00\u11A7"), "\uAC00\u11A7");
  EXPECT_EQ(NormalizeNfc("e\u0301\u11A7e\u0301"), "\u00E9\u11A7\u00E9");
}

// An insertion sort would need 6e10 steps here.
TEST(NormalizerTest, LongRunOfAlternatingMarksIsOrdered) {
  constexpr int kPairs = 250'000;
  std::string text = "q", ordered = "q";
  for (int i = 0; i < kPairs; ++i) text += "\u0301\u0316";
  for (int i = 0; i < kPairs; ++i) ordered += "\u0316";
  for (int i = 0; i < kPairs; ++i) ordered += "\u0301";
  EXPECT_TRUE(NormalizeNfc(text) == ordered);
}

}  // namespace
}  // namespace tandem::tokenizer
