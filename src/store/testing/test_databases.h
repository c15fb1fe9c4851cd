// Tests that run on every kind of database:
//
//   class LedgerTest : public store::DatabaseTestOf { ... Open() ... };
//   INSTANTIATE_TEST_SUITE_P(Databases, LedgerTest, store::AllDatabases(), store::DatabaseName);
//   TEST_P(LedgerTest, ...)
//
// A PostgreSQL is started once for a test program, and each test has an empty schema in it. Where
// none is installed the test is skipped; ./dev setup test installs it.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "store/database.h"
#include "store/testing/postgres_server.h"

namespace tandem::store {

enum class DatabaseKind { kSqlite, kPostgres };

inline auto AllDatabases() {
  return ::testing::Values(DatabaseKind::kSqlite, DatabaseKind::kPostgres);
}
inline std::string DatabaseName(const ::testing::TestParamInfo<DatabaseKind>& info) {
  return info.param == DatabaseKind::kSqlite ? "Sqlite" : "Postgres";
}

// The one of this program; null where PostgreSQL is not installed.
PostgresServerProcess* SharedTestServer();

// The URL of a new, empty schema there; empty where PostgreSQL is not installed.
std::string NewTestSchema();

class DatabaseTestOf : public ::testing::TestWithParam<DatabaseKind> {
 protected:
  void SetUp() override;
  void TearDown() override;

  bool postgres() const { return GetParam() == DatabaseKind::kPostgres; }
  // Each call is as another process would open it. The same tables for all of one test.
  std::unique_ptr<Database> Open(DatabaseOptions options = {});
  // The file, or the server: for what only one kind can do.
  std::filesystem::path directory() const { return directory_; }
  std::filesystem::path path() const { return directory_ / "test.db"; }
  std::string url() const { return url_; }

 private:
  std::filesystem::path directory_;
  std::string url_;
};

}  // namespace tandem::store
