// What a database must do to stand behind Database: one connection, used by one thread at a time.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "store/database.h"

namespace tandem::store {

// Errors: as at Queries. Begin, and Execute and ForEach outside of a transaction, connect anew
// where the connection was lost.
class Session {
 public:
  virtual ~Session() = default;

  // write: fails now, not at the first change, if another writer is busy.
  virtual Status Begin(bool write) = 0;
  virtual Status Commit() = 0;
  virtual void Rollback() = 0;  // does nothing where there is no transaction

  virtual Result<int64_t> Execute(std::string_view sql, std::span<const Value> params) = 0;
  virtual Status ForEach(std::string_view sql, std::span<const Value> params,
                         const std::function<void(const Row&)>& callback) = 0;
  // Statements separated by ';', without parameters.
  virtual Status ExecuteScript(std::string_view sql) = 0;
  virtual Result<bool> HasTable(std::string_view name) = 0;
  // For NamedLock. HoldsName: the connection that took the name is still there.
  virtual Result<bool> TryHoldName(std::string_view name) = 0;
  virtual bool HoldsName() = 0;
};

enum class Access { kRead, kReadWrite };

// Makes the file where there is none.
Result<std::unique_ptr<Session>> OpenSqliteSession(const std::filesystem::path& path, Access access,
                                                   const DatabaseOptions& options);

// What all connections to one PostgreSQL have in common.
class PostgresServer;
// Errors: kInvalidArgument.
Result<std::shared_ptr<PostgresServer>> MakePostgresServer(const SharedDatabase& where,
                                                           const DatabaseOptions& options);
// "tandem on db.example:5432", for messages.
const std::string& NameOf(const PostgresServer& server);
// Not connected yet.
std::unique_ptr<Session> MakePostgresSession(std::shared_ptr<PostgresServer> server, Access access);

}  // namespace tandem::store
