#include "gateway/auth/key_ring.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "crypto/digest.h"
#include "gateway/auth/fake_key_store.h"
#include "os/file.h"

namespace tandem::gateway::auth {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

class KeyRingTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "key_ring_XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
    pepper_file_ = directory_ / "keys.pepper";
    ring_ = OpenRing();
    ASSERT_NE(ring_, nullptr);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::unique_ptr<KeyRing> OpenRing() {
    auto ring = KeyRing::Open(&store_, pepper_file_, &clock_);
    EXPECT_TRUE(ring.has_value()) << (ring ? "" : ring.error().message);
    return ring ? *std::move(ring) : nullptr;
  }
  CreatedKey MustCreate(std::string_view name) {
    auto created = ring_->Create(name);
    EXPECT_TRUE(created.has_value()) << (created ? "" : created.error().message);
    return created.value_or(CreatedKey{});
  }

  FakeClock clock_;
  FakeKeyStore store_;
  std::filesystem::path directory_;
  std::filesystem::path pepper_file_;
  std::unique_ptr<KeyRing> ring_;
};

TEST(KeyFormatTest, ChecksumIsTheCrc32OfGzipInBase62) {
  // zlib.crc32(b"tdm_live_00000000_" + b"0" * 43) == 0x3C80BCD7, 16h83L in base 62
  const std::string text = FormatKey("00000000", std::string(43, '0'));
  EXPECT_EQ(text, "tdm_live_00000000_" + std::string(43, '0') + "16h83L");
}

TEST(KeyFormatTest, EverySingleCharacterErrorIsFound) {
  const std::string good = FormatKey("a1B2c3D4", "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG");
  const auto parsed = ParseKey(good);
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(parsed->id, "a1B2c3D4");
  EXPECT_EQ(parsed->secret, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG");
  for (size_t i = 0; i < good.size(); ++i) {
    for (const char c : {'0', 'z', '_', '-', '\0', '\x80'}) {
      std::string bad = good;
      if (bad[i] == c) continue;
      bad[i] = c;
      EXPECT_FALSE(ParseKey(bad).has_value()) << i;
    }
    EXPECT_FALSE(ParseKey(good.substr(0, i)).has_value());
    EXPECT_FALSE(ParseKey(good.substr(i + 1)).has_value());
  }
  EXPECT_FALSE(ParseKey(good + "0").has_value());
  EXPECT_FALSE(ParseKey(good + good).has_value());
}

TEST(KeyNameTest, OnlySafeNamesAreTaken) {
  for (const char* good : {"a", "prod-1", "ann@example.com", "9.x_y"}) {
    EXPECT_TRUE(CheckKeyName(good).has_value()) << good;
  }
  for (const std::string& bad : {std::string(), std::string("-x"), std::string("a b"),
                                 std::string("a\n"), std::string("\xC3\xA9"), std::string(65, 'a'),
                                 std::string("a\0b", 3), std::string("a;drop")}) {
    const Status status = CheckKeyName(bad);
    ASSERT_FALSE(status.has_value()) << bad;
    EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
  }
}

TEST_F(KeyRingTest, CreatedKeyIsVerifiedAndItsSecretIsKeptNowhere) {
  const CreatedKey created = MustCreate("laptop");
  EXPECT_THAT(created.text, MatchesRegex("tdm_live_[0-9A-Za-z]{8}_[0-9A-Za-z]{49}"));
  EXPECT_EQ(created.record.created_at, UnixSeconds(clock_.SystemNow()));
  const auto principal = ring_->Verify(created.text);
  ASSERT_TRUE(principal.has_value());
  EXPECT_EQ(principal->key_id, created.record.id);
  EXPECT_EQ(principal->key_name, "laptop");
  const auto listed = ring_->List();
  ASSERT_TRUE(listed.has_value());
  ASSERT_EQ(listed->size(), 1u);
  EXPECT_EQ(listed->front(), created.record);
  // What is kept is neither the key nor its plain digest.
  EXPECT_NE(crypto::Hex(listed->front().digest), crypto::Sha256Hex(created.text));
}

TEST_F(KeyRingTest, KeysDiffer) {
  std::set<std::string> texts;
  for (int i = 0; i < 50; ++i) texts.insert(MustCreate("k" + std::to_string(i)).text);
  EXPECT_EQ(texts.size(), 50u);
}

TEST_F(KeyRingTest, WrongSecretUnknownIdAndGarbageGetTheSameAnswer) {
  const CreatedKey created = MustCreate("a");
  const std::string wrong_secret = FormatKey(created.record.id, std::string(43, 'x'));
  const std::string unknown_id = FormatKey("zzzzzzzz", std::string(43, 'x'));
  std::set<std::string> messages;
  for (const std::string& text : {wrong_secret, unknown_id, std::string("sk-123"), std::string()}) {
    const auto principal = ring_->Verify(text);
    ASSERT_FALSE(principal.has_value());
    EXPECT_EQ(principal.error().code, ErrorCode::kUnauthenticated);
    if (!text.empty()) EXPECT_THAT(principal.error().message, Not(HasSubstr(text)));
    messages.insert(principal.error().message);
  }
  EXPECT_EQ(messages.size(), 1u);
}

TEST_F(KeyRingTest, BadChecksumNeverReachesTheStore) {
  std::string text = MustCreate("a").text;
  text.back() = text.back() == '0' ? '1' : '0';
  EXPECT_FALSE(ring_->Verify(text).has_value());
  EXPECT_EQ(store_.n_versions(), 0);
}

TEST_F(KeyRingTest, NameOfAKeyInForceIsTakenAndFreeAfterItsRevocation) {
  MustCreate("a");
  const auto second = ring_->Create("a");
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, ErrorCode::kAlreadyExists);
  ASSERT_TRUE(ring_->Revoke("a").has_value());
  EXPECT_TRUE(ring_->Create("a").has_value());
  EXPECT_EQ(ring_->Create("bad name").error().code, ErrorCode::kInvalidArgument);
}

TEST_F(KeyRingTest, RevokedKeyIsRefusedAtOnce) {
  const CreatedKey first = MustCreate("a");
  const CreatedKey second = MustCreate("b");
  ASSERT_TRUE(ring_->Verify(first.text).has_value());
  clock_.Advance(std::chrono::seconds(10));
  const auto revoked = ring_->Revoke("a");
  ASSERT_TRUE(revoked.has_value());
  ASSERT_EQ(revoked->size(), 1u);
  EXPECT_EQ(revoked->front().revoked_at, UnixSeconds(clock_.SystemNow()));
  EXPECT_FALSE(ring_->Verify(first.text).has_value());
  EXPECT_TRUE(ring_->Verify(second.text).has_value());
  EXPECT_EQ(ring_->Revoke("a").error().code, ErrorCode::kFailedPrecondition);
  EXPECT_EQ(ring_->Revoke(first.record.id).error().code, ErrorCode::kFailedPrecondition);
  EXPECT_EQ(ring_->Revoke("nobody").error().code, ErrorCode::kNotFound);
  EXPECT_TRUE(ring_->Revoke(second.record.id).has_value());
  EXPECT_FALSE(ring_->Verify(second.text).has_value());
}

TEST_F(KeyRingTest, PrincipalCarriesThePolicy) {
  KeyPolicy policy;
  policy.models = {"phi-4-mini", "deepseek-v3.2"};
  policy.cloud = false;
  policy.privacy = "on_device";
  policy.budget = Budget{5'000'000'000, BudgetPeriod::kTotal};
  policy.admin = true;
  const CreatedKey created = ring_->Create("a", policy, "local:ann").value();
  const Principal principal = ring_->Verify(created.text).value();
  EXPECT_EQ(principal.policy, policy);
  EXPECT_EQ(principal.account, created.record.id);
  const Principal plain = ring_->Verify(MustCreate("b").text).value();
  EXPECT_EQ(plain.policy, KeyPolicy{});
  EXPECT_FALSE(plain.policy.admin);
}

TEST_F(KeyRingTest, SenselessPoliciesAreRefused) {
  const auto refused = [&](const auto& change) {
    KeyPolicy policy;
    change(policy);
    const auto created = ring_->Create("a", policy);
    return !created.has_value() && created.error().code == ErrorCode::kInvalidArgument;
  };
  EXPECT_TRUE(refused([](KeyPolicy& p) { p.models = {""}; }));
  EXPECT_TRUE(refused([](KeyPolicy& p) { p.models = {"a,b"}; }));
  EXPECT_TRUE(refused([](KeyPolicy& p) { p.models = {"a b"}; }));
  EXPECT_TRUE(refused([](KeyPolicy& p) { p.models = {"a\n"}; }));
  EXPECT_TRUE(refused([](KeyPolicy& p) { p.models = {std::string(201, 'a')}; }));
  EXPECT_TRUE(refused([](KeyPolicy& p) { p.models.assign(1001, "m"); }));
  EXPECT_TRUE(refused([](KeyPolicy& p) { p.privacy = "secret"; }));
  EXPECT_TRUE(refused([](KeyPolicy& p) { p.device = p.cloud = false; }));
  EXPECT_TRUE(refused([](KeyPolicy& p) { p.chat = false; }));
  EXPECT_TRUE(refused([](KeyPolicy& p) { p.budget = Budget{0, BudgetPeriod::kMonth}; }));
  EXPECT_TRUE(refused([&](KeyPolicy& p) { p.expires_at = UnixSeconds(clock_.SystemNow()); }));
  EXPECT_FALSE(refused([](KeyPolicy& p) { p.models = {std::string(200, 'a')}; }));
}

TEST_F(KeyRingTest, KeyIsRefusedFromTheSecondOfItsExpiryOn) {
  KeyPolicy policy;
  policy.expires_at = UnixSeconds(clock_.SystemNow()) + 60;
  const CreatedKey created = ring_->Create("a", policy).value();
  clock_.Advance(std::chrono::seconds(59));
  EXPECT_TRUE(ring_->Verify(created.text).has_value());
  clock_.Advance(std::chrono::seconds(1));
  const auto expired = ring_->Verify(created.text);
  ASSERT_FALSE(expired.has_value());
  EXPECT_EQ(expired.error().code, ErrorCode::kUnauthenticated);
  EXPECT_THAT(expired.error().message, HasSubstr("expired"));
  EXPECT_EQ(ring_->Rotate("a", std::chrono::seconds(1)).error().code,
            ErrorCode::kFailedPrecondition);
  // Somebody who guesses the id of an expired key learns nothing.
  const auto guessed = ring_->Verify(FormatKey(created.record.id, std::string(43, 'x')));
  EXPECT_THAT(guessed.error().message, Not(HasSubstr("expired")));
}

// ---- Rotation --------------------------------------------------------------------------------

TEST_F(KeyRingTest, BothKeysAreGoodDuringTheOverlapAndOnlyTheNewOneAfterIt) {
  KeyPolicy policy;
  policy.models = {"m"};
  const CreatedKey old = ring_->Create("a", policy).value();
  clock_.Advance(std::chrono::hours(1));
  const RotatedKey rotated = ring_->Rotate("a", std::chrono::hours(24), "local:ann").value();
  EXPECT_NE(rotated.created.text, old.text);
  EXPECT_EQ(rotated.created.record.name, "a");
  EXPECT_EQ(rotated.created.record.policy, policy);
  EXPECT_EQ(rotated.old.superseded_by, rotated.created.record.id);
  const Principal before = ring_->Verify(old.text).value();
  const Principal after = ring_->Verify(rotated.created.text).value();
  EXPECT_NE(before.key_id, after.key_id);
  EXPECT_EQ(before.account, after.account) << "a rotation must not refill a budget";
  clock_.Advance(std::chrono::hours(24) - std::chrono::seconds(1));
  EXPECT_TRUE(ring_->Verify(old.text).has_value());
  clock_.Advance(std::chrono::seconds(1));
  EXPECT_EQ(ring_->Verify(old.text).error().code, ErrorCode::kUnauthenticated);
  EXPECT_TRUE(ring_->Verify(rotated.created.text).has_value());
}

TEST_F(KeyRingTest, RotationWithoutOverlapEndsTheOldKeyAtOnce) {
  const CreatedKey old = MustCreate("a");
  const RotatedKey rotated = ring_->Rotate(old.record.id, std::chrono::seconds(0)).value();
  EXPECT_FALSE(ring_->Verify(old.text).has_value());
  EXPECT_TRUE(ring_->Verify(rotated.created.text).has_value());
}

TEST_F(KeyRingTest, KeyIsRotatedOnceAndItsSuccessorAgain) {
  const CreatedKey first = MustCreate("a");
  const RotatedKey second = ring_->Rotate("a", std::chrono::hours(2)).value();
  EXPECT_EQ(ring_->Rotate(first.record.id, std::chrono::hours(1)).error().code,
            ErrorCode::kFailedPrecondition);
  const RotatedKey third = ring_->Rotate("a", std::chrono::hours(1)).value();
  EXPECT_EQ(third.old.id, second.created.record.id);
  EXPECT_EQ(third.created.record.account, first.record.id);
  for (const std::string& text : {first.text, second.created.text, third.created.text}) {
    EXPECT_TRUE(ring_->Verify(text).has_value());
  }
  EXPECT_EQ(ring_->Create("a").error().code, ErrorCode::kAlreadyExists);
}

TEST_F(KeyRingTest, RotationErrorsSayWhatIsWrong) {
  MustCreate("a");
  EXPECT_EQ(ring_->Rotate("nobody", std::chrono::hours(1)).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(ring_->Rotate("a", std::chrono::seconds(-1)).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(ring_->Rotate("a", std::chrono::days(367)).error().code, ErrorCode::kInvalidArgument);
  const std::string id = ring_->Revoke("a").value().front().id;
  EXPECT_EQ(ring_->Rotate("a", std::chrono::hours(1)).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(ring_->Rotate(id, std::chrono::hours(1)).error().code, ErrorCode::kFailedPrecondition);
}

TEST_F(KeyRingTest, RevocationByNameTakesTheOverlappingKeysToo) {
  const CreatedKey old = MustCreate("a");
  const RotatedKey rotated = ring_->Rotate("a", std::chrono::hours(24)).value();
  const auto revoked = ring_->Revoke("a");
  ASSERT_TRUE(revoked.has_value());
  EXPECT_EQ(revoked->size(), 2u);
  EXPECT_FALSE(ring_->Verify(old.text).has_value());
  EXPECT_FALSE(ring_->Verify(rotated.created.text).has_value());
}

TEST_F(KeyRingTest, RevocationByIdLeavesTheOtherKeyOfAnOverlap) {
  const CreatedKey old = MustCreate("a");
  const RotatedKey rotated = ring_->Rotate("a", std::chrono::hours(24)).value();
  ASSERT_EQ(ring_->Revoke(old.record.id).value().size(), 1u);
  EXPECT_FALSE(ring_->Verify(old.text).has_value());
  EXPECT_TRUE(ring_->Verify(rotated.created.text).has_value());
}

TEST_F(KeyRingTest, ChangesAreAuditedWithPrefixesAndNeverWithKeys) {
  const CreatedKey old = ring_->Create("a", {}, "local:ann").value();
  const RotatedKey rotated = ring_->Rotate("a", std::chrono::hours(24), "key:12345678").value();
  ASSERT_TRUE(ring_->Revoke("a", "local:bob").has_value());
  const std::vector<AuditEvent>& events = store_.events();
  ASSERT_EQ(events.size(), 4u);
  EXPECT_EQ(events[0].action, "KEY_CREATE");
  EXPECT_EQ(events[0].who, "local:ann");
  EXPECT_EQ(events[0].subject, "a");
  EXPECT_EQ(events[1].action, "KEY_ROTATION");
  EXPECT_EQ(events[1].who, "key:12345678");
  EXPECT_THAT(events[1].detail, HasSubstr("\"old_prefix\":\"" + old.text.substr(0, 17) + "\""));
  EXPECT_THAT(events[1].detail,
              HasSubstr("\"new_prefix\":\"" + rotated.created.text.substr(0, 17) + "\""));
  EXPECT_EQ(events[2].action, "KEY_REVOKE");
  EXPECT_EQ(events[3].action, "KEY_REVOKE");
  for (const AuditEvent& event : events) {
    for (const std::string& text : {old.text, rotated.created.text}) {
      EXPECT_THAT(event.detail, Not(HasSubstr(text.substr(18, 20))));
    }
  }
}

TEST_F(KeyRingTest, KeyThatAnotherProcessMadeCountsAtOnce) {
  const auto other = OpenRing();
  const CreatedKey first = MustCreate("a");
  ASSERT_TRUE(other->Verify(first.text).has_value());
  const CreatedKey second = MustCreate("b");
  EXPECT_TRUE(other->Verify(second.text).has_value());
}

TEST_F(KeyRingTest, RevocationByAnotherProcessCountsWithinTheInterval) {
  const auto other = OpenRing();
  const CreatedKey created = MustCreate("a");
  ASSERT_TRUE(other->Verify(created.text).has_value());
  ASSERT_TRUE(ring_->Revoke("a").has_value());
  EXPECT_TRUE(other->Verify(created.text).has_value()) << "still within the interval";
  clock_.Advance(KeyRing::kRefreshInterval);
  EXPECT_FALSE(other->Verify(created.text).has_value());
}

TEST_F(KeyRingTest, StoreIsReadOnlyWhenItsVersionChanges) {
  const CreatedKey created = MustCreate("a");
  ASSERT_TRUE(ring_->Verify(created.text).has_value());
  const int lists = store_.n_lists();
  const int versions = store_.n_versions();
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(ring_->Verify(created.text).has_value());
  EXPECT_EQ(store_.n_versions(), versions);
  clock_.Advance(KeyRing::kRefreshInterval);
  ASSERT_TRUE(ring_->Verify(created.text).has_value());
  EXPECT_EQ(store_.n_versions(), versions + 1);
  EXPECT_EQ(store_.n_lists(), lists);
}

TEST_F(KeyRingTest, FailingStoreIsItsOwnErrorNotAWrongKey) {
  const CreatedKey created = MustCreate("a");
  store_.FailWith(Error{ErrorCode::kIo, "disk gone", ""});
  EXPECT_EQ(ring_->Verify(created.text).error().code, ErrorCode::kIo);
  store_.FailWith(std::nullopt);
  EXPECT_TRUE(ring_->Verify(created.text).has_value());
}

TEST_F(KeyRingTest, PepperIsPrivateAndLasts) {
  const CreatedKey created = MustCreate("a");
  using std::filesystem::perms;
  EXPECT_EQ(std::filesystem::status(pepper_file_).permissions(),
            perms::owner_read | perms::owner_write);
  EXPECT_TRUE(OpenRing()->Verify(created.text).has_value());
}

TEST_F(KeyRingTest, MissingReadableOrBrokenPepperIsRefused) {
  MustCreate("a");
  std::filesystem::permissions(pepper_file_, std::filesystem::perms::others_read,
                               std::filesystem::perm_options::add);
  auto readable = KeyRing::Open(&store_, pepper_file_, &clock_);
  ASSERT_FALSE(readable.has_value());
  EXPECT_EQ(readable.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_THAT(readable.error().message, HasSubstr("chmod 600"));

  ASSERT_TRUE(os::WriteFileAtomic(pepper_file_, "abcd\n", 0600).has_value());
  EXPECT_EQ(KeyRing::Open(&store_, pepper_file_, &clock_).error().code, ErrorCode::kCorrupt);

  std::filesystem::remove(pepper_file_);
  auto missing = KeyRing::Open(&store_, pepper_file_, &clock_);
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code, ErrorCode::kFailedPrecondition);
}

TEST_F(KeyRingTest, AnotherPepperIsFoundOutAtTheStart) {
  ASSERT_TRUE(OpenRing() != nullptr);
  ASSERT_TRUE(os::WriteFileAtomic(pepper_file_, std::string(64, 'a'), 0600).has_value());
  const auto opened = KeyRing::Open(&store_, pepper_file_, &clock_);
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_THAT(opened.error().message, HasSubstr("another pepper"));
}

TEST_F(KeyRingTest, ManyThreadsMayVerifyCreateAndRevoke) {
  const CreatedKey created = MustCreate("shared");
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 20; ++i) {
        EXPECT_TRUE(ring_->Verify(created.text).has_value());
        const std::string name = "t" + std::to_string(t) + "." + std::to_string(i);
        auto mine = ring_->Create(name);
        ASSERT_TRUE(mine.has_value());
        EXPECT_TRUE(ring_->Verify(mine->text).has_value());
        EXPECT_TRUE(ring_->Revoke(name).has_value());
        EXPECT_FALSE(ring_->Verify(mine->text).has_value());
      }
    });
  }
}

}  // namespace
}  // namespace tandem::gateway::auth
