#include "gateway/relay/overlap.h"

#include <string>
#include <string_view>

#include <gtest/gtest.h>

namespace tandem::gateway::relay {
namespace {

constexpr std::string_view kRestarted = "(restarted)";

// What is new of `continuation`, which must not depend on how it is cut.
std::string News(std::string_view said, std::string_view continuation,
                 const OverlapFilter::Options& options = {}) {
  std::string first;
  for (const size_t n : {size_t{1}, size_t{3}, size_t{1000}}) {
    OverlapFilter filter(said, options);
    std::string out;
    bool restarted = false;
    for (size_t i = 0; i < continuation.size() && !restarted; i += n) {
      restarted = !filter.Push(continuation.substr(i, n), &out);
    }
    filter.Finish(&out);
    if (restarted) out = kRestarted;
    if (n == 1) first = out;
    EXPECT_EQ(out, first) << "in pieces of " << n;
  }
  return first;
}

constexpr std::string_view kSaid =
    "Tides are caused by the moon. The water on the near side is pulled harder than the ear";

TEST(OverlapTest, DirectContinuationPassesUntouched) {
  EXPECT_EQ(News(kSaid, "th itself."), "th itself.");
  EXPECT_EQ(News("The sum is 1", "23."), "23.");
  EXPECT_EQ(News("one, two,", " three"), " three");
  EXPECT_EQ(News("", "Anything"), "Anything");
  EXPECT_EQ(News(kSaid, ""), "");
}

TEST(OverlapTest, RunUpIsTakenOut) {
  const std::string_view rest = "th itself, and bulges.";
  const std::string joined = std::string(kSaid) + std::string(rest);
  // From the anchor, the last sentence, the beginning, and any place long enough.
  EXPECT_EQ(News(kSaid, std::string(AnchorOf(kSaid)) + std::string(rest)), rest);
  EXPECT_EQ(News(kSaid, joined.substr(joined.find("The water"))), rest);
  EXPECT_EQ(News(kSaid, joined), rest);
  EXPECT_EQ(News(kSaid, joined.substr(joined.find("pulled"))), rest);
  EXPECT_EQ(News(kSaid, "\n\n" + joined), rest);
  // The cut word alone is too short to be taken for a repetition of "ear", but not of "side".
  EXPECT_EQ(News("on the other side", "side of the moon"), " of the moon");
  EXPECT_EQ(News("a beautiful gard", "garden of roses"), "en of roses");
}

TEST(OverlapTest, LongestStretchCounts) {
  EXPECT_EQ(News("It rained and rained and rained", "and rained and rained until May."),
            " until May.");
  EXPECT_EQ(News("ab ab ab", "ab ab ab ab cd"), " ab cd");
}

TEST(OverlapTest, ChanceIsNoRepetition) {
  EXPECT_EQ(News("We met in the", "the"), "the");  // three letters
  EXPECT_EQ(News("first 1", "1 more"), "1 more");
  EXPECT_EQ(News("He said that", " that was wrong"), " that was wrong");  // with its own space
  EXPECT_EQ(News("Tides are caused by the moon and the sun together, mostly",
                 "The tides of the sun are weaker."),
            "The tides of the sun are weaker.");
}

TEST(OverlapTest, ScriptsWithoutSpacesJoin) {
  EXPECT_EQ(News("河水发源于城镇上方的山丘，流淌三十", "流淌三十英里后汇入大海。"),
            "英里后汇入大海。");
  EXPECT_EQ(News("河水发源于城镇上方的山丘，流淌三十", "英里后汇入大海。"), "英里后汇入大海。");
}

TEST(OverlapTest, AnswerBegunAgainWithOtherWordsIsRefused) {
  const std::string said =
      "To bake bread you need flour, water, salt and a little yeast. Mix them in a large bowl and";
  EXPECT_EQ(News(said, "To bake bread you need flour, water, salt and a little yeast. Put them"),
            kRestarted);
  // A few words in common are not the same answer.
  EXPECT_EQ(News(said, "To bake it, heat the oven."), "To bake it, heat the oven.");
}

TEST(OverlapTest, NothingButARepetitionAddsNothing) {
  const std::string said =
      "The boat was painted every April whether it had been used or not, and so";
  EXPECT_EQ(News(said, said), "");
  EXPECT_EQ(News(said, said.substr(0, 60)), "");
}

TEST(OverlapTest, SeparatorStandsWhereAWordWouldMerge) {
  const OverlapFilter::Options options{.separator = " ", .fits = nullptr};
  EXPECT_EQ(News("The river rises", "in the hills.", options), " in the hills.");
  EXPECT_EQ(News("The river rises", " in the hills.", options), " in the hills.");
  EXPECT_EQ(News("The river rises", "rises in the hills.", options), " in the hills.");
  EXPECT_EQ(News("流淌三十", "英里", options), "英里");
  EXPECT_EQ(News("The river rises ", " in the hills."), "in the hills.");
}

TEST(OverlapTest, GrammarDecidesAboutChance) {
  // Stands for JSON: two commas in a row are wrong.
  const std::string said = R"({"a": 1,)";
  const OverlapFilter::Options options{
      .separator = "", .fits = [](std::string_view news) { return !news.starts_with(","); }};
  EXPECT_EQ(News(said, R"(, "b": 2})", options), R"( "b": 2})");
  EXPECT_EQ(News(said, R"( "b": 2})", options), R"( "b": 2})");
}

TEST(OverlapTest, DecidesAsSoonAsItCan) {
  OverlapFilter filter(kSaid, {});
  std::string out;
  EXPECT_TRUE(filter.Push("th", &out));
  EXPECT_FALSE(filter.decided()) << "\"the\" and \"than\" stand there";
  EXPECT_TRUE(filter.Push(" itself", &out));
  EXPECT_TRUE(filter.decided());
  EXPECT_EQ(out, "th itself");
}

TEST(OverlapTest, AnchorIsTheLastWords) {
  EXPECT_EQ(AnchorOf(""), "");
  EXPECT_EQ(AnchorOf("word"), "word");
  EXPECT_EQ(AnchorOf("one two three four five six seven ei"), "three four five six seven ei");
  EXPECT_EQ(AnchorOf("ends with a space "), "ends with a space ");
  // Whole code points, at most 64 bytes.
  const std::string thai = "แม่น้ำเริ่มต้นในเนินเขาเหนือเมืองและไหลไปสามสิบไมล์";
  EXPECT_LE(AnchorOf(thai).size(), 64u);
  EXPECT_GT(AnchorOf(thai).size(), 55u);
  EXPECT_NE(static_cast<unsigned char>(AnchorOf(thai).front()) & 0xC0, 0x80);
}

}  // namespace
}  // namespace tandem::gateway::relay
