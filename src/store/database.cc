#include "store/database.h"

#include <condition_variable>
#include <mutex>
#include <utility>

#include "base/check.h"
#include "store/session.h"

namespace tandem::store {
namespace {

// Readers that are kept open when nobody reads; each costs a page cache of up to 2 MB.
constexpr size_t kMaxIdleReaders = 4;

std::string_view TypeName(Row::Column::Type type) {
  switch (type) {
    case Row::Column::Type::kNull:
      return "NULL";
    case Row::Column::Type::kInt:
      return "an integer";
    case Row::Column::Type::kReal:
      return "a real number";
    case Row::Column::Type::kText:
      return "text";
    case Row::Column::Type::kBlob:
      return "a blob";
  }
  return "?";
}

}  // namespace

// ---- Row -------------------------------------------------------------------------------------

const Row::Column& Row::At(int column, Column::Type type, std::string_view type_name) const {
  static const Column kNothing;
  TANDEM_CHECK(column >= 0 && column < size());
  const Column& found = columns_[static_cast<size_t>(column)];
  const bool fits =
      found.type == type || (type == Column::Type::kReal && found.type == Column::Type::kInt);
  if (fits) return found;
  if (type_error_->empty()) {
    *type_error_ = fmt::format("column {} holds {} where {} should be", column,
                               TypeName(found.type), type_name);
  }
  return kNothing;
}

bool Row::IsNull(int column) const {
  TANDEM_CHECK(column >= 0 && column < size());
  return columns_[static_cast<size_t>(column)].type == Column::Type::kNull;
}

int64_t Row::Int(int column) const { return At(column, Column::Type::kInt, "an integer").integer; }

double Row::Real(int column) const {
  const Column& found = At(column, Column::Type::kReal, "a number");
  return found.type == Column::Type::kInt ? static_cast<double>(found.integer) : found.real;
}

std::string Row::Text(int column) const {
  return std::string(At(column, Column::Type::kText, "text").bytes);
}

std::string Row::Blob(int column) const {
  return std::string(At(column, Column::Type::kBlob, "a blob").bytes);
}

std::optional<int64_t> Row::OptionalInt(int column) const {
  if (IsNull(column)) return std::nullopt;
  return Int(column);
}

std::optional<double> Row::OptionalReal(int column) const {
  if (IsNull(column)) return std::nullopt;
  return Real(column);
}

std::optional<std::string> Row::OptionalText(int column) const {
  if (IsNull(column)) return std::nullopt;
  return Text(column);
}

// ---- Transaction -----------------------------------------------------------------------------

Transaction::Transaction(Database* database, std::unique_ptr<Session> session, bool write)
    : database_(database), session_(std::move(session)), write_(write) {}

Transaction::Transaction(Transaction&& other) noexcept
    : database_(other.database_),
      session_(std::move(other.session_)),
      write_(other.write_),
      failed_(other.failed_) {}

Transaction::~Transaction() {
  if (session_ == nullptr) return;
  session_->Rollback();
  database_->GiveBack(std::move(session_), write_);
}

// PostgreSQL ends a transaction at its first error, so this is the rule for both.
Status Transaction::CheckUsable() const {
  TANDEM_CHECK(session_ != nullptr);
  if (!failed_) return {};
  return Err(ErrorCode::kFailedPrecondition, "an error before had undone the transaction");
}

Result<int64_t> Transaction::Execute(std::string_view sql, std::span<const Value> params) {
  TANDEM_RETURN_IF_ERROR(CheckUsable());
  auto n_rows = session_->Execute(sql, params);
  failed_ = !n_rows;
  return n_rows;
}

Status Transaction::ForEach(std::string_view sql, std::span<const Value> params,
                            const std::function<void(const Row&)>& callback) {
  TANDEM_RETURN_IF_ERROR(CheckUsable());
  Status status = session_->ForEach(sql, params, callback);
  failed_ = !status;
  return status;
}

Status Transaction::Commit() {
  Status status = CheckUsable();
  if (status) status = session_->Commit();
  if (!status) session_->Rollback();
  database_->GiveBack(std::move(session_), write_);
  return status;
}

// ---- NamedLock -------------------------------------------------------------------------------

NamedLock::NamedLock(std::unique_ptr<Session> session) : session_(std::move(session)) {}
NamedLock::NamedLock(NamedLock&&) noexcept = default;
NamedLock::~NamedLock() = default;

bool NamedLock::Held() {
  if (session_ != nullptr && !session_->HoldsName()) session_.reset();
  return session_ != nullptr;
}

// ---- Database --------------------------------------------------------------------------------

struct Database::Impl {
  std::string name;  // for messages
  bool shared = false;
  DatabaseOptions options;
  std::function<Result<std::unique_ptr<Session>>(Access)> open;
  std::mutex mutex;
  std::condition_variable writer_free;
  std::unique_ptr<Session> writer;  // null while somebody writes
  std::vector<std::unique_ptr<Session>> readers;
};

Database::Database(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Database::~Database() {
  // A transaction that is still open would come back to nowhere.
  TANDEM_CHECK(impl_->writer != nullptr);
}

Result<std::unique_ptr<Database>> Database::Open(const std::filesystem::path& path,
                                                 DatabaseOptions options) {
  auto impl = std::make_unique<Impl>();
  impl->name = path.string();
  impl->options = options;
  impl->open = [path, options](Access access) { return OpenSqliteSession(path, access, options); };
  TANDEM_ASSIGN_OR_RETURN(impl->writer, impl->open(Access::kReadWrite));
  return std::unique_ptr<Database>(new Database(std::move(impl)));
}

Result<std::unique_ptr<Database>> Database::Connect(const SharedDatabase& where,
                                                    DatabaseOptions options) {
  TANDEM_ASSIGN_OR_RETURN(auto server, MakePostgresServer(where, options));
  auto impl = std::make_unique<Impl>();
  impl->name = NameOf(*server);
  impl->shared = true;
  impl->options = options;
  impl->open = [server](Access access) -> Result<std::unique_ptr<Session>> {
    return MakePostgresSession(server, access);
  };
  TANDEM_ASSIGN_OR_RETURN(impl->writer, impl->open(Access::kReadWrite));
  // Connects. Not to write: another node may be busy.
  TANDEM_RETURN_IF_ERROR(impl->writer->Begin(/*write=*/false));
  TANDEM_RETURN_IF_ERROR(impl->writer->Commit());
  return std::unique_ptr<Database>(new Database(std::move(impl)));
}

bool Database::shared() const { return impl_->shared; }

Result<std::optional<NamedLock>> Database::TryHold(std::string_view name) {
  TANDEM_ASSIGN_OR_RETURN(auto session, impl_->open(Access::kRead));
  TANDEM_ASSIGN_OR_RETURN(const bool held, session->TryHoldName(name));
  if (!held) return std::nullopt;
  return NamedLock(std::move(session));
}

Result<std::unique_ptr<Session>> Database::TakeWriter() {
  std::unique_lock lock(impl_->mutex);
  if (!impl_->writer_free.wait_for(lock, impl_->options.busy_timeout,
                                   [&] { return impl_->writer != nullptr; })) {
    return Err(ErrorCode::kUnavailable, "database {}: another write took longer than {} ms",
               impl_->name, impl_->options.busy_timeout.count());
  }
  return std::move(impl_->writer);
}

Result<std::unique_ptr<Session>> Database::TakeReader() {
  {
    std::lock_guard lock(impl_->mutex);
    if (!impl_->readers.empty()) {
      auto session = std::move(impl_->readers.back());
      impl_->readers.pop_back();
      return session;
    }
  }
  return impl_->open(Access::kRead);
}

void Database::GiveBack(std::unique_ptr<Session> session, bool write) {
  std::unique_lock lock(impl_->mutex);
  if (write) {
    impl_->writer = std::move(session);
    impl_->writer_free.notify_one();
  } else if (impl_->readers.size() < kMaxIdleReaders) {
    impl_->readers.push_back(std::move(session));
  }
  lock.unlock();  // before a reader too many is closed
}

Result<Transaction> Database::BeginWrite() {
  TANDEM_ASSIGN_OR_RETURN(auto session, TakeWriter());
  Status begun = session->Begin(/*write=*/true);
  if (!begun) {
    GiveBack(std::move(session), true);
    return std::unexpected(std::move(begun).error());
  }
  return Transaction(this, std::move(session), true);
}

Result<Transaction> Database::BeginRead() {
  TANDEM_ASSIGN_OR_RETURN(auto session, TakeReader());
  TANDEM_RETURN_IF_ERROR(session->Begin(/*write=*/false));
  return Transaction(this, std::move(session), false);
}

Result<int64_t> Database::Execute(std::string_view sql, std::span<const Value> params) {
  TANDEM_ASSIGN_OR_RETURN(auto session, TakeWriter());
  auto result = session->Execute(sql, params);
  GiveBack(std::move(session), true);
  return result;
}

Status Database::ForEach(std::string_view sql, std::span<const Value> params,
                         const std::function<void(const Row&)>& callback) {
  TANDEM_ASSIGN_OR_RETURN(auto session, TakeReader());
  Status status = session->ForEach(sql, params, callback);
  GiveBack(std::move(session), false);
  return status;
}

// ---- Migrations ------------------------------------------------------------------------------

Result<int> Database::SchemaVersion(std::string_view component) {
  TANDEM_ASSIGN_OR_RETURN(Transaction read, BeginRead());
  TANDEM_ASSIGN_OR_RETURN(const bool migrated, read.session_->HasTable("schema_versions"));
  if (!migrated) return 0;
  TANDEM_ASSIGN_OR_RETURN(
      const auto version,
      read.QueryOne<int64_t>("SELECT version FROM schema_versions WHERE component = $1",
                             {component}, [](const Row& row) { return row.Int(0); }));
  return static_cast<int>(version.value_or(0));
}

Status Database::Migrate(std::string_view component, std::span<const Migration> migrations) {
  TANDEM_RETURN_IF_ERROR(
      Execute("CREATE TABLE IF NOT EXISTS schema_versions ("
              "component TEXT PRIMARY KEY NOT NULL, version INTEGER NOT NULL, "
              "name TEXT NOT NULL)"));
  for (;;) {
    // The version is read inside the transaction: another process may be migrating too.
    TANDEM_ASSIGN_OR_RETURN(auto session, TakeWriter());
    const auto step = [&]() -> Result<bool> {
      TANDEM_RETURN_IF_ERROR(session->Begin(/*write=*/true));
      int64_t version = 0;
      TANDEM_RETURN_IF_ERROR(session->ForEach(
          "SELECT version FROM schema_versions WHERE component = $1", std::vector<Value>{component},
          [&](const Row& row) { version = row.Int(0); }));
      const auto newest = static_cast<int64_t>(migrations.size());
      if (version < 0 || version > newest) {
        return Err(
            ErrorCode::kFailedPrecondition,
            "database {}: its tables for '{}' have version {}, and this Tandem knows them up "
            "to {}; use the newer Tandem that wrote them, or restore an older backup",
            impl_->name, component, version, newest);
      }
      if (version == newest) return false;
      const Migration& migration = migrations[static_cast<size_t>(version)];
      if (Status done = session->ExecuteScript(migration.sql); !done) {
        return Wrap(std::move(done).error(), fmt::format("migration {} of '{}' ({})", version + 1,
                                                         component, migration.name));
      }
      TANDEM_RETURN_IF_ERROR(session->Execute(
          "INSERT INTO schema_versions (component, version, name) VALUES ($1, $2, $3) "
          "ON CONFLICT (component) DO UPDATE SET version = excluded.version, name = excluded.name",
          std::vector<Value>{component, version + 1, migration.name}));
      TANDEM_RETURN_IF_ERROR(session->Commit());
      return true;
    };
    Result<bool> more = step();
    session->Rollback();  // what was not committed
    GiveBack(std::move(session), true);
    if (!more) return std::unexpected(std::move(more).error());
    if (!*more) return {};
  }
}

}  // namespace tandem::store
