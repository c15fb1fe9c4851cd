#include "engine/model/vocabulary.h"

#include <functional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/gguf/writer.h"

namespace tandem::model {
namespace {

using ::testing::HasSubstr;
using tokenizer::TokenType;

// A file of tokenizer keys; the bytes live as long as this.
class VocabularyTest : public ::testing::Test {
 protected:
  VocabularyTest() {
    writer_.SetString("tokenizer.ggml.model", "gpt2");
    writer_.SetString("tokenizer.ggml.pre", "qwen2");
    writer_.SetStringArray("tokenizer.ggml.tokens",
                           std::vector<std::string>{"a", "b", "ab", "<|im_end|>"});
    writer_.SetArray<int32_t>("tokenizer.ggml.token_type", std::vector<int32_t>{1, 1, 1, 3});
    writer_.SetStringArray("tokenizer.ggml.merges", std::vector<std::string>{"a b"});
  }

  Result<tokenizer::Vocabulary> Read() {
    bytes_ = writer_.FinishInMemory().value();
    file_ = gguf::File::Parse(bytes_, "vocabulary.gguf").value();
    return VocabularyFromGguf(*file_);
  }

  void ExpectRefused(ErrorCode code, const char* message) {
    const auto vocabulary = Read();
    ASSERT_FALSE(vocabulary);
    EXPECT_EQ(vocabulary.error().code, code);
    EXPECT_THAT(vocabulary.error().message, HasSubstr(message));
  }

  gguf::Writer writer_;
  std::vector<std::byte> bytes_;
  std::shared_ptr<const gguf::File> file_;
};

TEST_F(VocabularyTest, HoldsWhatTheKeysSay) {
  writer_.SetNumber<uint32_t>("tokenizer.ggml.bos_token_id", 0);
  writer_.SetNumber<uint32_t>("tokenizer.ggml.eos_token_id", 3);
  writer_.SetNumber<uint32_t>("tokenizer.ggml.padding_token_id", 1);
  writer_.SetNumber<bool>("tokenizer.ggml.add_bos_token", true);
  writer_.SetString("tokenizer.chat_template", "{{ messages }}");
  const auto vocabulary = Read();
  ASSERT_TRUE(vocabulary) << vocabulary.error().message;
  EXPECT_EQ(vocabulary->kind, tokenizer::VocabularyKind::kQwen2);
  ASSERT_EQ(vocabulary->tokens.size(), 4U);
  EXPECT_EQ(vocabulary->tokens[2], "ab");
  EXPECT_EQ(vocabulary->tokens[3], "<|im_end|>");
  ASSERT_EQ(vocabulary->types.size(), 4U);
  EXPECT_EQ(vocabulary->types[3], TokenType::kControl);
  ASSERT_EQ(vocabulary->merges.size(), 1U);
  EXPECT_EQ(vocabulary->merges[0], "a b");
  EXPECT_FALSE(vocabulary->added);
  EXPECT_EQ(vocabulary->bos, 0);
  EXPECT_EQ(vocabulary->eos, 3);
  EXPECT_EQ(vocabulary->pad, 1);
  EXPECT_FALSE(vocabulary->eot);
  EXPECT_FALSE(vocabulary->eom);
  EXPECT_TRUE(vocabulary->add_bos);
  EXPECT_EQ(vocabulary->chat_template, "{{ messages }}");
}

TEST_F(VocabularyTest, PhiFilesAreO200k) {
  writer_.SetString("tokenizer.ggml.pre", "gpt-4o");
  const auto vocabulary = Read();
  ASSERT_TRUE(vocabulary) << vocabulary.error().message;
  EXPECT_EQ(vocabulary->kind, tokenizer::VocabularyKind::kO200k);
  EXPECT_FALSE(vocabulary->add_bos);
  EXPECT_EQ(vocabulary->chat_template, "");
}

TEST_F(VocabularyTest, OtherModelsAreUnsupported) {
  writer_.SetString("tokenizer.ggml.model", "llama");
  ExpectRefused(ErrorCode::kUnsupported, "'llama'");
}

TEST_F(VocabularyTest, OtherPreTokenisersAreUnsupported) {
  writer_.SetString("tokenizer.ggml.pre", "starcoder");
  ExpectRefused(ErrorCode::kUnsupported, "starcoder");
}

TEST_F(VocabularyTest, EmptyTokensAreRefused) {
  writer_.SetStringArray("tokenizer.ggml.tokens", std::vector<std::string>{});
  ExpectRefused(ErrorCode::kCorrupt, "tokenizer.ggml.tokens is empty");
}

TEST_F(VocabularyTest, TypesOfAnotherCountAreRefused) {
  writer_.SetArray<int32_t>("tokenizer.ggml.token_type", std::vector<int32_t>{1, 1, 1});
  ExpectRefused(ErrorCode::kCorrupt, "3 entries for 4 tokens");
}

TEST_F(VocabularyTest, UnknownTypesAreRefused) {
  for (const int32_t type : {0, 7, -1, INT32_MAX}) {
    writer_ = {};
    writer_.SetString("tokenizer.ggml.model", "gpt2");
    writer_.SetString("tokenizer.ggml.pre", "qwen2");
    writer_.SetStringArray("tokenizer.ggml.tokens", std::vector<std::string>{"a"});
    writer_.SetArray<int32_t>("tokenizer.ggml.token_type", std::vector<int32_t>{type});
    writer_.SetStringArray("tokenizer.ggml.merges", std::vector<std::string>{});
    ExpectRefused(ErrorCode::kCorrupt, "token 0 is");
  }
}

TEST_F(VocabularyTest, SpecialIdsOutsideTheVocabularyAreRefused) {
  writer_.SetNumber<uint32_t>("tokenizer.ggml.eos_token_id", 4);
  ExpectRefused(ErrorCode::kCorrupt, "tokenizer.ggml.eos_token_id is 4, but there are 4 tokens");
}

TEST_F(VocabularyTest, MoreTokensThanEmbeddingsAreRefused) {
  const std::vector<std::byte> rows(3 * 2 * sizeof(float));
  writer_.AddTensor("token_embd.weight", quant::Type::kF32, std::vector<int64_t>{2, 3},
                    std::span<const std::byte>(rows));
  ExpectRefused(ErrorCode::kCorrupt, "4 tokens but only 3 rows");
}

TEST(VocabularyKeysTest, EveryNeededKeyIsMissedByName) {
  for (const std::string missing : {"model", "pre", "tokens", "merges"}) {
    gguf::Writer writer;
    if (missing != "model") writer.SetString("tokenizer.ggml.model", "gpt2");
    if (missing != "pre") writer.SetString("tokenizer.ggml.pre", "gpt-4o");
    if (missing != "tokens") {
      writer.SetStringArray("tokenizer.ggml.tokens", std::vector<std::string>{"a"});
    }
    if (missing != "merges") {
      writer.SetStringArray("tokenizer.ggml.merges", std::vector<std::string>{});
    }
    const auto bytes = writer.FinishInMemory().value();
    const auto file = gguf::File::Parse(bytes, "vocabulary.gguf").value();
    const auto vocabulary = VocabularyFromGguf(*file);
    ASSERT_FALSE(vocabulary) << missing;
    EXPECT_EQ(vocabulary.error().code, ErrorCode::kCorrupt);
    EXPECT_THAT(vocabulary.error().message, HasSubstr("tokenizer.ggml." + missing));
  }
}

}  // namespace
}  // namespace tandem::model
