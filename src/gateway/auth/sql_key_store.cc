#include "gateway/auth/sql_key_store.h"

#include <algorithm>
#include <utility>

#include "crypto/digest.h"

namespace tandem::gateway::auth {
namespace {

// Digests are hexadecimal text: the type of bytes is where the databases differ.
constexpr store::Migration kMigrations[] = {
    {"api_keys",
     "CREATE TABLE api_keys ("
     "  id TEXT PRIMARY KEY,"
     "  name TEXT NOT NULL,"
     "  digest TEXT NOT NULL,"
     "  created_at BIGINT NOT NULL,"  // seconds since 1970, here and below
     "  revoked_at BIGINT"
     ");"
     "CREATE UNIQUE INDEX api_keys_name_in_force ON api_keys (name) WHERE revoked_at IS NULL;"
     // One row: a number that every change raises.
     "CREATE TABLE api_keys_version (version BIGINT NOT NULL);"
     "INSERT INTO api_keys_version VALUES (0);"},
};

Status RaiseVersion(store::Queries& queries) {
  TANDEM_RETURN_IF_ERROR(queries.Execute("UPDATE api_keys_version SET version = version + 1"));
  return {};
}

}  // namespace

Result<std::unique_ptr<SqlKeyStore>> SqlKeyStore::Open(store::Database* database) {
  TANDEM_RETURN_IF_ERROR(database->Migrate("auth", kMigrations));
  return std::unique_ptr<SqlKeyStore>(new SqlKeyStore(database));
}

Status SqlKeyStore::Add(const KeyRecord& record) {
  TANDEM_ASSIGN_OR_RETURN(store::Transaction transaction, database_->BeginWrite());
  const Result<int64_t> added = transaction.Execute(
      "INSERT INTO api_keys (id, name, digest, created_at, revoked_at) VALUES ($1, $2, $3, $4, $5)",
      {record.id, record.name, crypto::Hex(record.digest), record.created_at, record.revoked_at});
  if (!added && added.error().code == ErrorCode::kAlreadyExists) {
    return Err(ErrorCode::kAlreadyExists,
               "there is a key named '{}' already; choose another name, or revoke that one first",
               record.name);
  }
  TANDEM_RETURN_IF_ERROR(added);
  TANDEM_RETURN_IF_ERROR(RaiseVersion(transaction));
  return transaction.Commit();
}

Result<std::vector<KeyRecord>> SqlKeyStore::List() {
  bool corrupt = false;
  auto records = database_->Query<KeyRecord>(
      "SELECT id, name, digest, created_at, revoked_at FROM api_keys ORDER BY created_at, id", {},
      [&](const store::Row& row) {
        KeyRecord record{row.Text(0), row.Text(1), {}, row.Int(3), row.OptionalInt(4)};
        const Result<std::string> digest = crypto::FromHex(row.Text(2));
        if (digest && digest->size() == record.digest.size()) {
          std::ranges::copy(*digest, record.digest.begin());
        } else {
          corrupt = true;
        }
        return record;
      });
  TANDEM_RETURN_IF_ERROR(records);
  if (corrupt) return Err(ErrorCode::kCorrupt, "the table api_keys holds a digest that is none");
  return records;
}

Status SqlKeyStore::Revoke(std::string_view id, int64_t revoked_at) {
  TANDEM_ASSIGN_OR_RETURN(store::Transaction transaction, database_->BeginWrite());
  TANDEM_ASSIGN_OR_RETURN(
      const int64_t n_revoked,
      transaction.Execute(
          "UPDATE api_keys SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL",
          {revoked_at, id}));
  if (n_revoked == 0) return Err(ErrorCode::kNotFound, "no key in force has the id '{}'", id);
  TANDEM_RETURN_IF_ERROR(RaiseVersion(transaction));
  return transaction.Commit();
}

Result<int64_t> SqlKeyStore::Version() {
  TANDEM_ASSIGN_OR_RETURN(
      const std::optional<int64_t> version,
      database_->QueryOne<int64_t>("SELECT version FROM api_keys_version", {},
                                   [](const store::Row& row) { return row.Int(0); }));
  if (!version) return Err(ErrorCode::kCorrupt, "the table api_keys_version is empty");
  return *version;
}

}  // namespace tandem::gateway::auth
