#include "engine/tokenizer/tokenizer.h"

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/utf8.h"
#include "engine/tokenizer/fake_vocabulary.h"

namespace tandem::tokenizer {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Ids = std::vector<int32_t>;

std::shared_ptr<const Tokenizer> Make(const Vocabulary& vocabulary, TokenizerOptions options = {}) {
  auto tokenizer = Tokenizer::Create(vocabulary, options);
  EXPECT_TRUE(tokenizer) << tokenizer.error().message;
  return *tokenizer;
}

std::shared_ptr<const Tokenizer> Fake(VocabularyKind kind = VocabularyKind::kO200k) {
  return Make(FakeVocabulary(kind));
}

// The tokens' texts, for readable expectations.
std::vector<std::string> Texts(const Tokenizer& tokenizer, const Ids& ids) {
  std::vector<std::string> texts;
  for (const int32_t id : ids) texts.emplace_back(tokenizer.TokenBytes(id));
  return texts;
}

// A vocabulary with one more added token, "[X]", with flags of its own.
Vocabulary WithFlags(AddedTokenFlags flags, VocabularyKind kind = VocabularyKind::kO200k,
                     std::string_view text = "[X]") {
  Vocabulary vocabulary = FakeVocabulary(kind);
  flags.id = static_cast<int32_t>(vocabulary.tokens.size());
  vocabulary.tokens.Append(text);
  vocabulary.types.push_back(TokenType::kControl);
  vocabulary.added = {flags};
  return vocabulary;
}

TEST(TokenizerTest, OrdinaryTextMergesAndComesBack) {
  const auto tokenizer = Fake();
  const Ids ids = tokenizer->Encode("hello there", SpecialTokens::kParse);
  EXPECT_THAT(Texts(*tokenizer, ids), ElementsAre("hello", " there"));
  EXPECT_EQ(tokenizer->Decode(ids, ControlTokens::kHide).value(), "hello there");
  EXPECT_TRUE(tokenizer->Encode("", SpecialTokens::kParse).empty());
}

TEST(TokenizerTest, MalformedInputIsEncodedAsReplacementCharacters) {
  const auto tokenizer = Fake();
  EXPECT_EQ(tokenizer->Encode("a\xFF\xE4\xBD", SpecialTokens::kIgnore),
            tokenizer->Encode("a\uFFFD\uFFFD", SpecialTokens::kIgnore));
}

TEST(TokenizerTest, SpecialTextIsParsedOnlyWhenAskedFor) {
  const auto tokenizer = Fake();
  EXPECT_THAT(tokenizer->Encode("<|end|>", SpecialTokens::kParse),
              ElementsAre(tokenizer->FindSpecial("<|end|>").value()));
  EXPECT_EQ(tokenizer->Encode("<|end|>", SpecialTokens::kIgnore).size(), 7u);
}

TEST(TokenizerTest, NoTextOfOthersGivesAnAddedToken) {
  std::mt19937 random(1);
  for (const VocabularyKind kind : {VocabularyKind::kO200k, VocabularyKind::kQwen2}) {
    const auto tokenizer = Fake(kind);
    std::vector<std::string> parts = {"<", "|", ">", "end", " ", "\n", "\xFF", "a", "\u0301"};
    for (int32_t id = 0; id < tokenizer->n_tokens(); ++id) {
      if (tokenizer->Type(id) != TokenType::kNormal) parts.emplace_back(tokenizer->TokenBytes(id));
    }
    for (int round = 0; round < 2000; ++round) {
      std::string text;
      for (int i = 0; i < 12; ++i) text += parts[random() % parts.size()];
      // Alone, and behind a marker of ours that the text could try to complete.
      const PromptSegment segments[] = {{"x<|", true}, {text, false}, {"|>y", true}};
      for (const Ids& ids :
           {tokenizer->Encode(text, SpecialTokens::kIgnore), tokenizer->EncodeSegments(segments)}) {
        for (const int32_t id : ids) ASSERT_EQ(tokenizer->Type(id), TokenType::kNormal) << text;
      }
    }
  }
}

TEST(TokenizerTest, SegmentsOfOursEncodeLikeOneText) {
  const auto tokenizer = Fake();
  const std::string text = "<|user|>hello\n\nhello there<|end|><|assistant|>";
  // Every cut outside of a marker, the two sides as segments: words and line breaks span them.
  for (const size_t cut : {8u, 10u, 13u, 14u, 15u, 18u, 26u, 33u}) {
    const PromptSegment segments[] = {{text.substr(0, cut), true}, {text.substr(cut), true}};
    EXPECT_EQ(tokenizer->EncodeSegments(segments), tokenizer->Encode(text, SpecialTokens::kParse));
  }
}

TEST(TokenizerTest, TextOfOthersJoinsTheTemplatesTextIntoOnePiece) {
  const auto tokenizer = Fake();
  const PromptSegment segments[] = {{"<|user|>hel", true}, {"lo\n", false}, {"\n<|end|>", true}};
  EXPECT_THAT(Texts(*tokenizer, tokenizer->EncodeSegments(segments)),
              ElementsAre("<|user|>", "hello", "\n\n", "<|end|>"));
}

TEST(AddedTokenTest, LongestOfSeveralAtTheLeftmostPlaceIsTaken) {
  Vocabulary vocabulary = FakeVocabulary();
  for (const auto text : {"[a", "[ab]", "[abc]", "b]"}) {
    vocabulary.tokens.Append(text);
    vocabulary.types.push_back(TokenType::kUserDefined);
  }
  const auto tokenizer = Make(vocabulary);
  const auto texts = [&](std::string_view text) {
    return Texts(*tokenizer, tokenizer->Encode(text, SpecialTokens::kParse));
  };
  EXPECT_THAT(texts("[abc]"), ElementsAre("[abc]"));
  EXPECT_THAT(texts("[ab]"), ElementsAre("[ab]"));
  EXPECT_THAT(texts("[abd"), ElementsAre("[a", "b", "d"));
  EXPECT_THAT(texts("b]b]"), ElementsAre("b]", "b]"));
  EXPECT_THAT(texts("["), ElementsAre("["));
}

TEST(AddedTokenTest, RstripEatsWhiteSpaceBehindAcrossSegments) {
  const auto tokenizer = Make(WithFlags({.rstrip = true}));
  EXPECT_THAT(Texts(*tokenizer, tokenizer->Encode("a [X] \n\u3000 b", SpecialTokens::kParse)),
              ElementsAre("a", " ", "[X]", "b"));
  const PromptSegment segments[] = {{"[X]", true}, {" \n", false}, {"  b c", false}};
  EXPECT_THAT(Texts(*tokenizer, tokenizer->EncodeSegments(segments)),
              ElementsAre("[X]", "b", " ", "c"));
}

TEST(AddedTokenTest, RstripCanBeSwitchedOff) {
  const auto tokenizer = Make(WithFlags({.rstrip = true}), {.rstrip = false});
  EXPECT_THAT(Texts(*tokenizer, tokenizer->Encode("[X]\nb", SpecialTokens::kParse)),
              ElementsAre("[X]", "\n", "b"));
}

TEST(AddedTokenTest, LstripEatsWhiteSpaceBeforeAcrossSegments) {
  const auto tokenizer = Make(WithFlags({.lstrip = true}));
  EXPECT_THAT(Texts(*tokenizer, tokenizer->Encode("a \u3000\n[X] b", SpecialTokens::kParse)),
              ElementsAre("a", "[X]", " ", "b"));
  const PromptSegment segments[] = {{"a ", false}, {" [X]", true}};
  EXPECT_THAT(Texts(*tokenizer, tokenizer->EncodeSegments(segments)), ElementsAre("a", "[X]"));
}

TEST(AddedTokenTest, SingleWordIsNotTakenOutOfAWord) {
  const auto tokenizer = Make(WithFlags({.single_word = true}, VocabularyKind::kO200k, "zq"));
  const int32_t id = tokenizer->FindSpecial("zq").value();
  const auto count = [&](std::string_view text) {
    return std::ranges::count(tokenizer->Encode(text, SpecialTokens::kParse), id);
  };
  EXPECT_EQ(count("zq"), 1);
  EXPECT_EQ(count("-zq-"), 1);
  EXPECT_EQ(count("azq"), 0);
  EXPECT_EQ(count("zq1"), 0);
  EXPECT_EQ(count("zq_ \u00E9zq zq"), 1);
  EXPECT_EQ(count("zqzq"), 0);
}

TEST(AddedTokenTest, NormalizedTokenIsFoundInNormalizedText) {
  constexpr std::string_view kComposed = "<caf\u00E9>", kDecomposed = "<cafe\u0301>";
  for (const bool normalized : {false, true}) {
    const auto tokenizer =
        Make(WithFlags({.normalized = normalized}, VocabularyKind::kQwen2, kComposed));
    EXPECT_EQ(tokenizer->Encode(kComposed, SpecialTokens::kParse).size(), 1u);
    EXPECT_EQ(tokenizer->Encode(kDecomposed, SpecialTokens::kParse).size() == 1, normalized);
    EXPECT_TRUE(tokenizer->FindSpecial(kComposed));
  }
}

// GGUF files have no flags; Phi-4-mini's family gets the published ones.
TEST(AddedTokenTest, Phi4MiniMarkersWithoutFlagsGetThePublishedOnes) {
  const auto tokenizer = Fake();
  const int32_t user = tokenizer->FindSpecial("<|user|>").value();
  const int32_t end_of_text = tokenizer->FindSpecial("<|endoftext|>").value();
  EXPECT_THAT(tokenizer->Encode("<|user|>\n a", SpecialTokens::kParse), ElementsAre(user, 'a'));
  EXPECT_THAT(tokenizer->Encode("<|endoftext|>\na", SpecialTokens::kParse),
              ElementsAre(end_of_text, '\n', 'a'));
  EXPECT_FALSE(tokenizer->IsControl(tokenizer->FindSpecial("<|tool_call|>").value()));
  EXPECT_TRUE(tokenizer->IsControl(user));
}

TEST(AddedTokenTest, OtherVocabulariesWithoutFlagsGetNone) {
  Vocabulary vocabulary = FakeVocabulary();
  Vocabulary other = FakeVocabulary();
  other.tokens = {};
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const std::string_view text = vocabulary.tokens[id];
    other.tokens.Append(text == "<|system|>" ? "<|tag|>" : text);
  }
  const auto tokenizer = Make(other);
  EXPECT_THAT(tokenizer->Encode("<|user|>\na", SpecialTokens::kParse),
              ElementsAre(tokenizer->FindSpecial("<|user|>").value(), '\n', 'a'));
  EXPECT_TRUE(tokenizer->IsControl(tokenizer->FindSpecial("<|tool_call|>").value()));
}

TEST(TokenizerTest, EndOfGenerationIsWhatTheFileNamesAndWhatEndsATurn) {
  Vocabulary vocabulary = FakeVocabulary();  // names <|endoftext|> as eos, as early files do
  vocabulary.eom = 'x';
  const auto tokenizer = Make(vocabulary);
  const int32_t end = tokenizer->FindSpecial("<|end|>").value();
  EXPECT_THAT(tokenizer->end_of_generation(),
              testing::UnorderedElementsAre('x', vocabulary.eos.value(), end));
  EXPECT_TRUE(tokenizer->IsEndOfGeneration(end));
  EXPECT_FALSE(tokenizer->IsEndOfGeneration('y'));
  const auto chat_ml = Fake(VocabularyKind::kQwen2);
  EXPECT_TRUE(chat_ml->IsEndOfGeneration(chat_ml->FindSpecial("<|im_end|>").value()));
}

TEST(TokenizerTest, PaddingRowsAreNotUsableAndComeFromNoText) {
  const auto tokenizer = Fake();
  const int32_t padding = tokenizer->n_tokens() - 1;
  EXPECT_FALSE(tokenizer->IsUsable(padding));
  EXPECT_FALSE(tokenizer->IsUsable(-1));
  EXPECT_FALSE(tokenizer->IsUsable(tokenizer->n_tokens()));
  EXPECT_TRUE(tokenizer->IsUsable('a'));
  EXPECT_FALSE(tokenizer->FindSpecial("[PAD]"));
  EXPECT_EQ(tokenizer->Encode("[PAD]", SpecialTokens::kParse).size(), 5u);
}

TEST(TokenizerTest, TokenThatSpellsNoBytesDecodesToItsSpelling) {
  Vocabulary vocabulary = FakeVocabulary();
  const auto id = static_cast<int32_t>(vocabulary.tokens.size());
  vocabulary.tokens.Append("two words");
  vocabulary.types.push_back(TokenType::kNormal);
  EXPECT_EQ(Make(vocabulary)->TokenBytes(id), "two words");
}

TEST(TokenizerTest, DecodeNamesAnIdOutOfRange) {
  const auto tokenizer = Fake();
  for (const int32_t id : {-1, tokenizer->n_tokens()}) {
    const auto text = tokenizer->Decode(Ids{'a', id}, ControlTokens::kHide);
    ASSERT_FALSE(text);
    EXPECT_EQ(text.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(text.error().message, HasSubstr("position 1"));
  }
}

struct BadVocabulary {
  std::string_view what;
  void (*spoil)(Vocabulary*);
  std::string_view message;
};

TEST(TokenizerTest, VocabularyThatContradictsItselfIsNamed) {
  const BadVocabulary cases[] = {
      {"types missing", [](Vocabulary* v) { v->types.pop_back(); }, "token types"},
      {"eos out of range", [](Vocabulary* v) { v->eos = 1 << 20; }, "the eos token is 1048576"},
      {"negative bos", [](Vocabulary* v) { v->bos = -1; }, "the bos token is -1"},
      {"flags of an ordinary token", [](Vocabulary* v) { v->added = {{.id = 'a'}}; },
       "added token 97 is not among"},
      {"flags of no token", [](Vocabulary* v) { v->added = {{.id = -5}}; }, "added token -5"},
      {"an empty added token",
       [](Vocabulary* v) {
         v->tokens.Append("");
         v->types.push_back(TokenType::kControl);
       },
       "of 0 bytes"},
      {"a huge added token",
       [](Vocabulary* v) {
         v->tokens.Append(std::string(513, 'x'));
         v->types.push_back(TokenType::kUserDefined);
       },
       "of 513 bytes"},
      {"an added token that is not UTF-8",
       [](Vocabulary* v) {
         v->tokens.Append("\xC3");
         v->types.push_back(TokenType::kControl);
       },
       "is not UTF-8"},
      {"an empty vocabulary", [](Vocabulary* v) { *v = Vocabulary(); }, "no token for byte 0x00"},
  };
  for (const BadVocabulary& bad : cases) {
    Vocabulary vocabulary = FakeVocabulary();
    bad.spoil(&vocabulary);
    const auto tokenizer = Tokenizer::Create(vocabulary);
    ASSERT_FALSE(tokenizer) << bad.what;
    EXPECT_EQ(tokenizer.error().code, ErrorCode::kCorrupt) << bad.what;
    EXPECT_THAT(tokenizer.error().message, HasSubstr(std::string(bad.message))) << bad.what;
  }
}

TEST(VocabularyTest, PreTokenizerNamesAreTheFamilies) {
  EXPECT_EQ(VocabularyKindFromPre("gpt-4o").value(), VocabularyKind::kO200k);
  EXPECT_EQ(VocabularyKindFromPre("qwen2").value(), VocabularyKind::kQwen2);
  const auto other = VocabularyKindFromPre("llama-bpe");
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(other.error().message, HasSubstr("'llama-bpe'"));
}

}  // namespace
}  // namespace tandem::tokenizer
