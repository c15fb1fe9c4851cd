#include "fleet/catalogue/model_ref.h"

#include <gtest/gtest.h>

namespace tandem::fleet {
namespace {

using Kind = ModelRef::Kind;

Result<ModelRef> Parse(std::string_view text) { return ParseModelRef(text, Catalogue::BuiltIn()); }

TEST(ModelRefTest, CatalogueNamesAndAliasesMeanTheEntry) {
  for (const char* name : {"phi-4-mini", "phi-4-mini-int4"}) {
    const auto ref = Parse(name);
    ASSERT_TRUE(ref);
    EXPECT_EQ(ref->kind, Kind::kCatalogue);
    EXPECT_EQ(ref->name, "phi-4-mini");
    EXPECT_EQ(ref->entry, Catalogue::BuiltIn().Find("phi-4-mini"));
  }
}

TEST(ModelRefTest, HubReferencesInAllTheirSpellings) {
  for (const char* text :
       {"hf.co/User/Repo-GGUF:q4_k_m", "huggingface.co/User/Repo-GGUF:Q4_K_M",
        "https://huggingface.co/User/Repo-GGUF:Q4_K_M", "https://hf.co/User/Repo-GGUF:Q4_K_M"}) {
    const auto ref = Parse(text);
    ASSERT_TRUE(ref) << text;
    EXPECT_EQ(ref->kind, Kind::kHub);
    EXPECT_EQ(ref->hub.repo, "User/Repo-GGUF");
    EXPECT_EQ(ref->hub.quant, "Q4_K_M");
    EXPECT_EQ(ref->name, "hf.co/User/Repo-GGUF:Q4_K_M");
  }
  const auto ref = Parse("https://huggingface.co/User/Repo/");
  ASSERT_TRUE(ref);
  EXPECT_EQ(ref->name, "hf.co/User/Repo");
  EXPECT_EQ(ref->hub.quant, "");
}

TEST(ModelRefTest, FilesAreRecognisedBySlashOrSuffix) {
  for (const char* text : {"x.gguf", "X.GGUF", "./x", "/models/x", "models/x.gguf", "../x"}) {
    const auto ref = Parse(text);
    ASSERT_TRUE(ref) << text;
    EXPECT_EQ(ref->kind, Kind::kFile) << text;
    EXPECT_EQ(ref->file, text);
  }
  EXPECT_EQ(Parse("/models/x-Q4_0.gguf")->name, "x-Q4_0");
}

TEST(ModelRefTest, OtherWordsAreNames) {
  const auto ref = Parse("my-model_1.5");
  ASSERT_TRUE(ref);
  EXPECT_EQ(ref->kind, Kind::kName);
  EXPECT_EQ(ref->name, "my-model_1.5");
}

TEST(ModelRefTest, MalformedReferencesAreRefusedWithTheParameter) {
  for (const std::string_view text : {"", "hf.co/a", "hf.co/a/b/c", "hf.co/a/b:", "hf.co/a/b:../c",
                                      "hf.co/../b", "a b", ".x", "dir/", "m\xC3\xA9"}) {
    const auto ref = Parse(text);
    ASSERT_FALSE(ref) << text;
    EXPECT_EQ(ref.error().code, ErrorCode::kInvalidArgument) << text;
    EXPECT_EQ(ref.error().param, "model");
  }
  EXPECT_FALSE(Parse(std::string_view("a/b\0c", 5)));
}

TEST(ModelRefTest, HubModelNameIsCanonical) {
  EXPECT_EQ(HubModelName("a/b", "q4_0"), "hf.co/a/b:Q4_0");
  EXPECT_EQ(HubModelName("a/b", ""), "hf.co/a/b");
}

}  // namespace
}  // namespace tandem::fleet
