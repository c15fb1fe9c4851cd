// Charter of store/: SQL behind one door: SQLite embedded in a file, or a PostgreSQL that several
// nodes share. It may include base and os; what the tables mean is for the rooms that make them. No
// type of a database library is shown.
//
// SQL is written so that both databases take it: parameters are $1, $2, ...; no vendor's functions;
// ON CONFLICT for what may be there already; ids come from the caller, not from the database; the
// types are TEXT, INTEGER, BIGINT, DOUBLE PRECISION and BLOB, and truth is 0 or 1. Sums of BIGINT
// are cast to BIGINT, since PostgreSQL's are wider. Texts are sorted by the database's collation.
#pragma once

#include <chrono>
#include <concepts>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/error.h"

namespace tandem::store {

struct Blob {
  std::string bytes;
};

// A parameter: NULL, integer, real, text or bytes. Converts from what callers have at hand.
class Value {
 public:
  using Variant = std::variant<std::monostate, int64_t, double, std::string, Blob>;

  Value(std::nullopt_t) {}
  template <std::integral T>
    requires(sizeof(T) < 8 || std::signed_integral<T>)  // an uint64_t might not fit
  Value(T value) : value_(static_cast<int64_t>(value)) {}
  Value(double value) : value_(value) {}
  Value(std::string value) : value_(std::move(value)) {}
  Value(std::string_view value) : value_(std::string(value)) {}
  Value(const char* value) : value_(std::string(value)) {}
  Value(Blob value) : value_(std::move(value)) {}
  template <typename T>
  Value(std::optional<T> value) {
    if (value) *this = Value(*std::move(value));
  }

  const Variant& get() const { return value_; }

 private:
  Variant value_;
};

// One row of a result, valid during the callback that it is given to. Columns count from 0. A
// column of another type than the one asked for, or a NULL that was not asked for with Optional...,
// gives an empty value and makes the query that is running fail with kCorrupt.
class Row {
 public:
  struct Column {
    enum class Type { kNull, kInt, kReal, kText, kBlob } type = Type::kNull;
    int64_t integer = 0;
    double real = 0;
    std::string_view bytes = {};
  };

  Row(std::span<const Column> columns, std::string* type_error)
      : columns_(columns), type_error_(type_error) {}

  int size() const { return static_cast<int>(columns_.size()); }
  bool IsNull(int column) const;
  int64_t Int(int column) const;
  bool Bool(int column) const { return Int(column) != 0; }
  double Real(int column) const;  // an integer column is converted
  std::string Text(int column) const;
  std::string Blob(int column) const;
  std::optional<int64_t> OptionalInt(int column) const;
  std::optional<double> OptionalReal(int column) const;
  std::optional<std::string> OptionalText(int column) const;

 private:
  const Column& At(int column, Column::Type type, std::string_view type_name) const;

  std::span<const Column> columns_;
  std::string* type_error_;  // the first error
};

class Session;

// What can be asked, in a transaction or of the database directly.
//   auto names = queries.Query<std::string>("SELECT name FROM keys WHERE owner = $1", {owner},
//                                           [](const Row& row) { return row.Text(0); });
// Errors of every call:
//   kAlreadyExists      a UNIQUE or PRIMARY KEY constraint
//   kInvalidArgument    another constraint (NOT NULL, CHECK, FOREIGN KEY)
//   kUnavailable        another writer held the database for longer than busy_timeout; or a shared
//                       database cannot be reached, or took longer than statement_timeout
//   kCorrupt            the database is damaged, or a column does not hold what it should
//   kResourceExhausted  the disk or memory is full
//   kPermissionDenied, kIo, kInternal (the SQL is wrong)
class Queries {
 public:
  using Params = std::initializer_list<Value>;

  virtual ~Queries() = default;

  // A statement without result rows. Returns how many rows it inserted, changed or deleted.
  virtual Result<int64_t> Execute(std::string_view sql, std::span<const Value> params) = 0;
  Result<int64_t> Execute(std::string_view sql, Params params = {}) {
    return Execute(sql, std::span(params.begin(), params.size()));
  }

  // Calls for each row of a result, as it comes. The callback must not use the same transaction.
  // Where a shared database is lost in the middle, rows were given before the error.
  virtual Status ForEach(std::string_view sql, std::span<const Value> params,
                         const std::function<void(const Row&)>& callback) = 0;
  Status ForEach(std::string_view sql, Params params,
                 const std::function<void(const Row&)>& callback) {
    return ForEach(sql, std::span(params.begin(), params.size()), callback);
  }

  // All rows, each made a T.
  template <typename T, typename Read>
  Result<std::vector<T>> Query(std::string_view sql, Params params, Read read) {
    std::vector<T> all;
    TANDEM_RETURN_IF_ERROR(ForEach(sql, params, [&](const Row& row) { all.push_back(read(row)); }));
    return all;
  }

  // The first row; nothing where there is none.
  template <typename T, typename Read>
  Result<std::optional<T>> QueryOne(std::string_view sql, Params params, Read read) {
    std::optional<T> first;
    TANDEM_RETURN_IF_ERROR(ForEach(sql, params, [&](const Row& row) {
      if (!first) first = read(row);
    }));
    return first;
  }
};

class Database;

// Rolled back unless Commit succeeds. An error of any statement ends it: what follows, Commit too,
// gives kFailedPrecondition. Thread: one at a time. Must not outlive its Database.
class Transaction final : public Queries {
 public:
  Transaction(Transaction&& other) noexcept;
  Transaction& operator=(Transaction&&) = delete;
  ~Transaction() override;

  using Queries::Execute;
  using Queries::ForEach;
  Result<int64_t> Execute(std::string_view sql, std::span<const Value> params) override;
  Status ForEach(std::string_view sql, std::span<const Value> params,
                 const std::function<void(const Row&)>& callback) override;

  // Makes it durable against a crash of this process; against a power cut, the last few
  // transactions may be undone as a whole (SQLite's synchronous=NORMAL). On an error nothing is
  // kept, with one exception that no client of a server can avoid: where a shared database is lost
  // during the commit (kUnavailable), nobody knows. To be called once, last.
  Status Commit();

 private:
  friend class Database;
  Transaction(Database* database, std::unique_ptr<Session> session, bool write);
  Status CheckUsable() const;

  Database* database_;
  std::unique_ptr<Session> session_;  // null once it is over
  bool write_;
  bool failed_ = false;
};

// A name that one of the processes sharing a database holds: the one that decides. Given up when
// destroyed, and lost with the connection to the database. Thread: one at a time. Must not outlive
// its Database.
class NamedLock {
 public:
  NamedLock(NamedLock&&) noexcept;
  NamedLock& operator=(NamedLock&&) = delete;
  ~NamedLock();

  // Asks the database. False for ever once it was.
  bool Held();

 private:
  friend class Database;
  explicit NamedLock(std::unique_ptr<Session> session);
  std::unique_ptr<Session> session_;  // null once it is lost
};

// One step of a schema's history. Never edited once released: a new step follows instead.
struct Migration {
  std::string_view name;
  std::string_view sql;  // one or more statements, without BEGIN and COMMIT
};

struct DatabaseOptions {
  std::chrono::milliseconds busy_timeout{5000};  // to wait for another writer
  // Of a shared database only: how long one statement may take; and how long it counts as lost
  // after it could not be reached, so that nobody else waits for it meanwhile.
  std::chrono::milliseconds statement_timeout{30'000};
  std::chrono::milliseconds reconnect_delay{1000};
};

// Where a PostgreSQL is.
struct SharedDatabase {
  // "postgresql://USER@HOST:PORT/DATABASE?sslmode=verify-full&sslrootcert=FILE", as libpq takes it.
  std::string url;
  std::string password = {};  // wins over the URL's; empty: the URL's, PGPASSWORD or ~/.pgpass
};

// Whether it is a URL of a PostgreSQL that holds no password: what a configuration may have.
// Errors: kInvalidArgument; the message repeats nothing of the URL.
Status CheckSharedUrl(std::string_view url);

// Thread: any. One write at a time, in this process by a queue and among processes by the
// database's lock; reads run beside it and see the last commit. A trade: where writers of several
// nodes could run side by side, they wait for each other too, and nobody ever has to repeat a
// transaction that lost a race.
class Database final : public Queries {
 public:
  // Opens an SQLite file, and makes it (mode 0600) where there is none.
  // Errors: kNotFound no such directory, kPermissionDenied, kCorrupt the file is not a database or
  // is damaged, kIo.
  static Result<std::unique_ptr<Database>> Open(const std::filesystem::path& path,
                                                DatabaseOptions options = {});
  // Connects to a PostgreSQL (12 or newer, encoding UTF8), which several nodes may share. A
  // connection that is lost later is made anew when it is next needed. Text that is not UTF-8, and
  // NUL in a text, which PostgreSQL has not, are stored as U+FFFD.
  // Errors: kInvalidArgument for the URL; kUnavailable, kPermissionDenied, kNotFound for no such
  // database, kFailedPrecondition for its version or encoding. No message has the password.
  static Result<std::unique_ptr<Database>> Connect(const SharedDatabase& where,
                                                   DatabaseOptions options = {});
  ~Database() override;
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  // Brings the tables of one component ("auth", "usage") to the newest of `migrations`, each step
  // in a transaction of its own; steps that were done before are skipped. Version n is the n-th
  // step. Errors: kFailedPrecondition the tables are newer than `migrations`, so this is an older
  // Tandem; nothing is changed then.
  Status Migrate(std::string_view component, std::span<const Migration> migrations);
  // The version that Migrate left; 0 before the first.
  Result<int> SchemaVersion(std::string_view component);

  // Waits for other writers, at most busy_timeout: then kUnavailable. A thread that writes already
  // must not ask for a second one.
  Result<Transaction> BeginWrite();
  // A view of one commit, whatever is written meanwhile.
  Result<Transaction> BeginRead();

  // Nothing where another process that shares the database holds the name. A file is for one node:
  // there the answer is always yes. Cost: a connection of its own while it is held.
  Result<std::optional<NamedLock>> TryHold(std::string_view name);
  // Whether other nodes may be using it too.
  bool shared() const;

  // One statement in a transaction of its own.
  using Queries::Execute;
  using Queries::ForEach;
  Result<int64_t> Execute(std::string_view sql, std::span<const Value> params) override;
  Status ForEach(std::string_view sql, std::span<const Value> params,
                 const std::function<void(const Row&)>& callback) override;

 private:
  friend class Transaction;
  struct Impl;
  explicit Database(std::unique_ptr<Impl> impl);
  Result<std::unique_ptr<Session>> TakeWriter();
  Result<std::unique_ptr<Session>> TakeReader();
  void GiveBack(std::unique_ptr<Session> session, bool write);

  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem::store
