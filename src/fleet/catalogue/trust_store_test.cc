#include "fleet/catalogue/trust_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fleet/catalogue/testing/manifests.h"
#include "os/testing/temp_dir.h"

namespace tandem::fleet {
namespace {

using ::testing::HasSubstr;
using testing_support::SomeManifest;

constexpr int64_t kNow = 1800000000;

SignedManifest SignedBy(const std::vector<crypto::SigningKey>& keys) {
  auto manifest = SignedManifest::Unsigned(SomeManifest());
  for (const auto& key : keys) manifest->Sign(key);
  return *std::move(manifest);
}

// The manifest with another size, and the signatures of the first.
SignedManifest Tampered(const SignedManifest& manifest) {
  std::string text = manifest.Format();
  text.replace(text.find("\"size_bytes\":1000"), 17, "\"size_bytes\":1001");
  return *SignedManifest::Parse(text);
}

TEST(TrustStoreTest, ATrustedSignatureIsBelievedAndNothingElseIs) {
  const auto ours = crypto::SigningKey::Generate();
  const auto theirs = crypto::SigningKey::Generate();
  TrustStore store;
  ASSERT_TRUE(store.Add(ours.Public(), "release", kNow));
  const auto good = store.Check(SignedBy({ours}), kNow);
  ASSERT_TRUE(good) << good.error().message;
  EXPECT_EQ(good->name, "release");
  EXPECT_TRUE(store.Check(SignedBy({theirs, ours}), kNow));

  const std::vector<std::pair<SignedManifest, std::string>> cases = {
      {SignedBy({}), "is not signed"},
      {SignedBy({theirs}), "not in the trust store"},
      {Tampered(SignedBy({ours})), "something in it was changed"},
      {Tampered(SignedBy({theirs, ours})), "something in it was changed"},
  };
  for (const auto& [manifest, message] : cases) {
    const auto refused = store.Check(manifest, kNow);
    ASSERT_FALSE(refused) << message;
    EXPECT_EQ(refused.error().code, ErrorCode::kPermissionDenied);
    EXPECT_THAT(refused.error().message, HasSubstr(message));
  }
}

TEST(TrustStoreTest, ARetiredKeyIsBelievedUntilItsEnd) {
  const auto key = crypto::SigningKey::Generate();
  TrustStore store;
  ASSERT_TRUE(store.Add(key.Public(), "old", kNow));
  const auto retired = store.Retire(key.Public().Id().substr(0, 8), kNow + 100);
  ASSERT_TRUE(retired) << retired.error().message;
  EXPECT_TRUE(store.Check(SignedBy({key}), kNow + 99));
  EXPECT_THAT(store.Check(SignedBy({key}), kNow + 100).error().message,
              HasSubstr("not trusted any"));
  // An end that was set is never put off.
  ASSERT_TRUE(store.Retire(key.Public().Id(), kNow + 500));
  EXPECT_FALSE(store.Check(SignedBy({key}), kNow + 100));
  EXPECT_EQ(store.Retire("0123", kNow).error().code, ErrorCode::kNotFound);
  EXPECT_THAT(store.Retire(key.Public().Id().substr(0, 4), kNow).error().message,
              HasSubstr("not enough"));
}

TEST(TrustStoreTest, OneKeyHandsOverToTheNext) {
  const auto old_key = crypto::SigningKey::Generate();
  const auto new_key = crypto::SigningKey::Generate();
  TrustStore store;
  ASSERT_TRUE(store.Add(old_key.Public(), "2025", kNow));
  const std::string statement = MakeRotation(old_key, new_key, "2026", kNow + 1000);
  const auto accepted = store.AcceptRotation(statement, kNow);
  ASSERT_TRUE(accepted) << accepted.error().message;
  EXPECT_EQ(accepted->name, "2026");
  EXPECT_TRUE(store.Check(SignedBy({new_key}), kNow));
  EXPECT_TRUE(store.Check(SignedBy({old_key}), kNow + 999));
  EXPECT_FALSE(store.Check(SignedBy({old_key}), kNow + 1000));
  EXPECT_EQ(store.AcceptRotation(statement, kNow).error().code, ErrorCode::kAlreadyExists);
}

TEST(TrustStoreTest, ARotationThatTheOldKeyDidNotSignIsRefused) {
  const auto old_key = crypto::SigningKey::Generate();
  const auto new_key = crypto::SigningKey::Generate();
  const auto stranger = crypto::SigningKey::Generate();
  TrustStore store;
  ASSERT_TRUE(store.Add(old_key.Public(), "2025", kNow));
  const auto refusal = [&](std::string_view statement, int64_t now_s = kNow) {
    TrustStore copy = store;
    const auto accepted = copy.AcceptRotation(statement, now_s);
    return accepted ? std::string("accepted") : accepted.error().message;
  };
  EXPECT_THAT(refusal(MakeRotation(stranger, new_key, "x", kNow)), HasSubstr("not in the trust"));
  const std::string good = MakeRotation(old_key, new_key, "2026", kNow + 5);
  EXPECT_EQ(refusal(good), "accepted");
  std::string changed = good;
  changed.replace(changed.find("2026"), 4, "2027");
  EXPECT_THAT(refusal(changed), HasSubstr("not what the two keys signed"));
  // Somebody who has the statement but not the new key's secret cannot put another key in.
  std::string other = MakeRotation(old_key, stranger, "2026", kNow + 5);
  const auto tail = [](const std::string& text) {
    return text.substr(text.find("\"new_ed25519\""));
  };
  EXPECT_THAT(refusal(other.substr(0, other.find("\"new_ed25519\"")) + tail(good)),
              HasSubstr("not what the two keys signed"));
  ASSERT_TRUE(store.Retire(old_key.Public().Id(), kNow + 1));
  EXPECT_THAT(refusal(good, kNow + 2), HasSubstr("not trusted any more"));
  for (const char* text : {"", "{}", R"({"rotation":{},"old_ed25519":"00","new_ed25519":"00"})"}) {
    EXPECT_NE(refusal(text), "accepted") << text;
  }
}

TEST(TrustStoreTest, TheFileReadsBack) {
  const os::TempDir dir;
  const auto file = dir.path() / "catalogue/trust.json";
  EXPECT_TRUE(TrustStore::Read(file)->keys().empty());
  const auto key = crypto::SigningKey::Generate();
  TrustStore store;
  ASSERT_TRUE(store.Add(key.Public(), "release", kNow));
  ASSERT_TRUE(store.Add(crypto::SigningKey::Generate().Public(), "other", kNow));
  ASSERT_TRUE(store.Retire(key.Public().Id(), kNow + 7));
  EXPECT_EQ(store.Add(key.Public(), "again", kNow).error().code, ErrorCode::kAlreadyExists);
  ASSERT_TRUE(store.Write(file));
  const auto read = TrustStore::Read(file);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->Format(), store.Format());
  EXPECT_EQ(read->Find(key.Public().Id())->not_after_s, kNow + 7);
}

TEST(TrustStoreTest, AMalformedFileNamesThePlace) {
  const auto key = crypto::SigningKey::Generate();
  std::string pem = key.Public().ToPem();
  for (size_t at = 0; (at = pem.find('\n', at)) != std::string::npos;) pem.replace(at, 1, "\\n");
  const std::string row = "{\"public_key\":\"" + pem + "\"}";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "not JSON"},
      {"{}", "schema is missing"},
      {R"({"schema":2,"keys":[]})", "schema is unknown"},
      {R"({"schema":1})", "keys is missing"},
      {R"({"schema":1,"keys":[{"public_key":"x"}]})", "Ed25519 public key"},
      {R"({"schema":1,"keys":[)" + row + "," + row + "]}", "there twice"},
  };
  for (const auto& [text, message] : cases) {
    const auto store = TrustStore::Parse(text);
    ASSERT_FALSE(store) << text;
    EXPECT_THAT(store.error().message, HasSubstr(message));
  }
  EXPECT_TRUE(TrustStore::Parse(R"({"schema":1,"keys":[)" + row + "]}"));
}

}  // namespace
}  // namespace tandem::fleet
