// One contract, two stores: what the tests of key_ring.h rely on holds for SQL too.
#include "gateway/auth/key_store.h"

#include <cstdlib>
#include <filesystem>
#include <memory>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gateway/auth/fake_key_store.h"
#include "gateway/auth/key_ring.h"
#include "gateway/auth/sql_key_store.h"
#include "store/database.h"
#include "store/testing/test_databases.h"

namespace tandem::gateway::auth {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "key_store_XXXXXX").string();
    if (mkdtemp(name.data()) != nullptr) path_ = name;
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

enum class Kind { kFake, kSql, kPostgres };

class KeyStoreTest : public ::testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    if (GetParam() == Kind::kFake) {
      store_ = std::make_unique<FakeKeyStore>();
      return;
    }
    const bool postgres = GetParam() == Kind::kPostgres;
    const std::string url = postgres ? store::NewTestSchema() : "";
    if (postgres && url.empty()) GTEST_SKIP() << "no PostgreSQL is installed";
    auto database = postgres ? store::Database::Connect({.url = url})
                             : store::Database::Open(directory_.path() / "tandem.db");
    ASSERT_TRUE(database.has_value()) << database.error().message;
    database_ = *std::move(database);
    auto store = SqlKeyStore::Open(database_.get(), &clock_);
    ASSERT_TRUE(store.has_value()) << store.error().message;
    store_ = *std::move(store);
  }

  static KeyRecord Record(std::string id, std::string name, int64_t created_at) {
    KeyRecord record;
    record.id = record.account = std::move(id);
    record.name = std::move(name);
    record.created_at = created_at;
    for (size_t i = 0; i < record.digest.size(); ++i)
      record.digest[i] = static_cast<uint8_t>(i * 9);
    return record;
  }
  Status Add(const KeyRecord& record) {
    return store_->Add(record, {"KEY_CREATE", "test", record.name, "{}"});
  }
  Status Replace(std::string_view id, const KeyRecord& next) {
    return store_->Replace(id, 99, next, {"KEY_ROTATION", "test", next.name, "{}"});
  }
  Status Revoke(const std::vector<std::string>& ids, int64_t at) {
    const std::vector<AuditEvent> events(ids.size(), {"KEY_REVOKE", "test", "", "{}"});
    return store_->Revoke(ids, at, events);
  }
  int64_t Version() { return store_->Version().value_or(-1); }

  FakeClock clock_;
  TemporaryDirectory directory_;
  std::unique_ptr<store::Database> database_;
  std::unique_ptr<KeyStore> store_;
};

TEST_P(KeyStoreTest, RecordsComeBackWholeOldestFirst) {
  EXPECT_THAT(store_->List().value(), IsEmpty());
  const KeyRecord first = Record("bbbbbbbb", "first", 100);
  const KeyRecord second = Record("aaaaaaaa", "second", 200);
  ASSERT_TRUE(Add(first).has_value());
  ASSERT_TRUE(Add(second).has_value());
  EXPECT_THAT(store_->List().value(), ElementsAre(first, second));
}

TEST_P(KeyStoreTest, IdsAndNamesInForceAreUnique) {
  ASSERT_TRUE(Add(Record("aaaaaaaa", "a", 1)).has_value());
  EXPECT_EQ(Add(Record("aaaaaaaa", "b", 2)).error().code, ErrorCode::kAlreadyExists);
  EXPECT_EQ(Add(Record("bbbbbbbb", "a", 2)).error().code, ErrorCode::kAlreadyExists);
  ASSERT_TRUE(Revoke({"aaaaaaaa"}, 3).has_value());
  EXPECT_TRUE(Add(Record("bbbbbbbb", "a", 4)).has_value());
  EXPECT_EQ(store_->List().value().size(), 2u);
}

TEST_P(KeyStoreTest, RevocationIsKeptAndHappensOnce) {
  ASSERT_TRUE(Add(Record("aaaaaaaa", "a", 1)).has_value());
  EXPECT_EQ(Revoke({"bbbbbbbb"}, 2).error().code, ErrorCode::kNotFound);
  ASSERT_TRUE(Revoke({"aaaaaaaa"}, 3).has_value());
  EXPECT_EQ(Revoke({"aaaaaaaa"}, 4).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(store_->List().value().at(0).revoked_at, 3);
}

TEST_P(KeyStoreTest, VersionChangesWithEveryChangeAndOnlyThen) {
  const int64_t start = Version();
  ASSERT_TRUE(Add(Record("aaaaaaaa", "a", 1)).has_value());
  const int64_t added = Version();
  EXPECT_NE(added, start);
  EXPECT_FALSE(Add(Record("bbbbbbbb", "a", 1)).has_value());
  EXPECT_FALSE(Revoke({"cccccccc"}, 2).has_value());
  EXPECT_EQ(Version(), added);
  ASSERT_TRUE(Revoke({"aaaaaaaa"}, 2).has_value());
  EXPECT_NE(Version(), added);
}

TEST_P(KeyStoreTest, EveryFieldOfAPolicyComesBack) {
  KeyRecord record = Record("aaaaaaaa", "a", 1);
  record.policy.models = {"phi-4-mini", "deepseek-v3.2"};
  record.policy.device = false;
  record.policy.privacy = "redacted";
  record.policy.budget = Budget{12'345'678'901, BudgetPeriod::kTotal};
  record.policy.chat = false;
  record.policy.admin = true;
  record.policy.expires_at = 77;
  ASSERT_TRUE(Add(record).has_value());
  EXPECT_THAT(store_->List().value(), ElementsAre(record));
  KeyRecord monthly = Record("bbbbbbbb", "b", 2);
  monthly.policy.cloud = false;
  monthly.policy.budget = Budget{1, BudgetPeriod::kMonth};
  ASSERT_TRUE(Add(monthly).has_value());
  EXPECT_EQ(store_->List().value().at(1), monthly);
}

TEST_P(KeyStoreTest, ReplacementKeepsBothAndTheNameIsTheNewOnes) {
  ASSERT_TRUE(Add(Record("aaaaaaaa", "a", 1)).has_value());
  const int64_t before = Version();
  EXPECT_EQ(Replace("cccccccc", Record("bbbbbbbb", "a", 2)).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(Replace("aaaaaaaa", Record("aaaaaaaa", "a", 2)).error().code,
            ErrorCode::kAlreadyExists);
  EXPECT_EQ(store_->List().value(), std::vector{Record("aaaaaaaa", "a", 1)});
  EXPECT_EQ(Version(), before);
  ASSERT_TRUE(Replace("aaaaaaaa", Record("bbbbbbbb", "a", 2)).has_value());
  EXPECT_NE(Version(), before);
  KeyRecord old = Record("aaaaaaaa", "a", 1);
  old.superseded_by = "bbbbbbbb";
  old.overlap_ends_at = 99;
  EXPECT_THAT(store_->List().value(), ElementsAre(old, Record("bbbbbbbb", "a", 2)));
  EXPECT_EQ(Replace("aaaaaaaa", Record("cccccccc", "a", 3)).error().code, ErrorCode::kNotFound)
      << "it was replaced already";
  EXPECT_EQ(Add(Record("dddddddd", "a", 4)).error().code, ErrorCode::kAlreadyExists);
}

TEST_P(KeyStoreTest, SeveralAreRevokedTogetherOrNotAtAll) {
  ASSERT_TRUE(Add(Record("aaaaaaaa", "a", 1)).has_value());
  ASSERT_TRUE(Add(Record("bbbbbbbb", "b", 2)).has_value());
  EXPECT_EQ(Revoke({"aaaaaaaa", "cccccccc"}, 3).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(store_->List().value().at(0).revoked_at, std::nullopt);
  ASSERT_TRUE(Revoke({"aaaaaaaa", "bbbbbbbb"}, 3).has_value());
  EXPECT_EQ(store_->List().value().at(1).revoked_at, 3);
}

INSTANTIATE_TEST_SUITE_P(Stores, KeyStoreTest,
                         ::testing::Values(Kind::kFake, Kind::kSql, Kind::kPostgres),
                         [](const auto& instance) {
                           return instance.param == Kind::kFake  ? "Fake"
                                  : instance.param == Kind::kSql ? "Sql"
                                                                 : "Postgres";
                         });

class SqlKeyStoreTest : public store::DatabaseTestOf {};
INSTANTIATE_TEST_SUITE_P(Databases, SqlKeyStoreTest, store::AllDatabases(), store::DatabaseName);

TEST_P(SqlKeyStoreTest, TwoConnectionsSeeEachOther) {
  const FakeClock clock;
  struct Node {
    std::unique_ptr<store::Database> database;
    std::unique_ptr<SqlKeyStore> store;
    std::unique_ptr<KeyRing> ring;
  };
  const auto open = [&] {
    Node node;
    node.database = Open();
    node.store = SqlKeyStore::Open(node.database.get(), &clock).value();
    node.ring = KeyRing::Open(node.store.get(), directory() / "keys.pepper", &clock).value();
    return node;
  };
  const Node server = open();
  const Node command = open();
  const CreatedKey created = command.ring->Create("laptop").value();
  EXPECT_EQ(server.ring->Verify(created.text).value().key_name, "laptop");
  EXPECT_EQ(server.ring->List().value().size(), 1u);
  // A later process reads the same pepper and the same table.
  EXPECT_TRUE(open().ring->Verify(created.text).has_value());
}

// The tables as the first release made them, with what was in them.
TEST_P(SqlKeyStoreTest, DatabaseOfTheFirstSchemaIsUpgradedWithItsKeys) {
  const FakeClock clock;
  const std::string digest(64, 'a');
  {
    const auto database = Open();
    const store::Migration kFirst[] = {
        {"api_keys",
         "CREATE TABLE api_keys (id TEXT PRIMARY KEY, name TEXT NOT NULL, digest TEXT NOT NULL,"
         "  created_at BIGINT NOT NULL, revoked_at BIGINT);"
         "CREATE UNIQUE INDEX api_keys_name_in_force ON api_keys (name) WHERE revoked_at IS NULL;"
         "CREATE TABLE api_keys_version (version BIGINT NOT NULL);"
         "INSERT INTO api_keys_version VALUES (0);"}};
    ASSERT_TRUE(database->Migrate("auth", kFirst).has_value());
    ASSERT_TRUE(
        database->Execute("INSERT INTO api_keys VALUES ('aaaaaaaa', 'a', $1, 1, NULL)", {digest}));
    ASSERT_TRUE(
        database->Execute("INSERT INTO api_keys VALUES ('bbbbbbbb', 'a', $1, 0, 1)", {digest}));
  }
  const auto database = Open();
  const auto store = SqlKeyStore::Open(database.get(), &clock).value();
  const auto keys = store->List().value();
  ASSERT_EQ(keys.size(), 2u);
  EXPECT_EQ(keys[0].revoked_at, 1);
  EXPECT_EQ(keys[1].id, "aaaaaaaa");
  EXPECT_EQ(keys[1].account, "aaaaaaaa");
  EXPECT_EQ(keys[1].policy, KeyPolicy{}) << "what it could do before, and no more";
  // And the new form works on it.
  KeyRecord next = keys[1];
  next.id = "cccccccc";
  ASSERT_TRUE(store->Replace("aaaaaaaa", 5, next, {"KEY_ROTATION", "", "a", "{}"}).has_value());
  EXPECT_EQ(store->List().value().size(), 3u);
  EXPECT_EQ(database->SchemaVersion("auth"), 5);
}

TEST_P(SqlKeyStoreTest, ChangesAndTheirAuditRecordsHappenTogether) {
  FakeClock clock;
  const auto database = Open();
  const auto store = SqlKeyStore::Open(database.get(), &clock).value();
  const auto ring = KeyRing::Open(store.get(), directory() / "keys.pepper", &clock).value();
  const auto log = AuditLog::Open(database.get(), &clock).value();
  ASSERT_TRUE(ring->Create("a", {}, "ann").has_value());
  clock.Advance(std::chrono::seconds(2));
  ASSERT_TRUE(ring->Rotate("a", std::chrono::hours(1), "ann").has_value());
  ASSERT_TRUE(ring->Revoke("a", "ann").has_value());
  EXPECT_FALSE(ring->Create("bad name", {}, "ann").has_value());
  const auto records = log->List(10).value();
  ASSERT_EQ(records.size(), 4u);
  EXPECT_EQ(records[3].event.action, "KEY_CREATE");
  EXPECT_EQ(records[2].event.action, "KEY_ROTATION");
  EXPECT_EQ(records[2].at_ms - records[3].at_ms, 2000);
  EXPECT_EQ(log->Verify().value().number, 4);

  // A change whose record cannot be written does not happen.
  ASSERT_TRUE(database->Execute("DELETE FROM audit_head"));
  EXPECT_EQ(ring->Create("b", {}, "ann").error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(store->List().value().size(), 2u);
}

TEST_P(SqlKeyStoreTest, DamagedRowsAreAnErrorNotAKey) {
  const FakeClock clock;
  const auto database = Open();
  const auto store = SqlKeyStore::Open(database.get(), &clock).value();
  const auto insert = [&](const std::string& digest, const std::string& privacy) {
    ASSERT_TRUE(database->Execute("DELETE FROM api_keys"));
    ASSERT_TRUE(
        database->Execute("INSERT INTO api_keys (id, name, digest, created_at, account, privacy) "
                          "VALUES ('aaaaaaaa', 'a', $1, 1, 'aaaaaaaa', $2)",
                          {digest, privacy}));
  };
  insert(std::string(64, 'a'), "on_device");
  EXPECT_TRUE(store->List().has_value());
  insert("beef", "on_device");
  EXPECT_EQ(store->List().error().code, ErrorCode::kCorrupt);
  insert(std::string(64, 'a'), "no such privacy");
  EXPECT_EQ(store->List().error().code, ErrorCode::kCorrupt) << "it must not become 'any'";
}

}  // namespace
}  // namespace tandem::gateway::auth
