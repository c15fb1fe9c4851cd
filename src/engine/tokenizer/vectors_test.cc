// The published tokenizers against ../shared/facts (raw oracle output). Skipped where the
// tokenizers are not at hand: they are not part of the repository.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
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

struct Loaded {
  json::object vectors;
  Vocabulary vocabulary;
  std::shared_ptr<const Tokenizer> tokenizer;
};

// Parsing the big files takes most of the time, so each is parsed once. Null: not at hand.
const Loaded* Load(const Family& family) {
  static std::map<std::string_view, std::unique_ptr<Loaded>> cache;
  auto& loaded = cache[family.tokenizer];
  if (loaded == nullptr && std::filesystem::exists(Shared(family.tokenizer)) &&
      std::filesystem::exists(Shared(family.vectors))) {
    loaded = std::make_unique<Loaded>();
    loaded->vectors = json::parse(ReadAll(Shared(family.vectors))).as_object();
    loaded->vocabulary = VocabularyFromTokenizerJson(ReadAll(Shared(family.tokenizer))).value();
    loaded->tokenizer = Tokenizer::Create(loaded->vocabulary).value();
  }
  return loaded.get();
}

class VectorsTest : public testing::TestWithParam<Family> {
 protected:
  void SetUp() override {
    const Loaded* loaded = Load(GetParam());
    if (loaded == nullptr) GTEST_SKIP() << "needs ../shared";
    loaded_ = loaded;
    tokenizer_ = loaded->tokenizer;
  }

  bool Normalizes() const { return tokenizer_->kind() == VocabularyKind::kQwen2; }

  const Loaded* loaded_ = nullptr;
  std::shared_ptr<const Tokenizer> tokenizer_;
};

TEST_P(VectorsTest, OrdinaryTextGivesTheOraclesPiecesAndIds) {
  const json::array& vectors = loaded_->vectors.at("vectors").as_array();
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
  const auto lenient = Tokenizer::Create(loaded_->vocabulary, no_rstrip).value();
  for (const json::value& value : loaded_->vectors.at(GetParam().chat_vectors).as_array()) {
    const json::object& vector = value.as_object();
    const std::string_view text = vector.at("text").as_string();
    EXPECT_EQ(tokenizer_->Encode(text, SpecialTokens::kParse), Ids(vector.at("ids"))) << text;
    const auto* without = vector.if_contains("ids_no_rstrip");
    EXPECT_EQ(lenient->Encode(text, SpecialTokens::kParse),
              Ids(without == nullptr ? vector.at("ids") : *without))
        << text;
  }
}

// What a GGUF file of the same model holds: control tokens without flags, and padding rows.
TEST_P(VectorsTest, VocabularyWithoutFlagsGivesTheSameIds) {
  Vocabulary gguf = loaded_->vocabulary;
  gguf.added.reset();
  for (size_t id = 0; id < gguf.types.size(); ++id) {
    if (gguf.types[id] == TokenType::kUserDefined && gguf.tokens[id].starts_with("<|")) {
      gguf.types[id] = TokenType::kControl;
    }
  }
  for (int i = 0; i < 16; ++i) {
    gguf.tokens.Append("[PAD" + std::to_string(gguf.tokens.size()) + "]");
    gguf.types.push_back(TokenType::kUnused);
  }
  const auto tokenizer = Tokenizer::Create(gguf);
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  for (const json::value& value : loaded_->vectors.at(GetParam().chat_vectors).as_array()) {
    const std::string_view text = value.as_object().at("text").as_string();
    EXPECT_EQ((*tokenizer)->Encode(text, SpecialTokens::kParse), Ids(value.as_object().at("ids")));
  }
}

// Counted, not timed, with the real merges.
TEST_P(VectorsTest, LongWordTakesLinearlyManyQueueOperations) {
  const auto merger = BytePairMerger::Create(loaded_->vocabulary).value();
  constexpr size_t kBytes = 200'000;
  std::string letters;
  uint32_t random = 1;
  for (size_t i = 0; i < kBytes; ++i) {
    random = random * 1664525 + 1013904223;
    letters += static_cast<char>('a' + (random >> 24) % 26);
  }
  for (const std::string& piece : {std::string(kBytes, 'a'), std::string(kBytes, ' '), letters}) {
    MergeWorkspace workspace;
    std::vector<int32_t> ids;
    merger.Encode(piece, &workspace, &ids);
    EXPECT_LE(workspace.n_queue_operations(), 6 * kBytes);
    std::string back;
    for (const int32_t id : ids) back += tokenizer_->TokenBytes(id);
    EXPECT_EQ(back, piece);
  }
}

INSTANTIATE_TEST_SUITE_P(Families, VectorsTest, testing::Values(kPhi, kMimo),
                         [](const auto& family) {
                           return std::string(family.index == 0 ? "Phi4Mini" : "MiMo");
                         });

}  // namespace
}  // namespace tandem::tokenizer
