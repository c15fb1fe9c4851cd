#include "store/database.h"

#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <limits>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "store/testing/test_databases.h"

namespace tandem::store {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class DatabaseTest : public DatabaseTestOf {};
INSTANTIATE_TEST_SUITE_P(Databases, DatabaseTest, AllDatabases(), DatabaseName);

// What only a file can do.
class DatabaseFileTest : public DatabaseTestOf {};
INSTANTIATE_TEST_SUITE_P(Databases, DatabaseFileTest, ::testing::Values(DatabaseKind::kSqlite),
                         DatabaseName);

constexpr Migration kItems[] = {
    {"items", "CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);"},
};

std::vector<std::string> Names(Queries& queries) {
  auto names = queries.Query<std::string>("SELECT name FROM items ORDER BY id", {},
                                          [](const Row& row) { return row.Text(0); });
  EXPECT_TRUE(names) << names.error().message;
  return names.value_or(std::vector<std::string>());
}

// ---- Values and rows -------------------------------------------------------------------------

TEST_P(DatabaseTest, EveryTypeComesBackAsItWent) {
  auto database = Open();
  constexpr Migration kTable[] = {
      {"t", "CREATE TABLE t (i BIGINT, r DOUBLE PRECISION, s TEXT, b BLOB, n TEXT)"}};
  ASSERT_TRUE(database->Migrate("test", kTable));
  const std::string text = "'\\ \n and \xC3\xA4 \xF0\x9F\x8C\x8D";
  const std::string bytes("\x00\xFF\x80", 3);
  EXPECT_EQ(database->Execute("INSERT INTO t VALUES ($1, $2, $3, $4, $5)",
                              {int64_t{-9223372036854775807}, 0.1, text, Blob{bytes},
                               std::optional<std::string>()}),
            1);
  int n_rows = 0;
  EXPECT_TRUE(database->ForEach("SELECT * FROM t", {}, [&](const Row& row) {
    ++n_rows;
    EXPECT_EQ(row.size(), 5);
    EXPECT_EQ(row.Int(0), -9223372036854775807);
    EXPECT_EQ(row.Real(1), 0.1);
    EXPECT_EQ(row.Text(2), text);
    EXPECT_EQ(row.Blob(3), bytes);
    EXPECT_TRUE(row.IsNull(4));
    EXPECT_EQ(row.OptionalText(4), std::nullopt);
    EXPECT_EQ(row.OptionalInt(0), -9223372036854775807);
    EXPECT_EQ(row.OptionalReal(1), 0.1);
    EXPECT_EQ(row.Real(0), -9223372036854775807.0);
  }));
  EXPECT_EQ(n_rows, 1);
}

TEST_P(DatabaseTest, NumbersKeepEveryBit) {
  auto database = Open();
  constexpr Migration kTable[] = {
      {"t", "CREATE TABLE t (i BIGINT, r DOUBLE PRECISION, small INTEGER)"}};
  ASSERT_TRUE(database->Migrate("test", kTable));
  constexpr double kReals[] = {0.1,
                               -1e300,
                               5e-324,
                               1.0 / 3.0,
                               123456789012345678.0,
                               -0.5,
                               std::numeric_limits<double>::infinity()};
  constexpr int64_t kInts[] = {std::numeric_limits<int64_t>::min(), -1, 0,
                               std::numeric_limits<int64_t>::max()};
  for (size_t i = 0; i < std::size(kReals); ++i) {
    const int64_t integer = kInts[i % std::size(kInts)];
    ASSERT_TRUE(database->Execute("DELETE FROM t"));
    ASSERT_TRUE(database->Execute("INSERT INTO t VALUES ($1, $2, $3)", {integer, kReals[i], true}));
    EXPECT_TRUE(database->ForEach("SELECT i, r, small FROM t", {}, [&](const Row& row) {
      EXPECT_EQ(row.Int(0), integer);
      EXPECT_EQ(row.Real(1), kReals[i]);
      EXPECT_TRUE(row.Bool(2));
    }));
  }
}

// The same statement with a value here and a NULL there: each has parameters of other types.
TEST_P(DatabaseTest, AnyParameterMayBeNullAtAnyTime) {
  auto database = Open();
  constexpr Migration kTable[] = {
      {"t", "CREATE TABLE t (id INTEGER PRIMARY KEY, i BIGINT, r DOUBLE PRECISION, s TEXT)"}};
  ASSERT_TRUE(database->Migrate("test", kTable));
  for (int pattern = 0; pattern < 8; ++pattern) {
    const auto i = (pattern & 1) != 0 ? std::optional<int64_t>(7) : std::nullopt;
    const auto r = (pattern & 2) != 0 ? std::optional<double>(0.5) : std::nullopt;
    const auto s = (pattern & 4) != 0 ? std::optional<std::string>("x") : std::nullopt;
    ASSERT_TRUE(database->Execute("INSERT INTO t VALUES ($1, $2, $3, $4)", {pattern, i, r, s}));
    EXPECT_TRUE(
        database->ForEach("SELECT i, r, s FROM t WHERE id = $1", {pattern}, [&](const Row& row) {
          EXPECT_EQ(row.OptionalInt(0), i);
          EXPECT_EQ(row.OptionalReal(1), r);
          EXPECT_EQ(row.OptionalText(2), s);
        }));
  }
}

TEST_P(DatabaseTest, MoreStatementsThanAreKeptPrepared) {
  auto database = Open();
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 300; ++i) {
      EXPECT_EQ(database->QueryOne<int64_t>(fmt::format("SELECT {} + CAST($1 AS INTEGER)", i), {1},
                                            [](const Row& row) { return row.Int(0); }),
                i + 1);
    }
  }
}

TEST_P(DatabaseTest, ParametersGoByNumberNotByOrder) {
  auto database = Open();
  auto pair = database->QueryOne<std::string>("SELECT $2 || '-' || $1 || '-' || $2", {"one", "two"},
                                              [](const Row& row) { return row.Text(0); });
  ASSERT_TRUE(pair) << pair.error().message;
  EXPECT_EQ(*pair, "two-one-two");
}

// What looks like SQL in a parameter is text.
TEST_P(DatabaseTest, ParametersAreNeverSql) {
  auto database = Open();
  ASSERT_TRUE(database->Migrate("test", kItems));
  const std::string evil = "x'); DROP TABLE items; --";
  EXPECT_TRUE(database->Execute("INSERT INTO items VALUES (1, $1)", {evil}));
  EXPECT_THAT(Names(*database), ElementsAre(evil));
}

TEST_P(DatabaseTest, ColumnOfAnotherTypeFailsTheQuery) {
  auto database = Open();
  constexpr Migration kTable[] = {{"t",
                                   "CREATE TABLE t (i BIGINT, r DOUBLE PRECISION, s TEXT, b BLOB, "
                                   "n TEXT)"}};
  ASSERT_TRUE(database->Migrate("test", kTable));
  ASSERT_TRUE(database->Execute("INSERT INTO t VALUES ($1, $2, $3, $4, $5)",
                                {1, 1.5, "1", Blob{"x"}, std::nullopt}));
  const auto read = [&](const std::string& column, auto get) {
    auto value = database->QueryOne<int>("SELECT " + column + " FROM t", {}, [&](const Row& row) {
      get(row);
      return 0;
    });
    return value ? std::string("fine") : value.error().message;
  };
  EXPECT_EQ(read("i", [](const Row& row) { row.Int(0); }), "fine");
  EXPECT_THAT(read("s", [](const Row& row) { row.Int(0); }), HasSubstr("holds text"));
  EXPECT_THAT(read("n", [](const Row& row) { row.Text(0); }), HasSubstr("holds NULL"));
  EXPECT_THAT(read("r", [](const Row& row) { row.Int(0); }), HasSubstr("a real number"));
  EXPECT_THAT(read("b", [](const Row& row) { row.OptionalText(0); }), HasSubstr("a blob"));
  EXPECT_THAT(read("s", [](const Row& row) { row.Real(0); }), HasSubstr("a number should be"));
  auto error =
      database->QueryOne<int64_t>("SELECT 'x'", {}, [](const Row& row) { return row.Int(0); });
  EXPECT_EQ(error.error().code, ErrorCode::kCorrupt);
}

TEST_P(DatabaseTest, QueryOneGivesTheFirstRowOrNothing) {
  auto database = Open();
  const auto first = [&](std::string_view sql) {
    return database->QueryOne<int64_t>(sql, {}, [](const Row& row) { return row.Int(0); }).value();
  };
  EXPECT_EQ(first("SELECT 1 UNION ALL SELECT 2"), 1);
  EXPECT_EQ(first("SELECT 1 WHERE 1 = 0"), std::nullopt);
}

// ---- Errors ----------------------------------------------------------------------------------

TEST_P(DatabaseTest, ConstraintsAreTypedErrors) {
  auto database = Open();
  ASSERT_TRUE(database->Migrate("test", kItems));
  ASSERT_TRUE(database->Execute("CREATE TABLE parts (item INTEGER REFERENCES items (id))"));
  ASSERT_TRUE(database->Execute("INSERT INTO items VALUES (1, 'a')"));
  const auto code = [&](std::string_view sql) { return database->Execute(sql).error().code; };
  EXPECT_EQ(code("INSERT INTO items VALUES (1, 'b')"), ErrorCode::kAlreadyExists);
  EXPECT_EQ(code("INSERT INTO items VALUES (2, 'a')"), ErrorCode::kAlreadyExists);
  EXPECT_EQ(code("INSERT INTO items VALUES (2, NULL)"), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code("INSERT INTO parts VALUES (9)"), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code("INSERT INTO nowhere VALUES (9)"), ErrorCode::kInternal);
  EXPECT_EQ(code("SELECT 1; SELECT 2"), ErrorCode::kInternal);
  EXPECT_EQ(code(""), ErrorCode::kInternal);
  EXPECT_EQ(database->Execute("SELECT $1").error().code, ErrorCode::kInternal);
  EXPECT_EQ(database->Execute("SELECT $1", {1, 2}).error().code, ErrorCode::kInternal);
  EXPECT_EQ(database->Execute("SELECT ?", {1}).error().code, ErrorCode::kInternal);
  EXPECT_THAT(Names(*database), ElementsAre("a"));
}

TEST_P(DatabaseTest, QueriesCannotWrite) {
  auto database = Open();
  ASSERT_TRUE(database->Migrate("test", kItems));
  EXPECT_FALSE(
      database->ForEach("INSERT INTO items VALUES (1, 'a') RETURNING id", {}, [](const Row&) {}));
  EXPECT_THAT(Names(*database), IsEmpty());
}

TEST_P(DatabaseTest, ExecuteCountsTheRowsItChanged) {
  auto database = Open();
  ASSERT_TRUE(database->Migrate("test", kItems));
  EXPECT_EQ(database->Execute("INSERT INTO items VALUES (1, 'a'), (2, 'b')"), 2);
  EXPECT_EQ(database->Execute("UPDATE items SET name = 'c' WHERE id = 7"), 0);
  EXPECT_EQ(database->Execute("SELECT 1"), 0);
  EXPECT_EQ(database->Execute("DELETE FROM items"), 2);
}

TEST_P(DatabaseFileTest, FilesThatAreNoDatabaseAreNamedWithAdvice) {
  std::ofstream(path()) << std::string(5000, 'x');
  auto opened = Database::Open(path());
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(opened.error().message, HasSubstr(path().string()));
  EXPECT_THAT(opened.error().message, HasSubstr("restore it from a backup"));

  EXPECT_EQ(Database::Open(directory() / "no" / "such.db").error().code, ErrorCode::kNotFound);
  std::filesystem::create_directory(directory() / "dir");
  EXPECT_FALSE(Database::Open(directory() / "dir"));
}

// A page in the middle overwritten with noise: found when it is read, not a crash.
TEST_P(DatabaseFileTest, DamagedPageIsATypedError) {
  {
    auto database = Open();
    ASSERT_TRUE(database->Migrate("test", kItems));
    auto write = database->BeginWrite();
    for (int i = 0; i < 2000; ++i) {
      ASSERT_TRUE(
          write->Execute("INSERT INTO items VALUES ($1, $2)", {i, "name " + std::to_string(i)}));
    }
    ASSERT_TRUE(write->Commit());
  }
  const auto size = std::filesystem::file_size(path());
  ASSERT_GT(size, 20u * 4096);
  std::fstream file(path(), std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(3 * 4096);
  file << std::string(static_cast<size_t>(size) - 3 * 4096, '\xA5');
  file.close();
  auto database = Open();
  const Status status =
      database->ForEach("SELECT name FROM items ORDER BY id", {}, [](const Row&) {});
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kCorrupt) << status.error().message;
  EXPECT_THAT(status.error().message, HasSubstr(path().string()));
}

TEST_P(DatabaseFileTest, FileIsForItsOwnerOnly) {
  auto database = Open();
  ASSERT_TRUE(database->Migrate("test", kItems));
  for (const char* suffix : {"", "-wal", "-shm"}) {
    struct stat status{};
    ASSERT_EQ(::stat((path().string() + suffix).c_str(), &status), 0) << suffix;
    EXPECT_EQ(status.st_mode & 0777, 0600u) << suffix;
  }
}

// ---- Transactions ----------------------------------------------------------------------------

TEST_P(DatabaseTest, TransactionIsKeptByCommitOnly) {
  auto database = Open();
  ASSERT_TRUE(database->Migrate("test", kItems));
  {
    auto write = database->BeginWrite();
    ASSERT_TRUE(write);
    EXPECT_TRUE(write->Execute("INSERT INTO items VALUES (1, 'a')"));
    EXPECT_THAT(Names(*write), ElementsAre("a"));
    EXPECT_THAT(Names(*database), IsEmpty()) << "seen from outside before the commit";
  }
  EXPECT_THAT(Names(*database), IsEmpty());
  {
    auto write = database->BeginWrite();
    EXPECT_TRUE(write->Execute("INSERT INTO items VALUES (2, 'b')"));
    Transaction moved = std::move(*write);
    EXPECT_TRUE(moved.Execute("INSERT INTO items VALUES (3, 'c')"));
    EXPECT_TRUE(moved.Commit());
  }
  EXPECT_THAT(Names(*database), ElementsAre("b", "c"));
}

TEST_P(DatabaseTest, AnErrorUndoesTheWholeTransaction) {
  auto database = Open();
  ASSERT_TRUE(database->Migrate("test", kItems));
  auto write = database->BeginWrite();
  ASSERT_TRUE(write->Execute("INSERT INTO items VALUES (1, 'a')"));
  EXPECT_EQ(write->Execute("INSERT INTO items VALUES (1, 'b')").error().code,
            ErrorCode::kAlreadyExists);
  EXPECT_EQ(write->Execute("INSERT INTO items VALUES (2, 'b')").error().code,
            ErrorCode::kFailedPrecondition);
  EXPECT_EQ(write->Commit().error().code, ErrorCode::kFailedPrecondition);
  EXPECT_THAT(Names(*database), IsEmpty());
  EXPECT_TRUE(database->Execute("INSERT INTO items VALUES (1, 'a')")) << "the writer is free again";
}

TEST_P(DatabaseTest, ReadTransactionSeesOneCommit) {
  auto database = Open();
  ASSERT_TRUE(database->Migrate("test", kItems));
  ASSERT_TRUE(database->Execute("INSERT INTO items VALUES (1, 'a')"));
  auto read = database->BeginRead();
  ASSERT_TRUE(read);
  EXPECT_THAT(Names(*read), ElementsAre("a"));
  ASSERT_TRUE(database->Execute("INSERT INTO items VALUES (2, 'b')"));
  EXPECT_THAT(Names(*read), ElementsAre("a"));
  EXPECT_THAT(Names(*database), ElementsAre("a", "b"));
}

TEST_P(DatabaseTest, SecondWriterWaitsNoLongerThanItsTimeout) {
  auto database = Open({.busy_timeout = std::chrono::milliseconds(1)});
  auto other = Open({.busy_timeout = std::chrono::milliseconds(1)});  // as another process would
  ASSERT_TRUE(database->Migrate("test", kItems));
  auto write = database->BeginWrite();
  ASSERT_TRUE(write);
  EXPECT_EQ(database->BeginWrite().error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(other->BeginWrite().error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(other->Execute("INSERT INTO items VALUES (1, 'a')").error().code,
            ErrorCode::kUnavailable);
  EXPECT_THAT(Names(*other), IsEmpty());  // readers do not wait
  ASSERT_TRUE(write->Commit());
  EXPECT_TRUE(other->BeginWrite());
  EXPECT_TRUE(database->BeginWrite());
}

// Each writer adds to one counter in a transaction that reads it first: a lost update would show.
TEST_P(DatabaseTest, ManyThreadsReadAndWrite) {
  auto database = Open();
  ASSERT_TRUE(database->Execute("CREATE TABLE counter (n INTEGER NOT NULL)"));
  ASSERT_TRUE(database->Execute("INSERT INTO counter VALUES (0)"));
  constexpr int kThreads = 3;
  constexpr int kRounds = 40;
  std::atomic<bool> done = false;
  const auto count = [](Queries& queries) {
    return queries.QueryOne<int64_t>("SELECT n FROM counter", {},
                                     [](const Row& row) { return row.Int(0); });
  };
  std::vector<std::jthread> writers;
  for (int i = 0; i < kThreads; ++i) {
    writers.emplace_back([&] {
      for (int n = 0; n < kRounds; ++n) {
        auto write = database->BeginWrite();
        ASSERT_TRUE(write) << write.error().message;
        const auto now = count(*write);
        ASSERT_TRUE(now) << now.error().message;
        ASSERT_TRUE(write->Execute("UPDATE counter SET n = $1", {now->value_or(0) + 1}));
        ASSERT_TRUE(write->Commit());
      }
    });
  }
  std::vector<std::jthread> readers;
  for (int i = 0; i < kThreads; ++i) {
    readers.emplace_back([&] {
      int64_t last = 0;
      while (!done) {
        const auto now = count(*database);
        ASSERT_TRUE(now) << now.error().message;
        ASSERT_GE(now->value_or(-1), last);
        last = now->value_or(-1);
      }
    });
  }
  writers.clear();
  done = true;
  readers.clear();
  EXPECT_EQ(count(*database).value(), kThreads * kRounds);
}

// ---- Names that one process holds ------------------------------------------------------------

TEST_P(DatabaseTest, HeldNameIsGivenUpWithItsObject) {
  auto database = Open();
  for (int i = 0; i < 2; ++i) {
    auto lock = database->TryHold("canary");
    ASSERT_TRUE(lock) << lock.error().message;
    ASSERT_TRUE(*lock);
    NamedLock moved = *std::move(*lock);
    EXPECT_TRUE(moved.Held());
  }
}

// ---- Migrations ------------------------------------------------------------------------------

constexpr Migration kTwoSteps[] = {
    kItems[0],
    {"colours", "ALTER TABLE items ADD COLUMN colour TEXT; UPDATE items SET colour = 'red';"},
};

TEST_P(DatabaseTest, MigrationsRunOnceInOrderAndLater) {
  auto database = Open();
  EXPECT_EQ(database->SchemaVersion("test"), 0);
  ASSERT_TRUE(database->Migrate("test", kItems));
  ASSERT_TRUE(database->Migrate("test", kItems));
  EXPECT_EQ(database->SchemaVersion("test"), 1);
  ASSERT_TRUE(database->Execute("INSERT INTO items VALUES (1, 'a')"));
  database = Open();
  ASSERT_TRUE(database->Migrate("test", kTwoSteps));
  EXPECT_EQ(database->SchemaVersion("test"), 2);
  EXPECT_EQ(database->QueryOne<std::string>("SELECT colour FROM items", {},
                                            [](const Row& row) { return row.Text(0); }),
            "red");
}

TEST_P(DatabaseTest, ComponentsHaveTheirOwnVersions) {
  auto database = Open();
  ASSERT_TRUE(database->Migrate("test", kTwoSteps));
  constexpr Migration kOther[] = {{"other", "CREATE TABLE other (x INTEGER)"}};
  ASSERT_TRUE(database->Migrate("other", kOther));
  EXPECT_EQ(database->SchemaVersion("test"), 2);
  EXPECT_EQ(database->SchemaVersion("other"), 1);
}

TEST_P(DatabaseTest, FailedMigrationLeavesNothingBehind) {
  auto database = Open();
  constexpr Migration kBad[] = {
      kItems[0],
      {"bad step", "CREATE TABLE half (x INTEGER); INSERT INTO items VALUES (1, 'a'); NONSENSE;"},
  };
  const Status status = database->Migrate("test", kBad);
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().message, HasSubstr("migration 2 of 'test' (bad step)"));
  EXPECT_EQ(database->SchemaVersion("test"), 1);
  EXPECT_THAT(Names(*database), IsEmpty());
  EXPECT_FALSE(database->Execute("SELECT * FROM half"));
  // And the right second step can still come.
  EXPECT_TRUE(database->Migrate("test", kTwoSteps));
}

TEST_P(DatabaseTest, NewerTablesAreRefusedAndLeftAlone) {
  auto database = Open();
  ASSERT_TRUE(database->Migrate("test", kTwoSteps));
  const Status status = database->Migrate("test", kItems);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_THAT(status.error().message,
              HasSubstr("have version 2, and this Tandem knows them up to 1"));
  EXPECT_THAT(status.error().message, HasSubstr(postgres() ? "postgres on " : path().string()));
  EXPECT_EQ(database->SchemaVersion("test"), 2);
  EXPECT_TRUE(database->Execute("SELECT colour FROM items"));
}

TEST_P(DatabaseTest, TwoProcessesMayOpenAndMigrateAtOnce) {
  std::vector<std::jthread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      auto database = Open();
      const Status status = database->Migrate("test", kTwoSteps);
      EXPECT_TRUE(status) << status.error().message;
    });
  }
  threads.clear();
  EXPECT_EQ(Open()->SchemaVersion("test"), 2);
}

// ---- Crashes ---------------------------------------------------------------------------------

// A child commits one row, adds another in a transaction that it never finishes, and is killed
// there.
TEST_P(DatabaseTest, KilledProcessLosesItsOpenTransactionAndNothingElse) {
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // should this test crash
    auto database = Open();
    if (database == nullptr || !database->Migrate("test", kItems) ||
        !database->Execute("INSERT INTO items VALUES (1, 'kept')")) {
      ::_exit(1);
    }
    auto write = database->BeginWrite();
    if (!write || !write->Execute("INSERT INTO items VALUES (2, 'lost')")) ::_exit(2);
    if (::write(ready[1], "x", 1) != 1) ::_exit(3);
    for (;;) ::pause();
  }
  ::close(ready[1]);
  char byte = 0;
  EXPECT_EQ(::read(ready[0], &byte, 1), 1) << "the child failed before it was ready";
  ::close(ready[0]);
  {
    auto database = Open({.busy_timeout = std::chrono::milliseconds(1)});
    EXPECT_EQ(database->BeginWrite().error().code, ErrorCode::kUnavailable)
        << "the child's transaction is not open";
  }
  ::kill(child, SIGKILL);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status));

  auto database = Open();
  EXPECT_THAT(Names(*database), ElementsAre("kept"));
  EXPECT_TRUE(database->Execute("INSERT INTO items VALUES (2, 'after')"));
  if (postgres()) return;
  EXPECT_EQ(database->QueryOne<std::string>("PRAGMA integrity_check", {},
                                            [](const Row& row) { return row.Text(0); }),
            "ok");
}

// What `tandem keys revoke` does beside a running server: another process opens the database,
// writes and closes it, more than once, while this one has sessions open.
TEST_P(DatabaseFileTest, WritesOfAnotherProcessThatComesAndGoesAreSeen) {
  int go[2];
  int done[2];
  ASSERT_EQ(::pipe(go), 0);
  ASSERT_EQ(::pipe(done), 0);
  // Forked before this process opens anything: SQLite's state does not survive a fork.
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    for (int id = 1; id <= 3; ++id) {
      char byte = 0;
      if (::read(go[0], &byte, 1) != 1) ::_exit(1);
      auto database = Database::Open(path());
      if (!database ||
          !(*database)->Execute("INSERT INTO items VALUES ($1, $2)", {id, std::to_string(id)})) {
        ::_exit(2);
      }
      database->reset();
      if (::write(done[1], "x", 1) != 1) ::_exit(3);
    }
    ::_exit(0);
  }
  ::close(go[0]);
  ::close(done[1]);
  auto database = Open();
  ASSERT_TRUE(database->Migrate("test", kItems));
  for (size_t written = 1; written <= 3; ++written) {
    // Two readers at once, so that one is opened while others are open.
    auto reader = database->BeginRead();
    ASSERT_TRUE(reader);
    EXPECT_EQ(Names(*database).size(), written - 1);
    ASSERT_EQ(::write(go[1], "x", 1), 1);
    char byte = 0;
    ASSERT_EQ(::read(done[0], &byte, 1), 1) << "the child failed";
    EXPECT_EQ(Names(*database).size(), written);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  ::close(go[1]);
  ::close(done[0]);
}

}  // namespace
}  // namespace tandem::store
