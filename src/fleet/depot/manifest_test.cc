#include "fleet/depot/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "crypto/digest.h"

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
      .chunks = ManifestFile{.name = "chunks.json",
                             .size_bytes = 3,
                             .sha256 = kDigest,
                             .media_type = std::string(oci::kChunksType)}};
  const std::string text = FormatOciManifest(manifest);
  EXPECT_EQ(text, FormatOciManifest(manifest));
  const auto parsed = ParseOciManifest(manifest.name, text);
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->name, manifest.name);
  EXPECT_EQ(parsed->repo, manifest.repo);
  EXPECT_EQ(parsed->revision, manifest.revision);
  EXPECT_EQ(parsed->quant, manifest.quant);
  EXPECT_EQ(parsed->license, manifest.license);
  EXPECT_EQ(parsed->text, text);
  EXPECT_EQ(parsed->digest(), crypto::Sha256Hex(text));
  ASSERT_TRUE(parsed->chunks);
  EXPECT_EQ(parsed->chunks->size_bytes, 3U);
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
  const auto parsed = ParseReference(FormatReference(manifest));
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_TRUE(parsed->by_reference());
  EXPECT_EQ(parsed->path, manifest.path);
  EXPECT_EQ(parsed->size_bytes(), 7U);
}

TEST(ManifestTest, APullSurvivesTheRoundTripWithAndWithoutAManifest) {
  const Manifest of_hub = {.name = "tiny",
                           .repo = "user/repo",
                           .revision = "abc",
                           .quant = "Q4_0",
                           .license = "MIT",
                           .files = {{.name = "a.gguf", .size_bytes = 7, .sha256 = kDigest}}};
  const auto hub = ParsePull(FormatPull(of_hub));
  ASSERT_TRUE(hub) << hub.error().message;
  EXPECT_EQ(hub->revision, "abc");
  EXPECT_EQ(hub->text, "");
  ASSERT_EQ(hub->files.size(), 1U);
  EXPECT_EQ(hub->files[0].size_bytes, 7U);

  Manifest of_depot = of_hub;
  of_depot.text = FormatOciManifest(of_hub);
  of_depot.origin = "http://depot.example/tiny";
  const auto depot = ParsePull(FormatPull(of_depot));
  ASSERT_TRUE(depot) << depot.error().message;
  EXPECT_EQ(depot->text, of_depot.text);
  EXPECT_EQ(depot->origin, "http://depot.example/tiny");
  ASSERT_EQ(depot->files.size(), 1U);
}

TEST(ManifestTest, WeightsComeFirstWhereverTheyStand) {
  const Manifest manifest = {
      .name = "demo:int4",
      .files = {{.name = "tokenizer.json",
                 .size_bytes = 1,
                 .sha256 = kDigest,
                 .media_type = std::string(oci::kTokenizerType)},
                {.name = "demo.tandem", .size_bytes = 2, .sha256 = std::string(64, 'b')}}};
  const auto parsed = ParseOciManifest("demo:int4", FormatOciManifest(manifest));
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->files[0].name, "demo.tandem");
  EXPECT_EQ(parsed->files[0].media_type, oci::kPackageType);
  EXPECT_EQ(parsed->files[1].name, "tokenizer.json");
}

TEST(ManifestTest, AManifestThatIsNoModelOrUnsafeIsRefused) {
  const auto layer = [](const std::string& title, std::string_view type) {
    return oci::Descriptor{.media_type = std::string(type),
                           .sha256 = kDigest,
                           .size_bytes = 1,
                           .annotations = {{std::string(oci::kTitle), title}}};
  };
  const auto error_of = [](const oci::ImageManifest& image) {
    const auto parsed = ParseOciManifest("x", oci::FormatManifest(image));
    return parsed ? std::string("parsed") : parsed.error().message;
  };
  oci::ImageManifest image{.artifact_type = std::string(oci::kModelType),
                           .config = {.media_type = "c", .sha256 = kDigest, .size_bytes = 2}};
  EXPECT_THAT(error_of(image), HasSubstr("'layers'"));
  image.layers = {layer("../x", oci::kGgufType)};
  EXPECT_THAT(error_of(image), HasSubstr("title"));
  image.layers = {layer("a", oci::kGgufType), layer("a", oci::kGgufType)};
  EXPECT_THAT(error_of(image), HasSubstr("title"));
  image.layers = {layer("a", oci::kTokenizerType)};
  EXPECT_THAT(error_of(image), HasSubstr("'layers'"));
  image.layers = {layer("a", oci::kGgufType)};
  EXPECT_EQ(error_of(image), "parsed");
  image.artifact_type = "application/x-other";
  EXPECT_THAT(error_of(image), HasSubstr("application/x-other"));
}

TEST(ManifestTest, EveryFieldOfARecordThatIsMissingOrWrongIsNamed) {
  const auto with_file = [](const std::string& file) {
    return R"({"schema": 2, "name": "x", "files": [)" + file + "]}";
  };
  const std::string sha = R"("sha256": ")" + kDigest + '"';
  const std::vector<std::pair<std::string, std::string>> pulls = {
      {"", "not a JSON object"},
      {"[1]", "not a JSON object"},
      {"{}", "schema"},
      {R"({"schema": 3, "name": "x"})", "another Tandem"},
      {R"({"schema": 2})", "'name'"},
      {R"({"schema": 2, "name": 7})", "'name'"},
      {R"({"schema": 2, "name": "x"})", "'files'"},
      {R"({"schema": 2, "name": "x", "files": []})", "'files'"},
      {R"({"schema": 2, "name": "x", "quant": 7})", "'quant'"},
      {R"({"schema": 2, "name": "x", "manifest": "{}"})", "schemaVersion"},
      {with_file("7"), "'files'"},
      {with_file(R"({"name": "../x", "size_bytes": 1, )" + sha + "}"), "'files[].name'"},
      {with_file(R"({"size_bytes": 1, )" + sha + "}"), "'files[].name'"},
      {with_file(R"({"name": "x", "size_bytes": -1, )" + sha + "}"), "'files[].size_bytes'"},
      {with_file(R"({"name": "x", "size_bytes": 1, "sha256": "../../etc/passwd"})"),
       "'files[].sha256'"},
  };
  for (const auto& [json, message] : pulls) {
    const auto manifest = ParsePull(json);
    ASSERT_FALSE(manifest) << json;
    EXPECT_EQ(manifest.error().code, ErrorCode::kCorrupt);
    EXPECT_THAT(manifest.error().message, HasSubstr(message)) << json;
  }
  const std::vector<std::pair<std::string, std::string>> references = {
      {R"({"schema": 2, "name": "x", "path": "relative"})", "'path'"},
      {R"({"schema": 2, "name": "x", "path": "/x"})", "'path_size_bytes'"},
      {R"({"schema": 2, "path": "/x"})", "'name'"},
  };
  for (const auto& [json, message] : references) {
    const auto manifest = ParseReference(json);
    ASSERT_FALSE(manifest) << json;
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
