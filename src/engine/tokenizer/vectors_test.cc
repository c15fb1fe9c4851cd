// The published tokenizers against ../shared/facts (raw oracle output). Skipped where the
// tokenizers are not at hand: they are not part of the repository.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <boost/json.hpp>

#include "engine/tokenizer/normalizer.h"
#include "engine/tokenizer/pretokenizer.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/tokenizer_json.h"

namespace tandem::tokenizer {
namespace {

namespace json = boost::json;

std::filesystem::path Shared(std::string_view path) {
  return std::filesystem::path(TANDEM_SOURCE_DIR) / ".." / "shared" / path;
}

std::string ReadAll(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string FromHex(std::string_view hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
  }
  return bytes;
}

std::vector<int32_t> Ids(const json::value& value) {
  std::vector<int32_t> ids;
  for (const json::value& id : value.as_array()) ids.push_back(id.to_number<int32_t>());
  return ids;
}

struct Family {
  std::string_view tokenizer, vectors, chat_vectors;
};
constexpr Family kPhi = {"data/phi-4-mini.tokenizer.json", "facts/o200k_vectors.json",
                         "phi4_mini_chat_vectors"};
constexpr Family kMimo = {"data/mimo-7b-sft.tokenizer.json", "facts/qwen2_vectors.json",
                          "chat_vectors"};

void PrintTo(const Family& family, std::ostream* out) { *out << family.tokenizer; }

class VectorsTest : public testing::TestWithParam<Family> {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(Shared(GetParam().tokenizer)) ||
        !std::filesystem::exists(Shared(GetParam().vectors))) {
      GTEST_SKIP() << "needs ../shared";
    }
    vectors_ = json::parse(ReadAll(Shared(GetParam().vectors))).as_object();
    const auto vocabulary = VocabularyFromTokenizerJson(ReadAll(Shared(GetParam().tokenizer)));
    ASSERT_TRUE(vocabulary) << vocabulary.error().message;
    vocabulary_ = *vocabulary;
    const auto tokenizer = Tokenizer::Create(vocabulary_);
    ASSERT_TRUE(tokenizer) << tokenizer.error().message;
    tokenizer_ = *tokenizer;
  }

  bool Normalizes() const { return tokenizer_->kind() == VocabularyKind::kQwen2; }

  json::object vectors_;
  Vocabulary vocabulary_;
  std::shared_ptr<const Tokenizer> tokenizer_;
};

TEST_P(VectorsTest, OrdinaryTextGivesTheOraclesPiecesAndIds) {
  const json::array& vectors = vectors_["vectors"].as_array();
  ASSERT_EQ(vectors.size(), 468u);
  for (const json::value& value : vectors) {
    const json::object& vector = value.as_object();
    const std::string text = FromHex(vector.at("utf8_hex").as_string());
    const std::string normal = Normalizes() ? NormalizeNfc(text) : text;
    std::vector<std::string> expected_pieces;
    for (const json::value& piece : vector.at("pretokens_utf8_hex").as_array()) {
      expected_pieces.push_back(FromHex(piece.as_string()));
    }
    const auto pieces = Pretokenize(tokenizer_->kind(), normal);
    EXPECT_EQ(std::vector<std::string>(pieces.begin(), pieces.end()), expected_pieces)
        << vector.at("text");
    if (vector.contains("nfc_changes")) {
      EXPECT_EQ(normal != text, vector.at("nfc_changes").as_bool()) << vector.at("text");
    }

    const std::vector<int32_t> ids = tokenizer_->Encode(text, SpecialTokens::kIgnore);
    EXPECT_EQ(ids, Ids(vector.at("ids"))) << vector.at("text");
    EXPECT_EQ(tokenizer_->Decode(ids, ControlTokens::kHide).value(), normal);
  }
}

TEST_P(VectorsTest, ChatTextGivesTheOraclesIds) {
  TokenizerOptions no_rstrip;
  no_rstrip.rstrip = false;
  const auto lenient = Tokenizer::Create(vocabulary_, no_rstrip).value();
  for (const json::value& value : vectors_[GetParam().chat_vectors].as_array()) {
    const json::object& vector = value.as_object();
    const std::string_view text = vector.at("text").as_string();
    EXPECT_EQ(tokenizer_->Encode(text, SpecialTokens::kParse), Ids(vector.at("ids"))) << text;
    const auto* without = vector.if_contains("ids_no_rstrip");
    EXPECT_EQ(lenient->Encode(text, SpecialTokens::kParse),
              Ids(without == nullptr ? vector.at("ids") : *without))
        << text;
  }
}

INSTANTIATE_TEST_SUITE_P(Families, VectorsTest, testing::Values(kPhi, kMimo),
                         [](const auto& family) {
                           return std::string(family.index == 0 ? "Phi4Mini" : "MiMo");
                         });

}  // namespace
}  // namespace tandem::tokenizer
