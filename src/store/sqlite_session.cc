#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <sqlite3.h>

#include "base/log.h"
#include "store/session.h"

namespace tandem::store {
namespace {

// Statements that are kept prepared. The rooms above use a few dozen fixed texts; a caller that
// makes texts of its own must not grow the cache without end.
constexpr size_t kMaxPrepared = 128;

ErrorCode CodeOf(int extended) {
  if (extended == SQLITE_CONSTRAINT_UNIQUE || extended == SQLITE_CONSTRAINT_PRIMARYKEY ||
      extended == SQLITE_CONSTRAINT_ROWID) {
    return ErrorCode::kAlreadyExists;
  }
  switch (extended & 0xFF) {
    case SQLITE_CONSTRAINT:
      return ErrorCode::kInvalidArgument;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return ErrorCode::kUnavailable;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return ErrorCode::kCorrupt;
    case SQLITE_FULL:
    case SQLITE_NOMEM:
      return ErrorCode::kResourceExhausted;
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
      return ErrorCode::kPermissionDenied;
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
      return ErrorCode::kIo;
    default:
      return ErrorCode::kInternal;
  }
}

std::string_view AdviceFor(ErrorCode code) {
  switch (code) {
    case ErrorCode::kCorrupt:
      return "; it is damaged or not a Tandem database: restore it from a backup, or move it away "
             "to "
             "start with an empty one";
    case ErrorCode::kUnavailable:
      return "; another process is writing to it: try again";
    case ErrorCode::kResourceExhausted:
      return "; free some disk space or memory";
    case ErrorCode::kPermissionDenied:
      return "; this user needs to read and write the file and its directory";
    default:
      return "";
  }
}

class SqliteSession final : public Session {
 public:
  SqliteSession(std::string path, sqlite3* db) : path_(std::move(path)), db_(db) {}
  ~SqliteSession() override {
    DropPrepared();
    sqlite3_close(db_);
  }

  Status Configure(Access access, const DatabaseOptions& options);

  Status Begin(bool write) override {
    return ExecuteScript(write ? "BEGIN IMMEDIATE" : "BEGIN DEFERRED");
  }
  Status Commit() override;
  void Rollback() override;
  Result<int64_t> Execute(std::string_view sql, std::span<const Value> params) override;
  Status ForEach(std::string_view sql, std::span<const Value> params,
                 const std::function<void(const Row&)>& callback) override;
  Status ExecuteScript(std::string_view sql) override;
  Result<bool> HasTable(std::string_view name) override;
  // A file is for one node.
  Result<bool> TryHoldName(std::string_view) override { return true; }
  bool HoldsName() override { return true; }

 private:
  std::unexpected<Error> DatabaseError() const;
  void DropPrepared();
  struct Prepared {
    sqlite3_stmt* statement = nullptr;
    std::vector<int> places;  // of $1, $2, ...; 0: there is none of that name
  };
  struct TextHash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  Result<sqlite3_stmt*> Prepare(std::string_view sql, std::span<const Value> params);
  Status Bind(const Prepared& prepared, std::string_view sql, std::span<const Value> params);

  const std::string path_;
  sqlite3* const db_;
  std::unordered_map<std::string, Prepared, TextHash, std::equal_to<>> prepared_;
};

std::unexpected<Error> SqliteSession::DatabaseError() const {
  const ErrorCode code = CodeOf(sqlite3_extended_errcode(db_));
  return Err(code, "database {}: {}{}", path_, sqlite3_errmsg(db_), AdviceFor(code));
}

void SqliteSession::DropPrepared() {
  for (auto& [sql, prepared] : prepared_) sqlite3_finalize(prepared.statement);
  prepared_.clear();
}

Status SqliteSession::Configure(Access access, const DatabaseOptions& options) {
  sqlite3_extended_result_codes(db_, 1);
  sqlite3_busy_timeout(db_, static_cast<int>(options.busy_timeout.count()));
  // Functions and tables that a damaged or foreign schema could misuse stay off.
  sqlite3_db_config(db_, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  sqlite3_db_config(db_, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  // The first statement that reads the file finds out whether it is a database at all.
  TANDEM_RETURN_IF_ERROR(ExecuteScript("PRAGMA journal_mode = WAL"));
  TANDEM_RETURN_IF_ERROR(ExecuteScript("PRAGMA synchronous = NORMAL"));
  TANDEM_RETURN_IF_ERROR(ExecuteScript("PRAGMA foreign_keys = ON"));
  if (access == Access::kReadWrite) return {};
  return ExecuteScript("PRAGMA query_only = ON");  // writes have their queue
}

Status SqliteSession::Commit() {
  if (sqlite3_get_autocommit(db_) != 0) {
    return Err(ErrorCode::kIo, "database {}: an error before had undone the transaction", path_);
  }
  return ExecuteScript("COMMIT");
}

void SqliteSession::Rollback() {
  if (sqlite3_get_autocommit(db_) != 0) return;
  if (const Status status = ExecuteScript("ROLLBACK"); !status) {
    log::Error("rollback failed: {}", status.error().message);
  }
}

Status SqliteSession::ExecuteScript(std::string_view sql) {
  if (sqlite3_exec(db_, std::string(sql).c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) {
    return DatabaseError();
  }
  return {};
}

Result<sqlite3_stmt*> SqliteSession::Prepare(std::string_view sql, std::span<const Value> params) {
  auto found = prepared_.find(sql);
  if (found == prepared_.end()) {
    std::string key(sql);
    if (prepared_.size() >= kMaxPrepared) DropPrepared();
    sqlite3_stmt* statement = nullptr;
    const char* rest = nullptr;
    if (sqlite3_prepare_v3(db_, key.c_str(), static_cast<int>(key.size() + 1),
                           SQLITE_PREPARE_PERSISTENT, &statement, &rest) != SQLITE_OK) {
      return DatabaseError();
    }
    if (statement == nullptr ||
        std::string_view(rest).find_first_not_of(" \t\r\n;") != std::string_view::npos) {
      sqlite3_finalize(statement);
      return Err(ErrorCode::kInternal, "not one SQL statement: {}", sql);
    }
    Prepared prepared{statement, {}};
    // To SQLite "$2" is a name that may come before "$1"; looked up once, not for each run.
    for (int i = 1; i <= sqlite3_bind_parameter_count(statement); ++i) {
      const std::string name = "$" + std::to_string(i);
      prepared.places.push_back(sqlite3_bind_parameter_index(statement, name.c_str()));
    }
    found = prepared_.emplace(std::move(key), std::move(prepared)).first;
  }
  TANDEM_RETURN_IF_ERROR(Bind(found->second, sql, params));
  return found->second.statement;
}

Status SqliteSession::Bind(const Prepared& prepared, std::string_view sql,
                           std::span<const Value> params) {
  if (prepared.places.size() != params.size()) {
    return Err(ErrorCode::kInternal, "{} parameters for {} places in: {}", params.size(),
               prepared.places.size(), sql);
  }
  for (size_t i = 0; i < params.size(); ++i) {
    const int index = prepared.places[i];
    if (index == 0) return Err(ErrorCode::kInternal, "no place for ${} in: {}", i + 1, sql);
    struct {
      sqlite3_stmt* statement;
      int index;
      int operator()(std::monostate) const { return sqlite3_bind_null(statement, index); }
      int operator()(int64_t value) const { return sqlite3_bind_int64(statement, index, value); }
      int operator()(double value) const { return sqlite3_bind_double(statement, index, value); }
      // Not copied: the parameters outlive the statement's run.
      int operator()(const std::string& value) const {
        return sqlite3_bind_text64(statement, index, value.data(), value.size(), SQLITE_STATIC,
                                   SQLITE_UTF8);
      }
      int operator()(const Blob& value) const {
        return sqlite3_bind_blob64(statement, index, value.bytes.data(), value.bytes.size(),
                                   SQLITE_STATIC);
      }
    } bind{prepared.statement, index};
    if (std::visit(bind, params[i].get()) != SQLITE_OK) return DatabaseError();
  }
  return {};
}

Status SqliteSession::ForEach(std::string_view sql, std::span<const Value> params,
                              const std::function<void(const Row&)>& callback) {
  TANDEM_ASSIGN_OR_RETURN(sqlite3_stmt* const statement, Prepare(sql, params));
  // A statement that is not reset keeps its locks; and the parameters are gone when we return.
  struct Reset {
    sqlite3_stmt* statement;
    ~Reset() {
      sqlite3_reset(statement);
      sqlite3_clear_bindings(statement);
    }
  } reset{statement};

  std::vector<Row::Column> columns(static_cast<size_t>(sqlite3_column_count(statement)));
  std::string type_error;
  int rc = SQLITE_OK;
  while ((rc = sqlite3_step(statement)) == SQLITE_ROW) {
    for (size_t i = 0; i < columns.size(); ++i) {
      const int column = static_cast<int>(i);
      const auto bytes = [&](const void* data) {
        return std::string_view(static_cast<const char*>(data),
                                static_cast<size_t>(sqlite3_column_bytes(statement, column)));
      };
      switch (sqlite3_column_type(statement, column)) {
        case SQLITE_INTEGER:
          columns[i] = {Row::Column::Type::kInt, sqlite3_column_int64(statement, column), 0, {}};
          break;
        case SQLITE_FLOAT:
          columns[i] = {Row::Column::Type::kReal, 0, sqlite3_column_double(statement, column), {}};
          break;
        case SQLITE_TEXT:
          columns[i] = {Row::Column::Type::kText, 0, 0,
                        bytes(sqlite3_column_text(statement, column))};
          break;
        case SQLITE_BLOB:
          columns[i] = {Row::Column::Type::kBlob, 0, 0,
                        bytes(sqlite3_column_blob(statement, column))};
          break;
        default:
          columns[i] = {};
          break;
      }
    }
    callback(Row(columns, &type_error));
    if (!type_error.empty()) {
      return Err(ErrorCode::kCorrupt, "database {}: {} in the result of: {}", path_, type_error,
                 sql);
    }
  }
  if (rc != SQLITE_DONE) return DatabaseError();
  return {};
}

Result<int64_t> SqliteSession::Execute(std::string_view sql, std::span<const Value> params) {
  const int64_t before = sqlite3_total_changes64(db_);
  TANDEM_RETURN_IF_ERROR(ForEach(sql, params, [](const Row&) {}));
  // A statement that changes no rows leaves sqlite3_changes as it was, so the totals tell.
  return sqlite3_total_changes64(db_) == before ? 0 : sqlite3_changes64(db_);
}

Result<bool> SqliteSession::HasTable(std::string_view name) {
  const Value params[] = {name};
  bool found = false;
  TANDEM_RETURN_IF_ERROR(ForEach("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = $1",
                                 params, [&](const Row&) { found = true; }));
  return found;
}

}  // namespace

Result<std::unique_ptr<Session>> OpenSqliteSession(const std::filesystem::path& path, Access access,
                                                   const DatabaseOptions& options) {
  // SQLite would make the file readable by all; it holds hashes of keys. Its -wal and -shm files
  // take the mode over. A file that is there must not be opened here: closing any descriptor of it
  // drops this process's POSIX locks on it, and another process that closes the database would then
  // delete the log under our open sessions (https://www.sqlite.org/howtocorrupt.html, 2.2).
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  int error = fd < 0 ? errno : 0;
  if (fd >= 0) ::close(fd);
  if (error == EEXIST) error = ::access(path.c_str(), R_OK | W_OK) == 0 ? 0 : errno;
  if (error == ENOENT || error == ENOTDIR) {
    return Err(ErrorCode::kNotFound, "cannot open database {}: its directory does not exist",
               path.string());
  }
  if (error == EACCES || error == EPERM || error == EROFS) {
    return Err(ErrorCode::kPermissionDenied, "cannot open database {}: {}{}", path.string(),
               std::generic_category().message(error), AdviceFor(ErrorCode::kPermissionDenied));
  }
  struct stat status{};
  if (error == 0 && ::stat(path.c_str(), &status) != 0) error = errno;
  if (error != 0) {
    return Err(ErrorCode::kIo, "cannot open database {}: {}", path.string(),
               std::generic_category().message(error));
  }
  if (!S_ISREG(status.st_mode)) {
    return Err(ErrorCode::kInvalidArgument, "cannot open database {}: not a regular file",
               path.string());
  }
  sqlite3* db = nullptr;
  const int rc =
      sqlite3_open_v2(path.c_str(), &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
  if (db == nullptr) return Err(ErrorCode::kResourceExhausted, "no memory to open a database");
  auto session = std::make_unique<SqliteSession>(path.string(), db);
  if (rc != SQLITE_OK) {
    const ErrorCode code = CodeOf(rc);
    return Err(code, "cannot open database {}: {}{}", path.string(), sqlite3_errmsg(db),
               AdviceFor(code));
  }
  TANDEM_RETURN_IF_ERROR(session->Configure(access, options));
  return session;
}

}  // namespace tandem::store
