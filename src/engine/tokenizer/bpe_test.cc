#include "engine/tokenizer/bpe.h"

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "engine/tokenizer/byte_unicode.h"
#include "engine/tokenizer/fake_vocabulary.h"

namespace tandem::tokenizer {
namespace {

std::vector<int32_t> Encode(const BytePairMerger& merger, std::string_view piece,
                            MergeWorkspace* workspace) {
  std::vector<int32_t> ids;
  merger.Encode(piece, workspace, &ids);
  return ids;
}

// The definition, in its own words: join the adjacent pair whose merge is listed first, the
// leftmost of equals, until none applies.
class NaiveMerger {
 public:
  explicit NaiveMerger(const Vocabulary& vocabulary) : vocabulary_(vocabulary) {
    for (size_t i = 0; i < vocabulary.merges.size(); ++i) {
      const std::string_view line = vocabulary.merges[i];
      const size_t space = line.find(' ', 1);
      rank_.emplace(
          std::pair(std::string(line.substr(0, space)), std::string(line.substr(space + 1))), i);
    }
  }

  std::vector<int32_t> Encode(std::string_view piece) const {
    std::vector<std::string> symbols;
    for (size_t i = 0; i < piece.size(); ++i)
      symbols.push_back(UnicodeFromBytes(piece.substr(i, 1)));
    while (true) {
      size_t best = SIZE_MAX, best_at = 0;
      for (size_t i = 0; i + 1 < symbols.size(); ++i) {
        const auto found = rank_.find({symbols[i], symbols[i + 1]});
        if (found != rank_.end() && found->second < best) {
          best = found->second;
          best_at = i;
        }
      }
      if (best == SIZE_MAX) break;
      symbols[best_at] += symbols[best_at + 1];
      symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(best_at) + 1);
    }
    std::vector<int32_t> ids;
    for (const std::string& symbol : symbols) {
      for (size_t id = 0; id < vocabulary_.tokens.size(); ++id) {
        if (vocabulary_.tokens[id] == symbol) ids.push_back(static_cast<int32_t>(id));
      }
    }
    return ids;
  }

 private:
  const Vocabulary& vocabulary_;
  std::map<std::pair<std::string, std::string>, size_t> rank_;
};

// All bytes, and random merges over "abc" whose results may themselves be merged: the same text is
// often reached in several ways, as in no trained vocabulary.
Vocabulary RandomVocabulary(std::mt19937* random) {
  Vocabulary vocabulary;
  std::vector<std::string> symbols = {"a", "b", "c"};
  for (int byte = 0; byte < 256; ++byte) {
    const char bytes[] = {static_cast<char>(byte)};
    vocabulary.tokens.Append(UnicodeFromBytes({bytes, 1}));
    vocabulary.types.push_back(TokenType::kNormal);
  }
  for (int i = 0; i < 30; ++i) {
    const std::string left = symbols[(*random)() % symbols.size()];
    const std::string right = symbols[(*random)() % symbols.size()];
    if (left.size() + right.size() > 8) continue;
    vocabulary.merges.Append(left + " " + right);
    if (std::ranges::find(symbols, left + right) != symbols.end()) continue;
    symbols.push_back(left + right);
    vocabulary.tokens.Append(left + right);
    vocabulary.types.push_back(TokenType::kNormal);
  }
  return vocabulary;
}

TEST(BytePairMergerTest, RandomMergesGiveWhatTheDefinitionGives) {
  std::mt19937 random(1);
  MergeWorkspace workspace;
  for (int round = 0; round < 60; ++round) {
    const Vocabulary vocabulary = RandomVocabulary(&random);
    const NaiveMerger naive(vocabulary);
    const auto merger = BytePairMerger::Create(vocabulary);
    ASSERT_TRUE(merger) << merger.error().message;
    for (int i = 0; i < 40; ++i) {
      std::string piece;
      for (size_t n = random() % 40; n > 0; --n) piece += static_cast<char>('a' + random() % 3);
      ASSERT_EQ(Encode(*merger, piece, &workspace), naive.Encode(piece)) << piece;
    }
  }
}

TEST(BytePairMergerTest, LeftmostOfEqualMergesComesFirst) {
  const auto merger = BytePairMerger::Create(FakeVocabulary()).value();
  MergeWorkspace workspace;
  const auto two = Encode(merger, "aa", &workspace);
  ASSERT_EQ(two.size(), 1u);
  EXPECT_EQ(Encode(merger, "aaa", &workspace), (std::vector<int32_t>{two[0], 'a'}));
}

// Counted, not timed: each byte can be pushed once at first and each of fewer than n merges pushes
// at most two more, and every push is popped once.
TEST(BytePairMergerTest, MillionByteWordTakesLinearlyManyQueueOperations) {
  const auto merger = BytePairMerger::Create(FakeVocabulary()).value();
  constexpr size_t kBytes = 1'000'000;
  std::mt19937 random(1);
  std::string letters;
  for (size_t i = 0; i < kBytes; ++i) letters += static_cast<char>('a' + random() % 26);
  for (const std::string& piece : {std::string(kBytes, 'a'), std::string(kBytes, ' '), letters}) {
    MergeWorkspace workspace;
    const std::vector<int32_t> ids = Encode(merger, piece, &workspace);
    EXPECT_GT(workspace.n_queue_operations(), 0u);
    EXPECT_LE(workspace.n_queue_operations(), 6 * kBytes);
    EXPECT_LT(ids.size(), kBytes);
  }
  MergeWorkspace workspace;
  EXPECT_EQ(Encode(merger, std::string(kBytes, 'a'), &workspace).size(), kBytes / 16);
}

TEST(BytePairMergerTest, EmptyPieceGivesNothing) {
  const auto merger = BytePairMerger::Create(FakeVocabulary()).value();
  MergeWorkspace workspace;
  EXPECT_TRUE(Encode(merger, "", &workspace).empty());
}

struct BadVocabulary {
  std::string_view what;
  void (*spoil)(Vocabulary*);
  std::string_view message;
};

TEST(BytePairMergerTest, VocabularyThatContradictsItselfIsNamed) {
  const BadVocabulary cases[] = {
      {"a second token with one text",
       [](Vocabulary* v) {
         v->tokens.Append("hello");
         v->types.push_back(TokenType::kNormal);
       },
       "are both 'hello'"},
      {"no byte tokens",
       [](Vocabulary* v) { v->types.assign(v->types.size(), TokenType::kUnused); },
       "no token for byte 0x00"},
      {"no space in a merge", [](Vocabulary* v) { v->merges.Append("ab"); }, "'left right'"},
      {"an empty merge", [](Vocabulary* v) { v->merges.Append(""); }, "'left right'"},
      {"an unknown left side", [](Vocabulary* v) { v->merges.Append("zq a"); }, "needs 'zq'"},
      {"an unknown right side", [](Vocabulary* v) { v->merges.Append("a zq"); }, "needs 'zq'"},
      {"an unknown result", [](Vocabulary* v) { v->merges.Append("q z"); }, "needs 'qz'"},
      {"a merge that makes a control token",
       [](Vocabulary* v) {
         v->tokens.Append("qz");
         v->types.push_back(TokenType::kControl);
         v->merges.Append("q z");
       },
       "needs 'qz', which is not an ordinary token"},
  };
  for (const BadVocabulary& bad : cases) {
    Vocabulary vocabulary = FakeVocabulary();
    bad.spoil(&vocabulary);
    const auto merger = BytePairMerger::Create(vocabulary);
    ASSERT_FALSE(merger) << bad.what;
    EXPECT_EQ(merger.error().code, ErrorCode::kCorrupt) << bad.what;
    EXPECT_NE(merger.error().message.find(bad.message), std::string::npos)
        << merger.error().message;
  }
}

TEST(ByteUnicodeTest, SpellingIsGpt2sAndReversible) {
  EXPECT_EQ(UnicodeFromBytes(" \n\t!\x7F\xA0\xAD"), "\u0120\u010A\u0109!\u0121\u0142\u0143");
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  std::string back = "kept";
  EXPECT_TRUE(AppendBytesFromUnicode(UnicodeFromBytes(all), &back));
  EXPECT_EQ(back, "kept" + all);
}

TEST(ByteUnicodeTest, TextThatSpellsNoBytesIsRefusedAndLeavesTheOutput) {
  for (const std::string_view text : {"a b", "\u0144", "\x80", "a\u3042"}) {
    std::string out = "kept";
    EXPECT_FALSE(AppendBytesFromUnicode(text, &out)) << text;
    EXPECT_EQ(out, "kept");
  }
}

}  // namespace
}  // namespace tandem::tokenizer
