#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <limits>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <libpq-fe.h>

#include "base/log.h"
#include "base/utf8.h"
#include "store/session.h"

namespace tandem::store {
namespace {

using Clock = std::chrono::steady_clock;

// As in sqlite_session.cc: the rooms above use a few dozen fixed texts, each with a few patterns of
// NULL among its parameters.
constexpr size_t kMaxPrepared = 256;
constexpr int kMinServerVersion = 120'000;
// A server that is gone without a word is noticed after so long; of both directions.
constexpr std::string_view kTcpTimeoutMs = "5000";
constexpr std::string_view kConnectTimeoutSeconds = "3";
constexpr std::chrono::seconds kAttempt{4};  // longer than that
// Of a node that stands still in the middle of a transaction, which the others wait for.
constexpr std::string_view kIdleInTransaction = "60s";
// "tndm", so that other users of the same database's advisory locks are not met.
constexpr int kLockSpace = 0x746E646D;

// The types of pg_type.dat that are sent or read; they never change.
enum Oid : ::Oid {
  kUnknown = 0,  // the server finds out
  kBool = 16,
  kBytea = 17,
  kInt8 = 20,
  kInt2 = 21,
  kInt4 = 23,
  kText = 25,
  kFloat4 = 700,
  kFloat8 = 701,
  kNumeric = 1700,
};

struct FreeResult {
  void operator()(PGresult* result) const { PQclear(result); }
};
using PgResult = std::unique_ptr<PGresult, FreeResult>;
struct FreeConnection {
  void operator()(PGconn* connection) const { PQfinish(connection); }
};
using Connection = std::unique_ptr<PGconn, FreeConnection>;

ErrorCode CodeOf(std::string_view sqlstate) {
  if (sqlstate == "23505") return ErrorCode::kAlreadyExists;
  if (sqlstate == "55P03" || sqlstate == "57014" || sqlstate == "53300") {
    return ErrorCode::kUnavailable;  // lock not available, time is up, too many connections
  }
  if (sqlstate == "08P01") return ErrorCode::kInternal;  // too few parameters
  if (sqlstate == "25006" || sqlstate == "42501") return ErrorCode::kPermissionDenied;
  if (sqlstate == "3D000") return ErrorCode::kNotFound;
  if (sqlstate == "XX001" || sqlstate == "XX002") return ErrorCode::kCorrupt;
  const std::string_view kind = sqlstate.substr(0, 2);
  if (kind == "22" || kind == "23") return ErrorCode::kInvalidArgument;
  // A connection; a transaction that lost a race; a server that stops or starts.
  if (kind == "08" || kind == "40" || kind == "57") return ErrorCode::kUnavailable;
  if (kind == "28") return ErrorCode::kPermissionDenied;
  if (kind == "53") return ErrorCode::kResourceExhausted;
  if (kind == "58") return ErrorCode::kIo;
  return ErrorCode::kInternal;
}

std::string_view AdviceFor(ErrorCode code) {
  switch (code) {
    case ErrorCode::kCorrupt:
      return "; it is damaged: restore it from a backup";
    case ErrorCode::kResourceExhausted:
      return "; free some disk space or memory on its server";
    case ErrorCode::kPermissionDenied:
      return "; check the user, the password, and what it is granted";
    case ErrorCode::kNotFound:
      return "; make it with createdb";
    default:
      return "";
  }
}

// libpq's messages end in a line break and may have several lines.
std::string OneLine(std::string_view text) {
  std::string line;
  for (const char c : text) line += c == '\n' || c == '\t' ? ' ' : c;
  while (!line.empty() && line.back() == ' ') line.pop_back();
  return line;
}

bool IsPostgresUrl(std::string_view url) {
  return url.starts_with("postgresql://") || url.starts_with("postgres://");
}

// The parts of a URL by libpq's names. Nothing where it is none: what libpq says about it could
// hold a piece of a password.
std::optional<std::unordered_map<std::string, std::string>> ParseUrl(std::string_view url) {
  if (!IsPostgresUrl(url) || url.find('\0') != url.npos) return std::nullopt;
  char* message = nullptr;
  PQconninfoOption* const options = PQconninfoParse(std::string(url).c_str(), &message);
  PQfreemem(message);
  if (options == nullptr) return std::nullopt;
  std::unordered_map<std::string, std::string> parts;
  for (const PQconninfoOption* option = options; option->keyword != nullptr; ++option) {
    if (option->val != nullptr) parts[option->keyword] = option->val;
  }
  PQconninfoFree(options);
  return parts;
}

std::unexpected<Error> NotAUrl() {
  return Err(ErrorCode::kInvalidArgument,
             "is no URL of a PostgreSQL; write postgresql://USER@HOST:PORT/DATABASE, and what has "
             "a special meaning in a URL as %XX");
}

}  // namespace

// Thread: any.
class PostgresServer {
 public:
  PostgresServer(SharedDatabase where, DatabaseOptions options, std::string name)
      : where_(std::move(where)), options_(options), name_(std::move(name)) {}

  const std::string& name() const { return name_; }
  const DatabaseOptions& options() const { return options_; }

  // Errors: as at Database::Connect; at once where the last attempt failed a moment ago.
  Result<Connection> Connect();

 private:
  Result<Connection> TryConnect() const;

  const SharedDatabase where_;
  const DatabaseOptions options_;
  const std::string name_;
  std::mutex mutex_;         // guards both below
  Clock::time_point retry_;  // not before
  std::optional<Error> lost_;
};

Result<Connection> PostgresServer::Connect() {
  {
    std::lock_guard lock(mutex_);
    if (lost_ && Clock::now() < retry_) return std::unexpected(*lost_);
    // One tries; a host that does not answer must not keep every thread waiting.
    if (lost_) retry_ = Clock::now() + kAttempt;
  }
  Result<Connection> connection = TryConnect();
  std::lock_guard lock(mutex_);
  if (connection) {
    if (lost_) log::Info("database {} is there again", name_);
    lost_.reset();
  } else {
    if (!lost_) log::Warning("{}", connection.error().message);
    lost_ = connection.error();
    retry_ = Clock::now() + options_.reconnect_delay;
  }
  return connection;
}

Result<Connection> PostgresServer::TryConnect() const {
  // Of two with the same name the later one counts, so the URL stands in the middle.
  std::vector<const char*> names{"connect_timeout", "tcp_user_timeout", "keepalives_idle",
                                 "fallback_application_name", "dbname"};
  std::vector<const char*> values{kConnectTimeoutSeconds.data(), kTcpTimeoutMs.data(), "10",
                                  "tandem", where_.url.c_str()};
  names.push_back("client_encoding");
  values.push_back("UTF8");
  if (!where_.password.empty()) {
    names.push_back("password");
    values.push_back(where_.password.c_str());
  }
  names.push_back(nullptr);
  values.push_back(nullptr);
  Connection connection(PQconnectdbParams(names.data(), values.data(), /*expand_dbname=*/1));
  if (connection == nullptr) return Err(ErrorCode::kResourceExhausted, "no memory to connect");
  if (PQstatus(connection.get()) != CONNECTION_OK) {
    const std::string text = OneLine(PQerrorMessage(connection.get()));
    // There is no result to ask for a code.
    ErrorCode code = ErrorCode::kUnavailable;
    if (text.contains("does not exist")) code = ErrorCode::kNotFound;
    if (text.contains("authentication failed") || text.contains("no password supplied") ||
        text.contains("pg_hba.conf") || text.contains("role \"")) {
      code = ErrorCode::kPermissionDenied;
    }
    return Err(code, "database {}: {}{}", name_, text, AdviceFor(code));
  }
  if (PQserverVersion(connection.get()) < kMinServerVersion) {
    return Err(ErrorCode::kFailedPrecondition, "database {}: PostgreSQL 12 or newer is needed",
               name_);
  }
  const char* const encoding = PQparameterStatus(connection.get(), "server_encoding");
  if (encoding == nullptr || std::string_view(encoding) != "UTF8") {
    return Err(ErrorCode::kFailedPrecondition,
               "database {}: its encoding is {}; make it with ENCODING 'UTF8'", name_,
               encoding == nullptr ? "unknown" : encoding);
  }
  return connection;
}

namespace {

class PostgresSession final : public Session {
 public:
  PostgresSession(std::shared_ptr<PostgresServer> server, Access access)
      : server_(std::move(server)), access_(access) {}

  Status Begin(bool write) override;
  Status Commit() override;
  void Rollback() override;
  Result<int64_t> Execute(std::string_view sql, std::span<const Value> params) override;
  Status ForEach(std::string_view sql, std::span<const Value> params,
                 const std::function<void(const Row&)>& callback) override;
  Status ExecuteScript(std::string_view sql) override;
  Result<bool> HasTable(std::string_view name) override;
  Result<bool> TryHoldName(std::string_view name) override;
  bool HoldsName() override;

 private:
  // A statement with its parameters in the form that libpq takes.
  struct Bound {
    std::vector<::Oid> types;
    std::vector<std::string> texts;  // owns what is not in the parameters as it is
    std::vector<const char*> values;
    std::vector<int> lengths;
    std::vector<int> formats;
  };

  bool lost() const {
    return connection_ == nullptr || broken_ || PQstatus(connection_.get()) == CONNECTION_BAD;
  }
  bool in_transaction() const { return PQtransactionStatus(connection_.get()) != PQTRANS_IDLE; }
  Status EnsureConnected();
  // Of the statement that was just run; notes where the connection is of no more use.
  std::unexpected<Error> ErrorOf(const PGresult* result);
  Status Run(const std::string& sql);
  static Bound Bind(std::span<const Value> params);
  Result<std::string> Prepare(std::string_view sql, const Bound& bound);
  Status ReadRow(const PGresult* result, std::string_view sql,
                 const std::function<void(const Row&)>& callback);
  // `n_changed` may be null; of a statement that changed rows, how many.
  Status RunPrepared(std::string_view sql, std::span<const Value> params,
                     const std::function<void(const Row&)>& callback, int64_t* n_changed);

  const std::shared_ptr<PostgresServer> server_;
  const Access access_;
  Connection connection_;
  bool broken_ = false;
  std::unordered_map<std::string, std::string> prepared_;  // names, by types and text
  uint64_t n_prepared_ = 0;                                // ever, so that names are new
};

// Of the server's message its first line only: the details may show what rows hold.
std::unexpected<Error> PostgresSession::ErrorOf(const PGresult* result) {
  const char* const sqlstate =
      result == nullptr ? nullptr : PQresultErrorField(result, PG_DIAG_SQLSTATE);
  // What libpq itself says, not the server, is that they cannot talk any more; and a server that
  // ends a connection says so as 57P01 to 57P03 or 57P05 first.
  if (sqlstate == nullptr || std::string_view(sqlstate).starts_with("57P")) {
    broken_ = true;
    std::string_view text(sqlstate == nullptr
                              ? PQerrorMessage(connection_.get())
                              : PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY));
    return Err(ErrorCode::kUnavailable, "database {}: the connection was lost: {}", server_->name(),
               text.substr(0, text.find('\n')));
  }
  const ErrorCode code = CodeOf(sqlstate);
  const char* const text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  return Err(code, "database {}: {}{}", server_->name(), OneLine(text == nullptr ? sqlstate : text),
             AdviceFor(code));
}

Status PostgresSession::EnsureConnected() {
  if (!lost()) return {};
  prepared_.clear();
  connection_.reset();
  broken_ = false;
  TANDEM_ASSIGN_OR_RETURN(connection_, server_->Connect());
  PQsetNoticeReceiver(connection_.get(), [](void*, const PGresult*) {}, nullptr);
  const DatabaseOptions& options = server_->options();
  return Run(fmt::format(
      "SET lock_timeout = {}; SET statement_timeout = {}; "
      "SET idle_in_transaction_session_timeout = '{}'; SET standard_conforming_strings = on; "
      "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; "
      "SET tcp_keepalives_count = 3; SET default_transaction_read_only = {}",
      options.busy_timeout.count(), options.statement_timeout.count(), kIdleInTransaction,
      access_ == Access::kRead ? "on" : "off"));
}

// Statements without rows or parameters.
Status PostgresSession::Run(const std::string& sql) {
  const PgResult result(PQexec(connection_.get(), sql.c_str()));
  const ExecStatusType status = PQresultStatus(result.get());
  if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) return ErrorOf(result.get());
  return {};
}

// Writers of all nodes take turns; see Database. Where search_path names nothing that is there, the
// first statement will say so.
Status PostgresSession::Begin(bool write) {
  const std::string sql =
      write ? fmt::format(
                  "BEGIN ISOLATION LEVEL READ COMMITTED; "
                  "SELECT pg_advisory_xact_lock({}, hashtext(coalesce(current_schema(), "
                  "'')))",
                  kLockSpace)
            : std::string("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
  const bool fresh = lost();
  TANDEM_RETURN_IF_ERROR(EnsureConnected());
  Status begun = Run(sql);
  // A connection that broke while it lay idle says so only now. Nothing was done yet.
  if (!begun && lost() && !fresh) {
    TANDEM_RETURN_IF_ERROR(EnsureConnected());
    begun = Run(sql);
  }
  if (begun) return {};
  Rollback();
  if (begun.error().code == ErrorCode::kUnavailable && !lost()) {
    return Err(ErrorCode::kUnavailable, "database {}: another write took longer than {} ms",
               server_->name(), server_->options().busy_timeout.count());
  }
  return begun;
}

Status PostgresSession::Commit() {
  const PgResult result(PQexec(connection_.get(), "COMMIT"));
  if (PQresultStatus(result.get()) != PGRES_COMMAND_OK) return ErrorOf(result.get());
  // To commit a transaction that failed is to undo it, which the server says only here.
  if (std::string_view(PQcmdStatus(result.get())) != "COMMIT") {
    return Err(ErrorCode::kFailedPrecondition,
               "database {}: an error before had undone the transaction", server_->name());
  }
  return {};
}

void PostgresSession::Rollback() {
  if (lost() || !in_transaction()) return;
  if (const Status status = Run("ROLLBACK"); !status) {
    log::Error("rollback failed: {}", status.error().message);
    connection_.reset();  // nobody knows what it is in the middle of
  }
}

PostgresSession::Bound PostgresSession::Bind(std::span<const Value> params) {
  Bound bound;
  bound.texts.reserve(params.size());  // values point into it
  const auto add = [&](::Oid type, const std::string* text, int format) {
    bound.types.push_back(type);
    bound.values.push_back(text == nullptr ? nullptr : text->data());
    bound.lengths.push_back(text == nullptr ? 0 : static_cast<int>(text->size()));
    bound.formats.push_back(format);
  };
  for (const Value& value : params) {
    const auto own = [&](std::string text) { return &bound.texts.emplace_back(std::move(text)); };
    if (const auto* integer = std::get_if<int64_t>(&value.get())) {
      add(kInt8, own(std::to_string(*integer)), 0);
    } else if (const auto* real = std::get_if<double>(&value.get())) {
      add(kFloat8, own(fmt::format("{}", *real)), 0);
    } else if (const auto* text = std::get_if<std::string>(&value.get())) {
      const bool fits = text->find('\0') == text->npos && utf8::IsValid(*text);
      add(kText, fits ? text : own(utf8::Sanitize(*text)), 0);
      if (fits) continue;
      std::string& stored = bound.texts.back();
      for (size_t nul = 0; (nul = stored.find('\0', nul)) != stored.npos;) {
        stored.replace(nul, 1, "\xEF\xBF\xBD");
      }
      bound.values.back() = stored.data();
      bound.lengths.back() = static_cast<int>(stored.size());
    } else if (const auto* blob = std::get_if<Blob>(&value.get())) {
      add(kBytea, &blob->bytes, 1);
    } else {
      add(kUnknown, nullptr, 0);
    }
  }
  return bound;
}

Result<std::string> PostgresSession::Prepare(std::string_view sql, const Bound& bound) {
  // Which parameters are NULL, and so have no type, differs from call to call.
  std::string key;
  for (const ::Oid type : bound.types) key += fmt::format("{},", type);
  key += sql;
  if (const auto found = prepared_.find(key); found != prepared_.end()) return found->second;
  for (size_t i = 1; i <= bound.types.size(); ++i) {
    if (sql.find(fmt::format("${}", i)) == sql.npos) {
      return Err(ErrorCode::kInternal, "no place for ${} in: {}", i, sql);
    }
  }
  // A transaction that failed would refuse this too; it does no harm that the old ones stay then.
  if (prepared_.size() >= kMaxPrepared && Run("DEALLOCATE ALL")) prepared_.clear();
  std::string name = fmt::format("s{}", n_prepared_++);
  const PgResult result(PQprepare(connection_.get(), name.c_str(), std::string(sql).c_str(),
                                  static_cast<int>(bound.types.size()), bound.types.data()));
  if (PQresultStatus(result.get()) != PGRES_COMMAND_OK) return ErrorOf(result.get());
  prepared_.emplace(std::move(key), name);
  return name;
}

Status PostgresSession::ReadRow(const PGresult* result, std::string_view sql,
                                const std::function<void(const Row&)>& callback) {
  const int n_columns = PQnfields(result);
  std::vector<Row::Column> columns(static_cast<size_t>(n_columns));
  struct FreeBytes {
    void operator()(unsigned char* bytes) const { PQfreemem(bytes); }
  };
  std::vector<std::unique_ptr<unsigned char, FreeBytes>> blobs;
  for (int i = 0; i < n_columns; ++i) {
    Row::Column& column = columns[static_cast<size_t>(i)];
    if (PQgetisnull(result, 0, i) != 0) continue;
    const std::string_view text(PQgetvalue(result, 0, i),
                                static_cast<size_t>(PQgetlength(result, 0, i)));
    switch (PQftype(result, i)) {
      case kBool:
        column = {.type = Row::Column::Type::kInt, .integer = text == "t" ? 1 : 0};
        break;
      case kInt2:
      case kInt4:
      case kInt8:
        column.type = Row::Column::Type::kInt;
        std::from_chars(text.data(), text.data() + text.size(), column.integer);
        break;
      case kFloat4:
      case kFloat8:
      case kNumeric:
        column.type = Row::Column::Type::kReal;
        if (text == "NaN") {
          column.real = std::numeric_limits<double>::quiet_NaN();
        } else {
          std::from_chars(text.data(), text.data() + text.size(), column.real);  // takes Infinity
        }
        break;
      case kBytea: {
        size_t size = 0;
        blobs.emplace_back(PQunescapeBytea(
            reinterpret_cast<const unsigned char*>(PQgetvalue(result, 0, i)), &size));
        if (blobs.back() == nullptr) {
          return Err(ErrorCode::kResourceExhausted, "no memory for a row");
        }
        column = {.type = Row::Column::Type::kBlob,
                  .bytes = {reinterpret_cast<const char*>(blobs.back().get()), size}};
        break;
      }
      default:
        column = {.type = Row::Column::Type::kText, .bytes = text};
        break;
    }
  }
  std::string type_error;
  callback(Row(columns, &type_error));
  if (type_error.empty()) return {};
  return Err(ErrorCode::kCorrupt, "database {}: {} in the result of: {}", server_->name(),
             type_error, sql);
}

Status PostgresSession::RunPrepared(std::string_view sql, std::span<const Value> params,
                                    const std::function<void(const Row&)>& callback,
                                    int64_t* n_changed) {
  const Bound bound = Bind(params);
  TANDEM_ASSIGN_OR_RETURN(const std::string name, Prepare(sql, bound));
  // Row by row: a result may be larger than the memory that there is for it.
  if (PQsendQueryPrepared(connection_.get(), name.c_str(), static_cast<int>(bound.values.size()),
                          bound.values.data(), bound.lengths.data(), bound.formats.data(),
                          /*resultFormat=*/0) != 1) {
    return ErrorOf(nullptr);
  }
  PQsetSingleRowMode(connection_.get());
  Status status;
  while (PGresult* const next = PQgetResult(connection_.get())) {
    const PgResult result(next);
    if (!status) continue;  // the rest is thrown away
    switch (PQresultStatus(next)) {
      case PGRES_SINGLE_TUPLE:
        status = ReadRow(next, sql, callback);
        break;
      case PGRES_TUPLES_OK:
      case PGRES_COMMAND_OK: {
        const std::string_view count(PQcmdTuples(next));
        const bool changes = !std::string_view(PQcmdStatus(next)).starts_with("SELECT");
        if (n_changed != nullptr && changes) {
          std::from_chars(count.data(), count.data() + count.size(), *n_changed);
        }
        break;
      }
      case PGRES_EMPTY_QUERY:
        status = Err(ErrorCode::kInternal, "not one SQL statement: {}", sql);
        break;
      default:
        status = ErrorOf(next);
        break;
    }
  }
  return status;
}

Status PostgresSession::ForEach(std::string_view sql, std::span<const Value> params,
                                const std::function<void(const Row&)>& callback) {
  if (!lost() && in_transaction()) return RunPrepared(sql, params, callback, nullptr);
  const bool fresh = lost();
  TANDEM_RETURN_IF_ERROR(EnsureConnected());
  bool began = false;
  const auto noted = [&](const Row& row) {
    began = true;
    callback(row);
  };
  Status status = RunPrepared(sql, params, noted, nullptr);
  // It only reads, so that it may be done again, unless the caller has seen a part.
  if (!status && lost() && !fresh && !began) {
    TANDEM_RETURN_IF_ERROR(EnsureConnected());
    status = RunPrepared(sql, params, noted, nullptr);
  }
  return status;
}

Result<int64_t> PostgresSession::Execute(std::string_view sql, std::span<const Value> params) {
  int64_t n_changed = 0;
  const auto nothing = [](const Row&) {};
  if (!lost() && in_transaction()) {
    TANDEM_RETURN_IF_ERROR(RunPrepared(sql, params, nothing, &n_changed));
    return n_changed;
  }
  TANDEM_RETURN_IF_ERROR(Begin(/*write=*/true));
  Status status = RunPrepared(sql, params, nothing, &n_changed);
  if (status) status = Commit();
  Rollback();  // what was not committed
  TANDEM_RETURN_IF_ERROR(status);
  return n_changed;
}

// What PostgreSQL has not under the name that store/ gives it. Scripts are migrations, and rare.
Status PostgresSession::ExecuteScript(std::string_view sql) {
  TANDEM_RETURN_IF_ERROR(
      Run("DO $$ BEGIN CREATE DOMAIN blob AS bytea; EXCEPTION WHEN duplicate_object THEN NULL; "
          "END $$"));
  return Run(std::string(sql));
}

Result<bool> PostgresSession::HasTable(std::string_view name) {
  const Value params[] = {name};
  bool found = false;
  TANDEM_RETURN_IF_ERROR(ForEach(
      "SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = current_schema() AND tablename = $1",
      params, [&](const Row&) { found = true; }));
  return found;
}

// A lock of the session: the server drops it with the connection.
Result<bool> PostgresSession::TryHoldName(std::string_view name) {
  const Value params[] = {kLockSpace, name};
  bool held = false;
  TANDEM_RETURN_IF_ERROR(
      ForEach("SELECT pg_try_advisory_lock($1::int4, hashtext(coalesce(current_schema(), '') || "
              "'/' || $2))",
              params, [&](const Row& row) { held = row.Bool(0); }));
  return held;
}

bool PostgresSession::HoldsName() { return !lost() && Run("SELECT 1").has_value(); }

}  // namespace

Status CheckSharedUrl(std::string_view url) {
  const auto parts = ParseUrl(url);
  if (!parts) return NotAUrl();
  if (parts->contains("password") || parts->contains("sslpassword")) {
    return Err(ErrorCode::kInvalidArgument,
               "a password does not belong into this URL; write password_env = \"NAME\" with the "
               "name of the environment variable that holds it, or password_file = \"PATH\"");
  }
  return {};
}

Result<std::shared_ptr<PostgresServer>> MakePostgresServer(const SharedDatabase& where,
                                                           const DatabaseOptions& options) {
  const auto parts = ParseUrl(where.url);
  if (!parts) return Wrap(NotAUrl().error(), "the database's URL");
  const auto part = [&](const std::string& name, std::string_view otherwise) {
    const auto found = parts->find(name);
    return found == parts->end() || found->second.empty() ? std::string(otherwise) : found->second;
  };
  const std::string user = part("user", "");
  std::string name = fmt::format("{} on {}:{}", part("dbname", user.empty() ? "default" : user),
                                 part("host", part("hostaddr", "localhost")), part("port", "5432"));
  return std::make_shared<PostgresServer>(where, options, std::move(name));
}

const std::string& NameOf(const PostgresServer& server) { return server.name(); }

std::unique_ptr<Session> MakePostgresSession(std::shared_ptr<PostgresServer> server,
                                             Access access) {
  return std::make_unique<PostgresSession>(std::move(server), access);
}

}  // namespace tandem::store
