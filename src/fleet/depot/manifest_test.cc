#include "fleet/depot/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::fleet {
namespace {

using ::testing::HasSubstr;

const std::string kDigest(64, 'a');

TEST(ManifestTest, APulledModelSurvivesTheRoundTrip) {
  const Manifest manifest = {
      .name = "hf.co/user/repo:Q4_0",
      .repo = "user/repo",
      .revision = "abc",
      .quant = "Q4_0",
      .license = "MIT",
      .files = {{.name = "a.gguf", .size_bytes = 1ULL << 40, .sha256 = kDigest},
                {.name = "b.gguf", .size_bytes = 2, .sha256 = kDigest}},
      .installed_at_s = 1'700'000'000};
  const auto parsed = ParseManifest(FormatManifest(manifest));
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->name, manifest.name);
  EXPECT_EQ(parsed->repo, manifest.repo);
  EXPECT_EQ(parsed->revision, manifest.revision);
  EXPECT_EQ(parsed->quant, manifest.quant);
  EXPECT_EQ(parsed->license, manifest.license);
  EXPECT_EQ(parsed->installed_at_s, manifest.installed_at_s);
  ASSERT_EQ(parsed->files.size(), 2U);
  EXPECT_EQ(parsed->files[0].name, "a.gguf");
  EXPECT_EQ(parsed->files[0].size_bytes, 1ULL << 40);
  EXPECT_EQ(parsed->files[1].sha256, kDigest);
  EXPECT_EQ(parsed->size_bytes(), (1ULL << 40) + 2);
  EXPECT_FALSE(parsed->by_reference());
}

TEST(ManifestTest, AReferenceSurvivesTheRoundTrip) {
  Manifest manifest{.name = "mine"};
  manifest.path = "/data/with \"quotes\"/x.gguf";
  manifest.path_size_bytes = 7;
  const auto parsed = ParseManifest(FormatManifest(manifest));
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_TRUE(parsed->by_reference());
  EXPECT_EQ(parsed->path, manifest.path);
  EXPECT_EQ(parsed->size_bytes(), 7U);
}

TEST(ManifestTest, EveryFieldThatIsMissingOrWrongIsNamed) {
  const auto with_file = [](const std::string& file) {
    return R"({"schema": 1, "name": "x", "files": [)" + file + "]}";
  };
  const std::string sha = R"("sha256": ")" + kDigest + '"';
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "not a JSON object"},
      {"[1]", "not a JSON object"},
      {"{}", "schema"},
      {R"({"schema": 2, "name": "x"})", "newer Tandem"},
      {R"({"schema": 1})", "'name'"},
      {R"({"schema": 1, "name": 7})", "'name'"},
      {R"({"schema": 1, "name": "x"})", "'files'"},
      {R"({"schema": 1, "name": "x", "files": []})", "'files'"},
      {R"({"schema": 1, "name": "x", "quant": 7})", "'quant'"},
      {R"({"schema": 1, "name": "x", "path": "relative"})", "'path'"},
      {R"({"schema": 1, "name": "x", "path": "/x"})", "'path_size_bytes'"},
      {with_file("7"), "'files'"},
      {with_file(R"({"name": "../x", "size_bytes": 1, )" + sha + "}"), "'files[].name'"},
      {with_file(R"({"size_bytes": 1, )" + sha + "}"), "'files[].name'"},
      {with_file(R"({"name": "x", "size_bytes": -1, )" + sha + "}"), "'files[].size_bytes'"},
      {with_file(R"({"name": "x", "size_bytes": 1, "sha256": "../../etc/passwd"})"),
       "'files[].sha256'"},
  };
  for (const auto& [json, message] : cases) {
    const auto manifest = ParseManifest(json);
    ASSERT_FALSE(manifest) << json;
    EXPECT_EQ(manifest.error().code, ErrorCode::kCorrupt);
    EXPECT_THAT(manifest.error().message, HasSubstr(message)) << json;
  }
}

TEST(ManifestTest, ModelNamesBecomeDistinctFileNames) {
  EXPECT_EQ(EncodeModelName("phi-4-mini").value(), "phi-4-mini");
  EXPECT_EQ(EncodeModelName("hf.co/a/b:Q4_0").value(), "hf.co%2Fa%2Fb%3AQ4_0");
  EXPECT_EQ(EncodeModelName("..").value(), "%2E.");
  EXPECT_EQ(EncodeModelName("a%2Fb").value(), "a%252Fb");
  EXPECT_EQ(EncodeModelName(std::string_view("\0", 1)).value(), "%00");
  EXPECT_FALSE(EncodeModelName(""));
  EXPECT_FALSE(EncodeModelName(std::string(201, 'a')));
  EXPECT_TRUE(EncodeModelName(std::string(200, 'a')));
}

}  // namespace
}  // namespace tandem::fleet
