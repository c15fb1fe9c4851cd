#include "fleet/catalogue/catalogue_store.h"

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fleet/catalogue/testing/manifests.h"
#include "os/file.h"
#include "os/testing/temp_dir.h"

namespace tandem::fleet {
namespace {

using ::testing::HasSubstr;
using testing_support::SomeManifest;

constexpr int64_t kNow = 1800000000;

class CatalogueStoreTest : public ::testing::Test {
 protected:
  CatalogueStoreTest() {
    TrustStore trust;
    EXPECT_TRUE(trust.Add(key_.Public(), "release", kNow));
    EXPECT_TRUE(trust.Write(store_.trust_file()));
  }
  std::string Text(const PackageManifest& manifest, bool sign = true) const {
    auto made = SignedManifest::Unsigned(manifest);
    EXPECT_TRUE(made) << made.error().message;
    if (sign) made->Sign(key_);
    return made->Format();
  }
  Result<CatalogueStore::Added> Add(const std::string& text, bool allow_unsigned = false) const {
    return store_.Add(text, Catalogue::BuiltIn(), allow_unsigned, kNow);
  }

  const os::TempDir dir_;
  const crypto::SigningKey key_ = crypto::SigningKey::Generate();
  const CatalogueStore store_{dir_.path() / "catalogue"};
};

TEST_F(CatalogueStoreTest, ASignedManifestBecomesAModel) {
  EXPECT_TRUE(store_.List()->empty());
  const auto added = Add(Text(SomeManifest()));
  ASSERT_TRUE(added) << added.error().message;
  EXPECT_EQ(added->vouched_by->name, "release");
  EXPECT_FALSE(added->replaced);
  const auto catalogue = store_.Load(Catalogue::BuiltIn());
  ASSERT_TRUE(catalogue) << catalogue.error().message;
  const CatalogueEntry* entry = catalogue->Find("phi-test-int4");
  ASSERT_NE(entry, nullptr);
  EXPECT_EQ(entry->name, "phi-test");
  ASSERT_EQ(entry->variants.size(), 1U);
  EXPECT_EQ(entry->variants.front().size_bytes, 1007U);
  EXPECT_EQ(entry->variants.front().manifest_digest, added->manifest.digest());
  EXPECT_EQ(WhyNotDeployable(*entry, entry->variants.front()), "");
  EXPECT_NE(catalogue->Find("demo"), nullptr);
}

TEST_F(CatalogueStoreTest, AVariantOfAKnownModelReplacesTheTables) {
  PackageManifest manifest = SomeManifest();
  manifest.model = "phi-4-mini";
  manifest.aliases.clear();
  manifest.shape.reset();
  manifest.min_kept_accuracy_ppm = 1;
  ASSERT_TRUE(Add(Text(manifest)));
  const auto catalogue = store_.Load(Catalogue::BuiltIn());
  ASSERT_TRUE(catalogue);
  const CatalogueEntry* entry = catalogue->Find("phi-4-mini");
  EXPECT_EQ(entry->variants.size(), Catalogue::BuiltIn().Find("phi-4-mini")->variants.size());
  EXPECT_TRUE(entry->FindVariant("int4")->certificate);
  EXPECT_EQ(entry->min_kept_accuracy_ppm, 981000U);  // a manifest cannot ask less
  EXPECT_TRUE(entry->shape);
}

TEST_F(CatalogueStoreTest, WhatIsNotSignedByATrustedKeyIsRefusedUnlessAllowed) {
  const std::string unsigned_text = Text(SomeManifest(), false);
  EXPECT_EQ(Add(unsigned_text).error().code, ErrorCode::kPermissionDenied);
  EXPECT_TRUE(store_.List()->empty());
  const auto allowed = Add(unsigned_text, true);
  ASSERT_TRUE(allowed) << allowed.error().message;
  EXPECT_FALSE(allowed->vouched_by);
  // A signature that does not fit is no missing one.
  std::string tampered = Text(SomeManifest());
  tampered.replace(tampered.find("MIT"), 3, "GPL");
  EXPECT_THAT(Add(tampered, true).error().message, HasSubstr("changed"));
}

TEST_F(CatalogueStoreTest, ANewerManifestReplacesAndAnOlderOneIsRefused) {
  PackageManifest manifest = SomeManifest();
  ASSERT_TRUE(Add(Text(manifest)));
  ASSERT_TRUE(Add(Text(manifest))) << "the same again is no harm";
  EXPECT_EQ(store_.List()->size(), 1U);
  manifest.created_at_s += 10;
  EXPECT_TRUE(Add(Text(manifest))->replaced);
  EXPECT_EQ(store_.List()->size(), 1U);
  manifest.created_at_s -= 5;
  EXPECT_EQ(Add(Text(manifest)).error().code, ErrorCode::kFailedPrecondition);
}

TEST_F(CatalogueStoreTest, NamesThatAreTakenAreRefused) {
  PackageManifest manifest = SomeManifest();
  manifest.aliases = {"demo"};
  EXPECT_EQ(Add(Text(manifest)).error().code, ErrorCode::kAlreadyExists);
  manifest.aliases.clear();
  manifest.model = "phi-4-mini-int4";  // an alias
  EXPECT_EQ(Add(Text(manifest)).error().code, ErrorCode::kAlreadyExists);
  manifest.model = "deepseek-v3.2";
  EXPECT_THAT(Add(Text(manifest)).error().message, HasSubstr("cloud"));
  EXPECT_TRUE(store_.List()->empty());
}

TEST_F(CatalogueStoreTest, AFileThatWasChangedLaterIsLeftOut) {
  const auto added = Add(Text(SomeManifest()));
  ASSERT_TRUE(added);
  const auto file = dir_.path() / "catalogue/manifests" / (added->manifest.digest() + ".json");
  std::string text = *os::ReadFile(file, 1 << 20);
  text.replace(text.find("MIT"), 3, "GPL");
  ASSERT_TRUE(os::WriteFileAtomic(file, text));
  EXPECT_TRUE(store_.List()->empty());
  ASSERT_TRUE(os::WriteFileAtomic(file, "no JSON"));
  EXPECT_TRUE(store_.List()->empty());
  EXPECT_EQ(store_.Load(Catalogue::BuiltIn())->entries().size(),
            Catalogue::BuiltIn().entries().size());
}

}  // namespace
}  // namespace tandem::fleet
