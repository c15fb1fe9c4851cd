#include "engine/tokenizer/tokenizer_json.h"

#include <functional>
#include <string>
#include <string_view>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <boost/json.hpp>

#include "engine/tokenizer/fake_vocabulary.h"
#include "engine/tokenizer/tokenizer.h"

namespace tandem::tokenizer {
namespace {

namespace json = boost::json;
using testing::HasSubstr;

constexpr std::string_view kQwen2Pattern =
    R"re((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)re";

// The fake vocabulary of the qwen2 family as a tokenizer.json.
json::object Document() {
  const Vocabulary fake = FakeVocabulary(VocabularyKind::kQwen2);
  json::object vocab;
  json::array merges, added;
  for (size_t id = 0; id < fake.tokens.size(); ++id) {
    const std::string_view text = fake.tokens[id];
    if (fake.types[id] == TokenType::kNormal) vocab[text] = id;
    if (fake.types[id] == TokenType::kControl || fake.types[id] == TokenType::kUserDefined) {
      added.push_back({{"id", id},
                       {"content", text},
                       {"special", fake.types[id] == TokenType::kControl},
                       {"rstrip", text == "<|im_end|>"}});
    }
  }
  for (size_t i = 0; i < fake.merges.size(); ++i) merges.emplace_back(fake.merges[i]);
  return {
      {"added_tokens", added},
      {"normalizer", {{"type", "NFC"}}},
      {"pre_tokenizer",
       {{"type", "Sequence"},
        {"pretokenizers",
         {{{"type", "Split"}, {"pattern", {{"Regex", kQwen2Pattern}}}},
          {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}}},
      {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}},
  };
}

json::object& Model(json::object* document) { return (*document)["model"].as_object(); }

TEST(TokenizerJsonTest, DocumentGivesTheSameTokenizer) {
  const auto vocabulary = VocabularyFromTokenizerJson(json::serialize(Document()));
  ASSERT_TRUE(vocabulary) << vocabulary.error().message;
  EXPECT_EQ(vocabulary->kind, VocabularyKind::kQwen2);
  const auto read = Tokenizer::Create(*vocabulary).value();
  const auto made = Tokenizer::Create(FakeVocabulary(VocabularyKind::kQwen2)).value();
  constexpr std::string_view kText = "<|im_start|>user\nhello there<|im_end|><tool_call>e\u0301";
  EXPECT_EQ(read->Encode(kText, SpecialTokens::kParse), made->Encode(kText, SpecialTokens::kParse));
  EXPECT_TRUE(read->IsControl(*read->FindSpecial("<|im_end|>")));
  EXPECT_FALSE(read->IsControl(*read->FindSpecial("<tool_call>")));
  EXPECT_EQ(read->Encode("<|im_end|> a", SpecialTokens::kParse).size(), 2u)
      << "rstrip was not read";
}

TEST(TokenizerJsonTest, MergesMayBePairs) {
  json::object document = Document();
  for (json::value& merge : Model(&document)["merges"].as_array()) {
    const std::string line(merge.as_string());
    const size_t space = line.find(' ', 1);
    merge = {line.substr(0, space), line.substr(space + 1)};
  }
  const auto vocabulary = VocabularyFromTokenizerJson(json::serialize(document));
  ASSERT_TRUE(vocabulary) << vocabulary.error().message;
  const Vocabulary fake = FakeVocabulary(VocabularyKind::kQwen2);
  ASSERT_EQ(vocabulary->merges.size(), fake.merges.size());
  for (size_t i = 0; i < fake.merges.size(); ++i) EXPECT_EQ(vocabulary->merges[i], fake.merges[i]);
}

TEST(TokenizerJsonTest, GapsBecomeUnusedRows) {
  json::object document = Document();
  document["added_tokens"].as_array().push_back({{"id", 1000}, {"content", "<far>"}});
  const auto vocabulary = VocabularyFromTokenizerJson(json::serialize(document)).value();
  EXPECT_EQ(vocabulary.tokens.size(), 1001u);
  EXPECT_EQ(vocabulary.types[999], TokenType::kUnused);
}

struct BadDocument {
  std::string_view what;
  std::function<void(json::object*)> spoil;
  ErrorCode code;
  std::string_view message;
};

TEST(TokenizerJsonTest, DocumentThatIsNotByteLevelBpeIsNamed) {
  constexpr ErrorCode kCorrupt = ErrorCode::kCorrupt, kUnsupported = ErrorCode::kUnsupported;
  const auto split = [](json::object* d) -> json::object& {
    return (*d)["pre_tokenizer"].at("pretokenizers").at(0).as_object();
  };
  const BadDocument cases[] = {
      {"no model", [](auto* d) { d->erase("model"); }, kCorrupt, "'model' is missing"},
      {"model is a list", [](auto* d) { (*d)["model"] = json::array(); }, kCorrupt, "'model'"},
      {"other model", [](auto* d) { Model(d)["type"] = "Unigram"; }, kUnsupported, "'model'"},
      {"fallback", [](auto* d) { Model(d)["byte_fallback"] = true; }, kUnsupported,
       "byte_fallback"},
      {"ignore_merges", [](auto* d) { Model(d)["ignore_merges"] = true; }, kUnsupported, "'model'"},
      {"no vocab", [](auto* d) { Model(d).erase("vocab"); }, kCorrupt, "'vocab' is missing"},
      {"id is text", [](auto* d) { Model(d)["vocab"].as_object()["zz"] = "1"; }, kCorrupt, "'zz'"},
      {"negative id", [](auto* d) { Model(d)["vocab"].as_object()["zz"] = -1; }, kCorrupt, "'zz'"},
      {"huge id", [](auto* d) { Model(d)["vocab"].as_object()["zz"] = 1 << 30; }, kCorrupt, "'zz'"},
      {"id twice", [](auto* d) { Model(d)["vocab"].as_object()["zz"] = 97; }, kCorrupt, "id 97"},
      {"no merges", [](auto* d) { Model(d).erase("merges"); }, kCorrupt, "'model.merges'"},
      {"merge of three", [](auto* d) { Model(d)["merges"].as_array().push_back({"a", "b", "c"}); },
       kCorrupt, "model.merges["},
      {"merge with a space", [](auto* d) { Model(d)["merges"].as_array().push_back({"a b", "c"}); },
       kCorrupt, "a space"},
      {"merge of nothing", [](auto* d) { Model(d)["merges"].as_array().push_back({"", "c"}); },
       kCorrupt, "empty"},
      {"merge is a number", [](auto* d) { Model(d)["merges"].as_array().push_back(7); }, kCorrupt,
       "model.merges["},
      {"added is a number", [](auto* d) { (*d)["added_tokens"].as_array().push_back(7); }, kCorrupt,
       "added_tokens["},
      {"added without id",
       [](auto* d) { (*d)["added_tokens"].as_array().push_back({{"content", "<q>"}}); }, kCorrupt,
       "'<q>'"},
      {"added takes an id",
       [](auto* d) { (*d)["added_tokens"].as_array().push_back({{"content", "<q>"}, {"id", 97}}); },
       kCorrupt, "added token '<q>'"},
      {"other pattern", [&](auto* d) { split(d)["pattern"] = {{"Regex", "\\w+"}}; }, kUnsupported,
       "\\w+"},
      {"no pattern", [&](auto* d) { split(d).erase("pattern"); }, kCorrupt, "'pattern'"},
      {"no split", [&](auto* d) { split(d)["type"] = "Whitespace"; }, kUnsupported, "Split"},
      {"no pre-tokenizer", [](auto* d) { (*d)["pre_tokenizer"] = nullptr; }, kCorrupt,
       "'pre_tokenizer'"},
      {"no normalizer", [](auto* d) { (*d)["normalizer"] = nullptr; }, kUnsupported, "NFC"},
  };
  for (const BadDocument& bad : cases) {
    json::object document = Document();
    bad.spoil(&document);
    const auto vocabulary = VocabularyFromTokenizerJson(json::serialize(document));
    ASSERT_FALSE(vocabulary) << bad.what;
    EXPECT_EQ(vocabulary.error().code, bad.code) << bad.what;
    EXPECT_THAT(vocabulary.error().message, HasSubstr(std::string(bad.message))) << bad.what;
  }
  for (const std::string_view text : {"", "{", "[]", "7", "\xFF"}) {
    EXPECT_FALSE(VocabularyFromTokenizerJson(text)) << text;
  }
  EXPECT_FALSE(VocabularyFromTokenizerJson(std::string(1'000'000, '[')));
}

}  // namespace
}  // namespace tandem::tokenizer
