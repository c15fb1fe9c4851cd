#include "engine/tokenizer/stop_detector.h"

#include <algorithm>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace tandem::tokenizer {
namespace {

struct Outcome {
  std::string text;
  std::string stop;
  bool operator==(const Outcome&) const = default;
};

// The definition: the first place where some stop string is complete, the longest of those there.
Outcome Define(const std::vector<std::string>& stops, std::string_view text) {
  for (size_t end = 1; end <= text.size(); ++end) {
    std::string best;
    for (const std::string& stop : stops) {
      if (text.substr(0, end).ends_with(stop) && stop.size() > best.size()) best = stop;
    }
    if (!best.empty()) return {std::string(text.substr(0, end - best.size())), best};
  }
  return {std::string(text), ""};
}

// All texts over "ab" up to 7 bytes, every way to cut them, several sets of stop strings.
TEST(StopDetectorTest, EverySplitOfEveryShortTextGivesTheDefinition) {
  const std::vector<std::vector<std::string>> sets = {
      {"a"},         {"ab"},         {"aab"},     {"abab"}, {"abaab", "ba"},
      {"aa", "aaa"}, {"bb", "abba"}, {"b", "ab"}, {}};
  for (const auto& stops : sets) {
    size_t longest = 1;
    for (const auto& stop : stops) longest = std::max(longest, stop.size());
    for (size_t length = 0; length <= 7; ++length) {
      for (unsigned bits = 0; bits < 1u << length; ++bits) {
        std::string text;
        for (size_t i = 0; i < length; ++i) text += (bits >> i) & 1 ? 'b' : 'a';
        const Outcome expected = Define(stops, text);
        const unsigned n_splits = length == 0 ? 1 : 1u << (length - 1);
        for (unsigned cuts = 0; cuts < n_splits; ++cuts) {
          StopDetector detector(stops);
          std::string shown, pushed, part;
          for (size_t i = 0; i < length; ++i) {
            part += text[i];
            if (((cuts >> i) & 1) == 0 && i + 1 < length) continue;
            pushed += part;
            shown += detector.Push(part);
            part.clear();
            ASSERT_TRUE(expected.text.starts_with(shown)) << text;
            if (!detector.stopped()) ASSERT_LE(pushed.size() - shown.size(), longest - 1) << text;
          }
          shown += detector.Flush();
          ASSERT_EQ((Outcome{shown, detector.stop()}), expected) << text << " cuts " << cuts;
          ASSERT_EQ(detector.stopped(), !expected.stop.empty());
        }
      }
    }
  }
}

// Stop strings whose borders have borders of their own, in all texts over "ab" of 12 bytes.
TEST(StopDetectorTest, StopStringThatOverlapsItselfIsFoundInItsOwnRemains) {
  for (const std::string stop : {"aabaaaa", "abaababaab", "aabaabaaa"}) {
    for (unsigned bits = 0; bits < 1u << 12; ++bits) {
      std::string text, shown;
      for (size_t i = 0; i < 12; ++i) text += (bits >> i) & 1 ? 'b' : 'a';
      StopDetector detector({stop});
      for (const char c : text) shown += detector.Push(std::string_view(&c, 1));
      shown += detector.Flush();
      ASSERT_EQ((Outcome{shown, detector.stop()}), Define({stop}, text)) << stop << " in " << text;
    }
  }
}

TEST(StopDetectorTest, TextThatCannotStartAStopStringIsShownAtOnce) {
  StopDetector detector({"\n\nUser:"});
  EXPECT_EQ(detector.Push("Hello"), "Hello");
  EXPECT_EQ(detector.Push(" there\n"), " there");
  EXPECT_EQ(detector.Push("\nUs"), "");
  EXPECT_EQ(detector.Push("ually"), "\n\nUsually");
  EXPECT_FALSE(detector.stopped());
}

TEST(StopDetectorTest, NothingComesOutAfterAStop) {
  StopDetector detector({"END"});
  EXPECT_EQ(detector.Push("one EN"), "one ");
  EXPECT_EQ(detector.Push("D two"), "");
  EXPECT_TRUE(detector.stopped());
  EXPECT_EQ(detector.stop(), "END");
  EXPECT_EQ(detector.Push("three"), "");
  EXPECT_EQ(detector.Flush(), "");
}

TEST(StopDetectorTest, EmptyStopStringsAreIgnored) {
  StopDetector detector({"", ""});
  EXPECT_EQ(detector.Push("text"), "text");
  EXPECT_FALSE(detector.stopped());
}

TEST(StopDetectorTest, HeldBackTextEndsOnAWholeCodePoint) {
  StopDetector detector({"\u4F60\u597D"});
  EXPECT_EQ(detector.Push("a\u4F60"), "a");
  EXPECT_EQ(detector.Push("\u4F60"), "\u4F60");
  EXPECT_EQ(detector.Push("\u597D"), "");
  EXPECT_TRUE(detector.stopped());
}

}  // namespace
}  // namespace tandem::tokenizer
