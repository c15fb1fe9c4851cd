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

enum class Kind { kFake, kSql };

class KeyStoreTest : public ::testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    if (GetParam() == Kind::kFake) {
      store_ = std::make_unique<FakeKeyStore>();
      return;
    }
    auto database = store::Database::Open(directory_.path() / "tandem.db");
    ASSERT_TRUE(database.has_value()) << database.error().message;
    database_ = *std::move(database);
    auto store = SqlKeyStore::Open(database_.get());
    ASSERT_TRUE(store.has_value()) << store.error().message;
    store_ = *std::move(store);
  }

  static KeyRecord Record(std::string id, std::string name, int64_t created_at) {
    KeyRecord record{std::move(id), std::move(name), {}, created_at, {}};
    for (size_t i = 0; i < record.digest.size(); ++i)
      record.digest[i] = static_cast<uint8_t>(i * 9);
    return record;
  }
  int64_t Version() { return store_->Version().value_or(-1); }

  TemporaryDirectory directory_;
  std::unique_ptr<store::Database> database_;
  std::unique_ptr<KeyStore> store_;
};

TEST_P(KeyStoreTest, RecordsComeBackWholeOldestFirst) {
  EXPECT_THAT(store_->List().value(), IsEmpty());
  const KeyRecord first = Record("bbbbbbbb", "first", 100);
  const KeyRecord second = Record("aaaaaaaa", "second", 200);
  ASSERT_TRUE(store_->Add(first).has_value());
  ASSERT_TRUE(store_->Add(second).has_value());
  EXPECT_THAT(store_->List().value(), ElementsAre(first, second));
}

TEST_P(KeyStoreTest, IdsAndNamesInForceAreUnique) {
  ASSERT_TRUE(store_->Add(Record("aaaaaaaa", "a", 1)).has_value());
  EXPECT_EQ(store_->Add(Record("aaaaaaaa", "b", 2)).error().code, ErrorCode::kAlreadyExists);
  EXPECT_EQ(store_->Add(Record("bbbbbbbb", "a", 2)).error().code, ErrorCode::kAlreadyExists);
  ASSERT_TRUE(store_->Revoke("aaaaaaaa", 3).has_value());
  EXPECT_TRUE(store_->Add(Record("bbbbbbbb", "a", 4)).has_value());
  EXPECT_EQ(store_->List().value().size(), 2u);
}

TEST_P(KeyStoreTest, RevocationIsKeptAndHappensOnce) {
  ASSERT_TRUE(store_->Add(Record("aaaaaaaa", "a", 1)).has_value());
  EXPECT_EQ(store_->Revoke("bbbbbbbb", 2).error().code, ErrorCode::kNotFound);
  ASSERT_TRUE(store_->Revoke("aaaaaaaa", 3).has_value());
  EXPECT_EQ(store_->Revoke("aaaaaaaa", 4).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(store_->List().value().at(0).revoked_at, 3);
}

TEST_P(KeyStoreTest, VersionChangesWithEveryChangeAndOnlyThen) {
  const int64_t start = Version();
  ASSERT_TRUE(store_->Add(Record("aaaaaaaa", "a", 1)).has_value());
  const int64_t added = Version();
  EXPECT_NE(added, start);
  EXPECT_FALSE(store_->Add(Record("bbbbbbbb", "a", 1)).has_value());
  EXPECT_FALSE(store_->Revoke("cccccccc", 2).has_value());
  EXPECT_EQ(Version(), added);
  ASSERT_TRUE(store_->Revoke("aaaaaaaa", 2).has_value());
  EXPECT_NE(Version(), added);
}

INSTANTIATE_TEST_SUITE_P(Stores, KeyStoreTest, ::testing::Values(Kind::kFake, Kind::kSql),
                         [](const auto& instance) {
                           return instance.param == Kind::kFake ? "Fake" : "Sql";
                         });

TEST(SqlKeyStoreTest, TwoConnectionsSeeEachOther) {
  TemporaryDirectory directory;
  const FakeClock clock;
  struct Node {
    std::unique_ptr<store::Database> database;
    std::unique_ptr<SqlKeyStore> store;
    std::unique_ptr<KeyRing> ring;
  };
  const auto open = [&] {
    Node node;
    node.database = store::Database::Open(directory.path() / "tandem.db").value();
    node.store = SqlKeyStore::Open(node.database.get()).value();
    node.ring = KeyRing::Open(node.store.get(), directory.path() / "keys.pepper", &clock).value();
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

TEST(SqlKeyStoreTest, DamagedDigestIsAnErrorNotAKey) {
  TemporaryDirectory directory;
  const auto database = store::Database::Open(directory.path() / "tandem.db").value();
  const auto store = SqlKeyStore::Open(database.get()).value();
  ASSERT_TRUE(database->Execute("INSERT INTO api_keys VALUES ('aaaaaaaa', 'a', 'beef', 1, NULL)")
                  .has_value());
  EXPECT_EQ(store->List().error().code, ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace tandem::gateway::auth
