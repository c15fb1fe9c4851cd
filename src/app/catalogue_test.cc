#include "app/catalogue.h"

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "crypto/digest.h"
#include "os/testing/temp_dir.h"

namespace tandem::app {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class CatalogueTest : public ::testing::Test {
 protected:
  fs::path File(const std::string& name, std::string_view text) const {
    std::ofstream(dir_.path() / name, std::ios::binary) << text;
    return dir_.path() / name;
  }
  fs::path Path(const std::string& name) const { return dir_.path() / name; }

  const os::TempDir dir_;
  const FakeClock clock_;
};

// What a publisher and a device do, from a file to an entry.
TEST_F(CatalogueTest, DraftSignTrustAdd) {
  const auto package = File("phi.tandem", "the weights");
  auto draft = DraftManifest(
      dir_.path(), {.model = "phi-4-mini-int4", .variant = "int4", .files = {package}}, clock_);
  ASSERT_TRUE(draft) << draft.error().message;
  EXPECT_EQ(draft->manifest().model, "phi-4-mini");
  EXPECT_EQ(draft->manifest().variant.scheme, "int4");  // from the table
  EXPECT_EQ(draft->manifest().files.front().sha256, crypto::Sha256Hex("the weights"));
  EXPECT_EQ(draft->manifest().built_from.front(), "hf.co/microsoft/Phi-4-mini-instruct");
  const auto manifest = File("m.json", draft->Format());

  const auto key = MakeSigningKey(Path("key.pem"));
  ASSERT_TRUE(key) << key.error().message;
  EXPECT_EQ(MakeSigningKey(Path("key.pem")).error().code, ErrorCode::kAlreadyExists);
  EXPECT_EQ(ReadPublicKey(Path("key.pem"))->Id(), key->Id());
  ASSERT_TRUE(SignManifestFile(manifest, Path("key.pem"), manifest));

  const auto data = Path("data");
  EXPECT_EQ(AddManifest(data, manifest, false, clock_).error().code, ErrorCode::kPermissionDenied);
  ASSERT_TRUE(ChangeTrust(data, [&](fleet::TrustStore& trust) -> Result<fleet::TrustedKey> {
    TANDEM_RETURN_IF_ERROR(trust.Add(*key, "release", 1));
    return *trust.Find(key->Id());
  }));
  const auto added = AddManifest(data, manifest, false, clock_);
  ASSERT_TRUE(added) << added.error().message;
  const auto catalogue = LoadCatalogue(data);
  ASSERT_TRUE(catalogue);
  EXPECT_EQ(catalogue->Find("phi-4-mini")->FindVariant("int4")->manifest_digest,
            added->manifest.digest());
}

TEST_F(CatalogueTest, AKeyThatOthersMayReadSignsNothing) {
  ASSERT_TRUE(MakeSigningKey(Path("key.pem")));
  EXPECT_EQ(fs::status(Path("key.pem")).permissions(),
            fs::perms::owner_read | fs::perms::owner_write);
  const auto draft = DraftManifest(
      dir_.path(), {.model = "demo", .variant = "int4", .files = {File("f", "x")}}, clock_);
  const auto manifest = File("m.json", draft->Format());
  fs::permissions(Path("key.pem"), fs::perms::group_read, fs::perm_options::add);
  EXPECT_THAT(SignManifestFile(manifest, Path("key.pem"), manifest).error().message,
              HasSubstr("chmod 600"));
}

TEST_F(CatalogueTest, ADraftOfAnUnknownModelNeedsAllOfIt) {
  DraftOptions options{.model = "mine", .variant = "int4", .files = {File("f", "x")}};
  EXPECT_THAT(DraftManifest(dir_.path(), options, clock_).error().message,
              HasSubstr("--quantization"));
  options.quantization = "int4";
  EXPECT_THAT(DraftManifest(dir_.path(), options, clock_).error().message, HasSubstr("--scheme"));
  options.scheme = "int4";
  EXPECT_THAT(DraftManifest(dir_.path(), options, clock_).error().message,
              HasSubstr("--platforms"));
  options.platforms = {"linux_x86_64"};
  EXPECT_TRUE(DraftManifest(dir_.path(), options, clock_));
  options.accelerator = "tpu";
  EXPECT_THAT(DraftManifest(dir_.path(), options, clock_).error().message,
              HasSubstr("--accelerator"));
  options.accelerator = "npu";
  options.certificate = File("c.json", R"({"package_sha256":")" + std::string(64, '0') +
                                           R"(","issued_by":"me","issued_at_s":1})");
  EXPECT_THAT(DraftManifest(dir_.path(), options, clock_).error().message,
              HasSubstr("certifies another package"));
}

TEST_F(CatalogueTest, KeysHandOver) {
  ASSERT_TRUE(MakeSigningKey(Path("old.pem")));
  ASSERT_TRUE(MakeSigningKey(Path("new.pem")));
  const auto statement = RotateSigningKey(Path("old.pem"), Path("new.pem"), "2027", 500);
  ASSERT_TRUE(statement) << statement.error().message;
  const auto data = Path("data");
  const auto accept = [&](fleet::TrustStore& trust) {
    return trust.AcceptRotation(*statement, 100);
  };
  EXPECT_EQ(ChangeTrust(data, accept).error().code, ErrorCode::kPermissionDenied);
  EXPECT_TRUE(ReadTrust(data)->keys().empty());
  ASSERT_TRUE(ChangeTrust(data, [&](fleet::TrustStore& trust) -> Result<fleet::TrustedKey> {
    const auto old_key = ReadPublicKey(Path("old.pem"));
    TANDEM_RETURN_IF_ERROR(trust.Add(*old_key, "2026", 1));
    return *trust.Find(old_key->Id());
  }));
  ASSERT_TRUE(ChangeTrust(data, accept));
  EXPECT_EQ(ReadTrust(data)->keys().size(), 2U);
}

}  // namespace
}  // namespace tandem::app
