#include "fleet/catalogue/package_manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <boost/json.hpp>

#include "crypto/digest.h"
#include "fleet/catalogue/catalogue.h"
#include "fleet/catalogue/testing/manifests.h"

namespace tandem::fleet {
namespace {

using ::testing::HasSubstr;
using testing_support::SomeManifest;

TEST(SignedManifestTest, WhatIsSignedReadsBackWithItsSignature) {
  const auto key = crypto::SigningKey::Generate();
  auto made = SignedManifest::Unsigned(SomeManifest());
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_FALSE(made->IsSignedBy(key.Public()));
  made->Sign(key);
  made->Sign(key);
  EXPECT_EQ(made->signatures().size(), 1U);
  const auto read = SignedManifest::Parse(made->Format());
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_TRUE(read->IsSignedBy(key.Public()));
  EXPECT_FALSE(read->IsSignedBy(crypto::SigningKey::Generate().Public()));
  EXPECT_EQ(read->canonical(), made->canonical());
  EXPECT_EQ(read->digest(), crypto::Sha256Hex(made->canonical()));
  EXPECT_EQ(read->manifest().variant.manifest_digest, read->digest());
  EXPECT_EQ(read->manifest().files.front().name, "weights.tandem");
  EXPECT_EQ(read->manifest().size_bytes(), 1007U);
  EXPECT_EQ(read->Format(), made->Format());
}

TEST(SignedManifestTest, HowTheFileIsWrittenChangesNothing) {
  const auto key = crypto::SigningKey::Generate();
  auto made = SignedManifest::Unsigned(SomeManifest());
  ASSERT_TRUE(made);
  made->Sign(key);
  // The members in another order, indented, with escapes that need not be.
  const boost::json::value value = boost::json::parse(made->Format());
  boost::json::object reversed;
  const auto& manifest = value.at("manifest").as_object();
  for (auto it = manifest.end(); it != manifest.begin();) {
    --it;
    reversed[it->key()] = it->value();
  }
  std::string text = boost::json::serialize(
      boost::json::object{{"signatures", value.at("signatures")}, {"manifest", reversed}});
  const size_t at = text.find("phi-test");
  ASSERT_NE(at, std::string::npos);
  text.replace(at, 3, "\\u0070hi");
  const auto read = SignedManifest::Parse("  " + text + "\n");
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_TRUE(read->IsSignedBy(key.Public()));
}

TEST(SignedManifestTest, AnyChangeOfTheManifestBreaksTheSignature) {
  const auto key = crypto::SigningKey::Generate();
  auto made = SignedManifest::Unsigned(SomeManifest());
  ASSERT_TRUE(made);
  made->Sign(key);
  const std::string text = made->Format();
  const size_t end = text.find("\"signatures\"");
  int n_read = 0;
  for (size_t i = 0; i < end; ++i) {
    std::string changed = text;
    changed[i] = changed[i] == '7' ? '8' : '7';
    const auto read = SignedManifest::Parse(changed);
    if (!read) continue;
    ++n_read;
    EXPECT_FALSE(read->IsSignedBy(key.Public())) << i << ": " << changed;
  }
  EXPECT_GT(n_read, 100);  // most changes still are manifests
}

TEST(SignedManifestTest, FieldsOfALaterVersionAreSignedToo) {
  const auto key = crypto::SigningKey::Generate();
  boost::json::value value = PackageManifestJson(SomeManifest());
  value.as_object()["later"] = {{"x", 1}};
  auto made =
      SignedManifest::Parse(boost::json::serialize(boost::json::object{{"manifest", value}}));
  ASSERT_TRUE(made) << made.error().message;
  made->Sign(key);
  const std::string text = made->Format();
  EXPECT_TRUE(SignedManifest::Parse(text)->IsSignedBy(key.Public()));
  std::string changed = text;
  changed.replace(changed.find("{\"x\":1}"), 7, "{\"x\":2}");
  EXPECT_FALSE(SignedManifest::Parse(changed)->IsSignedBy(key.Public()));
}

TEST(SignedManifestTest, MalformedManifestsNameTheField) {
  using Change = std::function<void(boost::json::object&)>;
  const std::vector<std::pair<Change, std::string>> cases = {
      {[](auto& m) { m.erase("schema"); }, "schema is missing"},
      {[](auto& m) { m["schema"] = 2; }, "schema 2"},
      {[](auto& m) { m["model"] = "../x"; }, "model cannot be"},
      {[](auto& m) { m["model"] = "x.gguf"; }, "model cannot be"},
      {[](auto& m) { m["aliases"] = boost::json::array{"a/b"}; }, "aliases cannot be"},
      {[](auto& m) { m.erase("variant"); }, "variant is missing"},
      {[](auto& m) { m["variant"] = "int4"; }, "variant must be an object"},
      {[](auto& m) { m["files"] = boost::json::array(); }, "files must be 1"},
      {[](auto& m) { m["files"].as_array()[0].as_object()["name"] = "../x"; }, "plain file name"},
      {[](auto& m) { m["files"].as_array()[0].as_object()["sha256"] = "AB"; }, "files[0]: sha256"},
      {[](auto& m) { m["files"].as_array()[1].as_object()["name"] = "weights.tandem"; },
       "another file's"},
      {[](auto& m) { m["created_at_s"] = 1.5; }, "created_at_s must be"},
      {[](auto& m) { m["later"] = 1.5; }, "no whole number"},
      {[](auto& m) { m["min_kept_accuracy_ppm"] = 1000001; }, "at most 1000000"},
      {[](auto& m) { m["shape"] = {{"n_layers", 0}}; }, "n_layers must be above 0"},
      {[](auto& m) { m["files"].as_array()[0].as_object()["sha256"] = std::string(64, '0'); },
       "certifies another package"},
  };
  for (const auto& [change, message] : cases) {
    boost::json::value value = PackageManifestJson(SomeManifest());
    change(value.as_object());
    const auto read =
        SignedManifest::Parse(boost::json::serialize(boost::json::object{{"manifest", value}}));
    ASSERT_FALSE(read) << message;
    EXPECT_THAT(read.error().message, HasSubstr(message));
  }
  EXPECT_FALSE(SignedManifest::Parse(""));
  EXPECT_FALSE(SignedManifest::Parse("{}"));
  EXPECT_FALSE(SignedManifest::Parse(R"({"manifest": 7})"));
}

TEST(SignedManifestTest, MalformedSignaturesNameTheField) {
  const auto made = SignedManifest::Unsigned(SomeManifest());
  ASSERT_TRUE(made);
  const std::string id(64, 'a');
  for (const std::string& signature :
       {std::string("7"), std::string("{}"),
        R"({"key_id":"x","ed25519":")" + std::string(128, '0') + "\"}",
        R"({"key_id":")" + id + R"(","ed25519":"00"})",
        R"({"key_id":")" + id + R"(","ed25519":")" + std::string(128, 'x') + "\"}"}) {
    const auto read = SignedManifest::Parse("{\"manifest\":" + made->canonical() +
                                            ",\"signatures\":[" + signature + "]}");
    ASSERT_FALSE(read) << signature;
    EXPECT_THAT(read.error().message, HasSubstr("signatures[0]"));
  }
}

}  // namespace
}  // namespace tandem::fleet
