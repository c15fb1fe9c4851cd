// What only a database that several nodes share can do, and what can go wrong with it.
#include <thread>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "store/database.h"
#include "store/testing/test_databases.h"

namespace tandem::store {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class PostgresTest : public DatabaseTestOf {};
INSTANTIATE_TEST_SUITE_P(Databases, PostgresTest, ::testing::Values(DatabaseKind::kPostgres),
                         DatabaseName);

constexpr Migration kItems[] = {
    {"items", "CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)"},
};

std::vector<std::string> Names(Queries& queries) {
  auto names = queries.Query<std::string>("SELECT name FROM items ORDER BY id", {},
                                          [](const Row& row) { return row.Text(0); });
  EXPECT_TRUE(names) << names.error().message;
  return names.value_or(std::vector<std::string>());
}

TEST_P(PostgresTest, TextThatPostgresHasNotIsReplaced) {
  auto database = Open();
  const auto back = [&](const std::string& text) {
    return database
        ->QueryOne<std::string>("SELECT $1", {text}, [](const Row& row) { return row.Text(0); })
        .value()
        .value();
  };
  EXPECT_EQ(back(std::string("a\0b\0", 4)),
            "a\xEF\xBF\xBD"
            "b\xEF\xBF\xBD");
  EXPECT_EQ(back("\xFFz"), "\xEF\xBF\xBDz");
  EXPECT_EQ(back("\xC3\xA4"), "\xC3\xA4");
}

// The message of a constraint must not tell what a row holds.
TEST_P(PostgresTest, ErrorsDoNotRepeatWhatRowsHold) {
  auto database = Open();
  ASSERT_TRUE(database->Migrate("test", kItems));
  ASSERT_TRUE(database->Execute("INSERT INTO items VALUES ($1, $2)", {1, "secret"}));
  const auto added = database->Execute("INSERT INTO items VALUES ($1, $2)", {2, "secret"});
  ASSERT_EQ(added.error().code, ErrorCode::kAlreadyExists);
  EXPECT_THAT(added.error().message, Not(HasSubstr("secret")));
}

TEST_P(PostgresTest, NameIsHeldByOneUntilItsConnectionIsLost) {
  auto database = Open();
  auto other = Open();
  auto lock = database->TryHold("canary");
  ASSERT_TRUE(lock && *lock);
  EXPECT_FALSE(*other->TryHold("canary"));
  EXPECT_TRUE(*other->TryHold("something else"));
  ASSERT_TRUE(
      other->Execute("SELECT pg_terminate_backend(pid, 10000) FROM pg_locks "
                     "WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"));
  EXPECT_FALSE((*lock)->Held());
  EXPECT_FALSE((*lock)->Held());
  auto next = other->TryHold("canary");
  ASSERT_TRUE(next && *next);
  EXPECT_TRUE((*next)->Held());
}

TEST_P(PostgresTest, ConnectionThatBrokeWhileItLayIdleIsMadeAnew) {
  auto database = Open();
  ASSERT_TRUE(database->Migrate("test", kItems));
  ASSERT_TRUE(database->Execute("INSERT INTO items VALUES (1, 'a')"));
  EXPECT_THAT(Names(*database), ElementsAre("a"));
  SharedTestServer()->Run();  // stops it first
  EXPECT_THAT(Names(*database), ElementsAre("a"));
  EXPECT_TRUE(database->Execute("INSERT INTO items VALUES (2, 'b')"));
  SharedTestServer()->Run();
  auto write = database->BeginWrite();
  ASSERT_TRUE(write) << write.error().message;
  EXPECT_THAT(Names(*write), ElementsAre("a", "b"));
  EXPECT_TRUE(write->Execute("INSERT INTO items VALUES (3, 'c')"));
  EXPECT_TRUE(write->Commit());
  SharedTestServer()->Run();
  auto read = database->BeginRead();
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_THAT(Names(*read), ElementsAre("a", "b", "c"));
}

TEST_P(PostgresTest, ServerThatIsGoneIsATypedErrorAndNothingOfTheTransactionStays) {
  auto database = Open();
  ASSERT_TRUE(database->Migrate("test", kItems));
  auto write = database->BeginWrite();
  ASSERT_TRUE(write->Execute("INSERT INTO items VALUES (1, 'lost')"));
  SharedTestServer()->Stop();
  EXPECT_EQ(write->Commit().error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(database->BeginWrite().error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(database->BeginRead().error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(database->Execute("DELETE FROM items").error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(database->ForEach("SELECT 1", {}, [](const Row&) {}).error().code,
            ErrorCode::kUnavailable);
  EXPECT_EQ(database->TryHold("x").error().code, ErrorCode::kUnavailable);
  SharedTestServer()->Run();
  EXPECT_THAT(Names(*database), IsEmpty());
  EXPECT_TRUE(database->Execute("INSERT INTO items VALUES (1, 'kept')"));
}

// Nobody waits for a server that somebody has just found to be gone.
TEST_P(PostgresTest, ServerCountsAsLostForAWhile) {
  auto database = Database::Connect({.url = url()}, {.reconnect_delay = std::chrono::hours(1)});
  ASSERT_TRUE(database) << database.error().message;
  SharedTestServer()->Stop();
  EXPECT_EQ((*database)->BeginRead().error().code, ErrorCode::kUnavailable);
  SharedTestServer()->Run();
  EXPECT_EQ((*database)->BeginRead().error().code, ErrorCode::kUnavailable);
  EXPECT_TRUE(Open()->BeginRead()) << "another one has no reason to wait";
}

TEST_P(PostgresTest, StatementThatTakesTooLongIsGivenUp) {
  auto database = Open({.statement_timeout = std::chrono::milliseconds(20)});
  const Status status = database->ForEach("SELECT pg_sleep(100)", {}, [](const Row&) {});
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kUnavailable);
  EXPECT_TRUE(database->ForEach("SELECT 1", {}, [](const Row&) {}));
}

// A lost update between two connections would show.
TEST_P(PostgresTest, WritersOfSeveralNodesTakeTurns) {
  ASSERT_TRUE(Open()->Execute("CREATE TABLE counter (n BIGINT NOT NULL)"));
  ASSERT_TRUE(Open()->Execute("INSERT INTO counter VALUES (0)"));
  std::vector<std::jthread> nodes;
  for (int i = 0; i < 3; ++i) {
    nodes.emplace_back([&] {
      auto database = Open();
      for (int n = 0; n < 30; ++n) {
        auto write = database->BeginWrite();
        ASSERT_TRUE(write) << write.error().message;
        const auto now = write->QueryOne<int64_t>("SELECT n FROM counter", {},
                                                  [](const Row& row) { return row.Int(0); });
        ASSERT_TRUE(write->Execute("UPDATE counter SET n = $1", {now->value_or(0) + 1}));
        ASSERT_TRUE(write->Commit());
      }
    });
  }
  nodes.clear();
  EXPECT_EQ(Open()->QueryOne<int64_t>("SELECT n FROM counter", {},
                                      [](const Row& row) { return row.Int(0); }),
            90);
}

TEST(SharedUrlTest, PasswordsAndNonsenseAreRefusedWithoutRepeatingThem) {
  EXPECT_TRUE(CheckSharedUrl("postgresql://tandem@db.example:5432/tandem?sslmode=verify-full"));
  EXPECT_TRUE(CheckSharedUrl("postgres:///tandem?host=/run/postgresql"));
  for (const char* url :
       {"postgresql://tandem:hunter2@db/tandem", "postgresql://db/tandem?password=hunter2",
        "postgresql://db/x?sslpassword=hunter2", "mysql://hunter2@db/tandem", "hunter2", "",
        "postgresql://tandem:hunt%2@db/tandem", "postgresql://db/tandem?hunter2=1"}) {
    const Status checked = CheckSharedUrl(url);
    ASSERT_FALSE(checked) << url;
    EXPECT_EQ(checked.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(checked.error().message, Not(HasSubstr("hunt"))) << url;
  }
}

TEST(SharedUrlTest, NobodyThereIsUnavailable) {
  const auto database = Database::Connect(
      {.url = "postgresql://tandem@/tandem?host=/nonexistent", .password = "hunter2"});
  ASSERT_FALSE(database);
  EXPECT_EQ(database.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(database.error().message, HasSubstr("tandem on /nonexistent:5432"));
  EXPECT_THAT(database.error().message, Not(HasSubstr("hunter2")));
}

TEST_P(PostgresTest, DatabaseThatIsNotThereIsNotFound) {
  std::string wrong = url();
  wrong.replace(wrong.find("/postgres?"), 10, "/nothing?");
  const auto database = Database::Connect({.url = wrong});
  ASSERT_FALSE(database);
  EXPECT_EQ(database.error().code, ErrorCode::kNotFound) << database.error().message;
}

}  // namespace
}  // namespace tandem::store
