#include "engine/tokenizer/tables.h"

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/tokenizer/fake_vocabulary.h"
#include "engine/tokenizer/tokenizer.h"

namespace tandem::tokenizer {
namespace {

using testing::HasSubstr;

constexpr const char* kTexts[] = {"hello there world, 123 \xE4\xBD\xA0\xE5\xA5\xBD <|user|> x",
                                  "<|im_start|>user\n  the end<|im_end|>", "aaaaaaaaaaaa", "\xFF"};

std::vector<std::byte> Image(VocabularyKind kind = VocabularyKind::kO200k) {
  const auto tokenizer = Tokenizer::Create(FakeVocabulary(kind)).value();
  const auto bytes = tokenizer->bytes();
  return {bytes.begin(), bytes.end()};
}

Result<std::shared_ptr<const Tokenizer>> Open(std::vector<std::byte> image) {
  auto owner = std::make_shared<const std::vector<std::byte>>(std::move(image));
  const std::span<const std::byte> bytes(*owner);
  return Tokenizer::Open(bytes, std::move(owner));
}

// Everything that a tokenizer offers, on tables that nobody vouches for.
void Use(const Tokenizer& tokenizer) {
  for (const char* text : kTexts) {
    const auto ids = tokenizer.Encode(text, SpecialTokens::kParse);
    EXPECT_TRUE(tokenizer.Decode(ids, ControlTokens::kShow));
  }
  for (int32_t id = -1; id <= tokenizer.n_tokens(); ++id) {
    (void)tokenizer.TokenBytes(id).size();
    (void)tokenizer.IsEndOfGeneration(id);
  }
}

TEST(TablesTest, TokenizerOverTablesDoesWhatTheOneThatMadeThemDoes) {
  for (const VocabularyKind kind : {VocabularyKind::kO200k, VocabularyKind::kQwen2}) {
    Vocabulary vocabulary = FakeVocabulary(kind);
    vocabulary.add_bos = true;
    const auto made = Tokenizer::Create(vocabulary).value();
    const auto opened = Open({made->bytes().begin(), made->bytes().end()}).value();
    EXPECT_TRUE(std::ranges::equal(opened->bytes(), made->bytes()));
    ASSERT_EQ(opened->n_tokens(), made->n_tokens());
    for (int32_t id = 0; id < made->n_tokens(); ++id) {
      EXPECT_EQ(opened->TokenBytes(id), made->TokenBytes(id));
      EXPECT_EQ(opened->Type(id), made->Type(id));
    }
    EXPECT_EQ(opened->kind(), kind);
    EXPECT_EQ(opened->end_of_generation(), made->end_of_generation());
    EXPECT_FALSE(opened->end_of_generation().empty());
    EXPECT_EQ(opened->bos(), made->bos());
    EXPECT_EQ(opened->eos(), made->eos());
    EXPECT_EQ(opened->pad(), made->pad());
    EXPECT_TRUE(opened->add_bos());
    for (const char* text : kTexts) {
      for (const SpecialTokens special : {SpecialTokens::kParse, SpecialTokens::kIgnore}) {
        EXPECT_EQ(opened->Encode(text, special), made->Encode(text, special));
      }
    }
  }
}

TEST(TablesTest, FlagsOfAddedTokensAreKept) {
  for (int bits = 0; bits < 16; ++bits) {
    Vocabulary vocabulary = FakeVocabulary();
    const AddedTokenFlags flags{.id = static_cast<int32_t>(vocabulary.tokens.size()),
                                .lstrip = (bits & 1) != 0,
                                .rstrip = (bits & 2) != 0,
                                .single_word = (bits & 4) != 0,
                                .normalized = (bits & 8) != 0};
    vocabulary.tokens.Append("[X]");
    vocabulary.types.push_back(TokenType::kControl);
    vocabulary.added = {flags};
    const auto made = Tokenizer::Create(vocabulary).value();
    const AddedTokenFlags read = ReadTables(made->bytes()).value().added.back();
    EXPECT_EQ(read.id, flags.id);
    EXPECT_EQ(read.lstrip, flags.lstrip);
    EXPECT_EQ(read.rstrip, flags.rstrip);
    EXPECT_EQ(read.single_word, flags.single_word);
    EXPECT_EQ(read.normalized, flags.normalized);
  }
}

TEST(TablesTest, EveryTruncationIsAnError) {
  const std::vector<std::byte> image = Image();
  for (size_t n = 0; n < image.size(); ++n) {
    const auto opened = Open({image.begin(), image.begin() + static_cast<ptrdiff_t>(n)});
    ASSERT_FALSE(opened) << n;
    EXPECT_EQ(opened.error().code, ErrorCode::kCorrupt);
  }
  std::vector<std::byte> longer = image;
  longer.push_back(std::byte{0});
  EXPECT_FALSE(Open(longer));
}

TEST(TablesTest, AnyChangedWordIsAnErrorOrSafeToUse) {
  const std::vector<std::byte> image = Image();
  size_t refused = 0;
  for (size_t at = 0; at + 4 <= image.size(); at += 4) {
    for (const uint32_t value : {0U, 1U, 0x7FFFFFFFU, 0xFFFFFFFFU}) {
      std::vector<std::byte> changed = image;
      std::memcpy(changed.data() + at, &value, sizeof value);
      const auto opened = Open(std::move(changed));
      if (opened) {
        if (at % 64 == 0) Use(**opened);
      } else {
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 1000U);
}

TEST(TablesTest, AHashTableWithoutAnEmptySlotIsRefused) {
  std::vector<std::byte> image = Image();
  const Tables tables = ReadTables(image).value();
  std::vector<uint32_t> full(tables.slots.size(), 0);
  Tables forged = tables;
  forged.slots = full;
  const auto opened = Open(WriteTables(forged));
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().message, HasSubstr("hash slots"));
}

TEST(TablesTest, AnotherVersionSaysWhatToDo) {
  std::vector<std::byte> image = Image();
  image[0] = std::byte{2};
  const auto opened = Open(image);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(opened.error().message, HasSubstr("pack the model again"));
}

}  // namespace
}  // namespace tandem::tokenizer
