#include "store/testing/test_databases.h"

#include <cstdlib>

#include <fmt/format.h>

namespace tandem::store {

PostgresServerProcess* SharedTestServer() {
  static const std::unique_ptr<PostgresServerProcess> server = PostgresServerProcess::Start();
  return server.get();
}

std::string NewTestSchema() {
  const PostgresServerProcess* const server = SharedTestServer();
  if (server == nullptr) return "";
  static int n_schemas = 0;
  const std::string schema = fmt::format("test_{}", ++n_schemas);
  const auto outside = Database::Connect({.url = server->Url("public")});
  EXPECT_TRUE(outside) << outside.error().message;
  if (!outside) return "";
  const auto made = (*outside)->Execute("CREATE SCHEMA " + schema);
  EXPECT_TRUE(made) << made.error().message;
  return server->Url(schema);
}

void DatabaseTestOf::SetUp() {
  std::string name = (std::filesystem::temp_directory_path() / "tandem_store_XXXXXX").string();
  ASSERT_NE(::mkdtemp(name.data()), nullptr);
  directory_ = name;
  if (!postgres()) return;
  url_ = NewTestSchema();
  if (url_.empty()) GTEST_SKIP() << "no PostgreSQL is installed; ./dev setup test installs it";
}

void DatabaseTestOf::TearDown() {
  std::error_code error;
  std::filesystem::remove_all(directory_, error);
}

std::unique_ptr<Database> DatabaseTestOf::Open(DatabaseOptions options) {
  options.reconnect_delay = std::chrono::milliseconds(0);
  auto database =
      postgres() ? Database::Connect({.url = url_}, options) : Database::Open(path(), options);
  EXPECT_TRUE(database) << database.error().message;
  return database ? std::move(*database) : nullptr;
}

}  // namespace tandem::store
