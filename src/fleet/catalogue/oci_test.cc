#include "fleet/catalogue/oci.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::fleet::oci {
namespace {

using ::testing::HasSubstr;

const std::string kDigest(64, 'a');

std::string DescriptorJson(const std::string& digest) {
  return fmt::format(R"({{"mediaType": "t", "digest": "{}", "size": 5}})", digest);
}

TEST(OciTest, AManifestAsOthersWriteItIsRead) {
  const auto manifest = ParseManifest(fmt::format(
      R"({{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
          "config": {0}, "layers": [{0}, {{"mediaType": "u", "digest": "sha256:{1}", "size": 9,
            "annotations": {{"org.opencontainers.image.title": "x.gguf"}}, "urls": []}}],
          "annotations": {{"k": "v"}}, "unknown": [1]}})",
      DescriptorJson("sha256:" + kDigest), std::string(64, 'b')));
  ASSERT_TRUE(manifest) << manifest.error().message;
  EXPECT_EQ(manifest->config.sha256, kDigest);
  EXPECT_EQ(manifest->config.size_bytes, 5U);
  ASSERT_EQ(manifest->layers.size(), 2U);
  EXPECT_EQ(manifest->layers[1].Annotation(kTitle), "x.gguf");
  EXPECT_EQ(manifest->layers[0].Annotation(kTitle), "");
  EXPECT_EQ(manifest->Annotation("k"), "v");
  EXPECT_FALSE(manifest->is_model());
  const auto again = ParseManifest(FormatManifest(*manifest));
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(FormatManifest(*again), FormatManifest(*manifest));
}

TEST(OciTest, WhatIsNoManifestIsRefusedByName) {
  const std::string good = DescriptorJson("sha256:" + kDigest);
  const auto with = [&](const std::string& config, const std::string& rest) {
    return fmt::format(R"({{"schemaVersion": 2, "config": {}{}}})", config, rest);
  };
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "not a JSON object"},
      {"[]", "not a JSON object"},
      {"{}", "schemaVersion"},
      {R"({"schemaVersion": 1})", "schemaVersion"},
      {R"({"schemaVersion": 2})", "'config'"},
      {R"({"schemaVersion": 2, "mediaType": "application/vnd.docker.x"})", "docker"},
      {with(DescriptorJson("sha512:" + kDigest), ""), "sha512"},
      {with(DescriptorJson("sha256:../../etc"), ""), "sha256:../../etc"},
      {with(R"({"mediaType": "t", "digest": "x", "size": -5})", ""), "config.size"},
      {with(R"({"digest": "x", "size": 5})", ""), "config.mediaType"},
      {with(good, R"(, "layers": 7)"), "'layers'"},
      {with(good, R"(, "layers": [7])"), "'layers'"},
      {with(good, R"(, "annotations": {"a": 7})"), "'annotations'"},
      {with(good, R"(, "artifactType": 7)"), "'artifactType'"},
  };
  for (const auto& [json, message] : cases) {
    const auto manifest = ParseManifest(json);
    ASSERT_FALSE(manifest) << json;
    EXPECT_THAT(manifest.error().message, HasSubstr(message)) << json;
  }
}

TEST(OciTest, AnIndexSurvivesTheRoundTrip) {
  const Index index{.manifests = {{.media_type = std::string(kManifestType),
                                   .sha256 = kDigest,
                                   .size_bytes = 7,
                                   .annotations = {{std::string(kRefName), "demo:int4"}}}}};
  const auto parsed = ParseIndex(FormatIndex(index));
  ASSERT_TRUE(parsed) << parsed.error().message;
  ASSERT_EQ(parsed->manifests.size(), 1U);
  EXPECT_EQ(parsed->manifests[0].Annotation(kRefName), "demo:int4");
  EXPECT_FALSE(ParseIndex(R"({"schemaVersion": 2, "manifests": [{}]})"));
}

TEST(OciTest, AChunkListSurvivesTheRoundTripAndNothingElseIsOne) {
  const ChunkList list{.chunk_bytes = 4096, .files = {{kDigest, {kDigest, std::string(64, 'c')}}}};
  const auto parsed = ParseChunkList(FormatChunkList(list));
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->chunk_bytes, 4096U);
  EXPECT_EQ(parsed->files, list.files);
  for (const char* json :
       {"{}", R"({"chunk_bytes": 0, "files": {}})", R"({"chunk_bytes": 1})",
        R"({"chunk_bytes": 1, "files": {"x": []}})", R"({"chunk_bytes": 1, "files": []})"}) {
    EXPECT_FALSE(ParseChunkList(json)) << json;
  }
}

TEST(OciTest, RepositoriesAndTagsAreThoseOfTheSpecification) {
  for (const char* good : {"demo", "a/b/c", "a.b_c__d---e/f", "0", "hf.co/user/repo"}) {
    EXPECT_TRUE(IsRepository(good)) << good;
  }
  for (const char* bad : {"", "Demo", "/a", "a/", "a//b", ".a", "a.", "a..b", "a___b", "a:b", "..",
                          "a/../b", "a b"}) {
    EXPECT_FALSE(IsRepository(bad)) << bad;
  }
  for (const char* good : {"int4", "Q4_K_M", "_x", "1.0-rc"}) EXPECT_TRUE(IsTag(good)) << good;
  for (const char* bad : {"", ".x", "-x", "a/b", "a:b", "a b"}) EXPECT_FALSE(IsTag(bad)) << bad;
  EXPECT_FALSE(IsTag(std::string(129, 'a')));
}

TEST(OciTest, NamesHaveAddresses) {
  const auto address = [](std::string_view name) {
    const Address found = AddressOf(name);
    return found.repository + " " + found.tag;
  };
  EXPECT_EQ(address("demo:int4"), "demo int4");
  EXPECT_EQ(address("phi-4-mini"), "phi-4-mini latest");
  EXPECT_EQ(address("hf.co/User/Repo:Q4_K_M"), "hf.co/user/repo Q4_K_M");
  EXPECT_EQ(address("host:5000/x"), "host:5000/x latest");
  EXPECT_EQ(NameOf({"demo", "int4"}), "demo:int4");
  EXPECT_EQ(NameOf({"demo", "latest"}), "demo");
}

TEST(OciTest, OnlySha256IsADigest) {
  EXPECT_EQ(DigestHex("sha256:" + kDigest), kDigest);
  EXPECT_FALSE(DigestHex("sha256:" + kDigest + "a"));
  EXPECT_FALSE(DigestHex("sha256:" + std::string(64, 'A')));
  EXPECT_FALSE(DigestHex(kDigest));
}

}  // namespace
}  // namespace tandem::fleet::oci
