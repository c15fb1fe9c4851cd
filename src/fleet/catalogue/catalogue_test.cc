#include "fleet/catalogue/catalogue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fleet/catalogue/models_json.h"

namespace tandem::fleet {
namespace {

using ::testing::HasSubstr;

TEST(CatalogueTest, TheEmbeddedTableParsesAndKnowsTheShippedNames) {
  const auto parsed = Catalogue::Parse(ModelsJson());
  ASSERT_TRUE(parsed) << parsed.error().message;
  const Catalogue& catalogue = Catalogue::BuiltIn();
  for (const char* name : {"phi-4-mini", "phi-4-mini-int4", "mimo-7b", "mimo-7b-int4", "demo"}) {
    EXPECT_NE(catalogue.Find(name), nullptr) << name;
  }
  EXPECT_EQ(catalogue.Find("phi-4-mini-int4")->name, "phi-4-mini");
  EXPECT_EQ(catalogue.Find("mimo-7b-int4")->name, "mimo-7b");
  EXPECT_EQ(catalogue.Find("demo")->bundled_file, "tandem-demo-q4_0.gguf");
  EXPECT_EQ(catalogue.Find("gpt-5"), nullptr);
  EXPECT_EQ(catalogue.Find(""), nullptr);
}

TEST(CatalogueTest, PinsAreOptionalAndNullMeansUnknown) {
  const auto catalogue =
      Catalogue::Parse(R"({"models": [{"name": "x", "title": "X", "license": "MIT",
      "sources": [{"hub": "a/b", "quant": "Q4_0", "size_bytes": 7, "sha256":
      "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "revision": "v1"},
      {"hub": "a/c", "quant": "Q4_0", "size_bytes": null, "sha256": null}]}]})");
  ASSERT_TRUE(catalogue) << catalogue.error().message;
  const auto& sources = catalogue->Find("x")->sources;
  ASSERT_EQ(sources.size(), 2U);
  EXPECT_EQ(sources[0].size_bytes, 7U);
  EXPECT_EQ(sources[0].revision, "v1");
  EXPECT_EQ(sources[1].size_bytes, std::nullopt);
  EXPECT_EQ(sources[1].sha256, "");
  EXPECT_EQ(sources[1].revision, "main");
}

TEST(CatalogueTest, AMalformedTableIsAnErrorThatNamesThePlace) {
  const std::string head = R"({"models": [{"name": "x", "title": "X", "license": "MIT")";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "not JSON"},
      {"[]", "must be an object"},
      {R"({"models": 7})", "models must be a list"},
      {R"({"models": [{"title": "X", "license": "MIT", "bundled": "f"}]})", "name is missing"},
      {head + "}]}", "exactly one"},
      {head + R"(, "bundled": "../f"}]})", "plain file name"},
      {head + R"(, "bundled": 7}]})", "bundled must be a string"},
      {head + R"(, "sources": [{"hub": "a", "quant": "Q"}]}]})", "USER/NAME"},
      {head + R"(, "sources": [{"hub": "a/..", "quant": "Q"}]}]})", "USER/NAME"},
      {head + R"(, "sources": [{"hub": "a/b"}]}]})", "quant is missing"},
      {head + R"(, "sources": [{"hub": "a/b", "quant": "Q", "sha256": "AB"}]}]})", "sha256 must"},
      {head + R"(, "sources": [{"hub": "a/b", "quant": "Q", "size_bytes": -1}]}]})", "size_bytes"},
      {head + R"(, "bundled": "f", "aliases": ["x"]}]})", "is taken"},
      {head + R"(, "bundled": "f", "aliases": ["a/b"]}]})", "cannot be a model's name"},
      {head + R"(, "bundled": "f", "aliases": [7]}]})", "aliases must be strings"},
  };
  for (const auto& [json, message] : cases) {
    const auto catalogue = Catalogue::Parse(json);
    ASSERT_FALSE(catalogue) << json;
    EXPECT_EQ(catalogue.error().code, ErrorCode::kCorrupt);
    EXPECT_THAT(catalogue.error().message, HasSubstr(message)) << json;
  }
}

TEST(CatalogueTest, NamesThatCouldClimbOrHideAreNotSafe) {
  for (const char* name : {"a.gguf", "Q4_K_M", "x-00001-of-00002.gguf", "a+b"}) {
    EXPECT_TRUE(IsSafeFileName(name)) << name;
  }
  for (const char* name : {"", ".", "..", ".hidden", "a/b", "a\\b", "a b", "a\n", "\xC3\xA9"}) {
    EXPECT_FALSE(IsSafeFileName(name)) << name;
  }
  EXPECT_FALSE(IsSafeFileName(std::string(201, 'a')));
  EXPECT_TRUE(IsHubRepo("bartowski/microsoft_Phi-4-mini-instruct-GGUF"));
  for (const char* repo :
       {"", "a", "a/", "/b", "a/b/c", "../b", "a/..", "a/b?c", "a/b#c", "a/b c"}) {
    EXPECT_FALSE(IsHubRepo(repo)) << repo;
  }
  EXPECT_TRUE(IsSha256Hex(std::string(64, 'a')));
  EXPECT_FALSE(IsSha256Hex(std::string(64, 'A')));
  EXPECT_FALSE(IsSha256Hex(std::string(63, 'a')));
}

}  // namespace
}  // namespace tandem::fleet
