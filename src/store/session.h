// What a database must do to stand behind Database: one connection, used by one thread at a time.
// A second implementation (PostgreSQL) is one more file like sqlite_session.cc.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include "base/error.h"
#include "store/database.h"

namespace tandem::store {

// Errors: as at Queries.
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
};

enum class Access { kRead, kReadWrite };

// Makes the file where there is none.
Result<std::unique_ptr<Session>> OpenSqliteSession(const std::filesystem::path& path, Access access,
                                                   const DatabaseOptions& options);

}  // namespace tandem::store
