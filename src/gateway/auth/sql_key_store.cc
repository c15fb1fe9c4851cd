#include "gateway/auth/sql_key_store.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "crypto/digest.h"
#include "gateway/auth/schema.h"

namespace tandem::gateway::auth {
namespace {

std::vector<std::string> SplitAtCommas(std::string_view text) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    parts.emplace_back(text.substr(0, comma));
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return parts;
}

Status Insert(store::Transaction& transaction, const KeyRecord& record) {
  const KeyPolicy& policy = record.policy;
  std::optional<int64_t> limit;
  std::optional<std::string> period;
  if (policy.budget) {
    limit = policy.budget->limit_nano_usd;
    period = BudgetPeriodName(policy.budget->period);
  }
  std::optional<std::string> superseded_by;
  if (!record.superseded_by.empty()) superseded_by = record.superseded_by;
  const Result<int64_t> added = transaction.Execute(
      "INSERT INTO api_keys (id, name, digest, created_at, revoked_at, account, models, device,"
      " cloud, privacy, budget_nano_usd, budget_period, scope_chat, scope_admin, expires_at,"
      " superseded_by, overlap_ends_at)"
      " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
      {record.id, record.name, crypto::Hex(record.digest), record.created_at, record.revoked_at,
       record.account, fmt::format("{}", fmt::join(policy.models, ",")), policy.device,
       policy.cloud, policy.privacy, limit, period, policy.chat, policy.admin, policy.expires_at,
       superseded_by, record.overlap_ends_at});
  if (!added && added.error().code == ErrorCode::kAlreadyExists) {
    return Err(ErrorCode::kAlreadyExists,
               "there is a key named '{}' already; choose another name, or revoke that one first",
               record.name);
  }
  TANDEM_RETURN_IF_ERROR(added);
  return {};
}

// `corrupt` is set where the row holds what no Tandem writes.
KeyRecord ReadRecord(const store::Row& row, bool* corrupt) {
  KeyRecord record;
  record.id = row.Text(0);
  record.name = row.Text(1);
  const Result<std::string> digest = crypto::FromHex(row.Text(2));
  if (digest && digest->size() == record.digest.size()) {
    std::ranges::copy(*digest, record.digest.begin());
  } else {
    *corrupt = true;
  }
  record.created_at = row.Int(3);
  record.revoked_at = row.OptionalInt(4);
  record.account = row.Text(5);
  KeyPolicy& policy = record.policy;
  policy.models = SplitAtCommas(row.Text(6));
  policy.device = row.Bool(7);
  policy.cloud = row.Bool(8);
  policy.privacy = row.Text(9);
  if (const auto limit = row.OptionalInt(10)) {
    const auto period = ParseBudgetPeriod(row.OptionalText(11).value_or(""));
    if (!period) *corrupt = true;
    policy.budget = Budget{*limit, period.value_or(BudgetPeriod::kTotal)};
  }
  policy.chat = row.Bool(12);
  policy.admin = row.Bool(13);
  policy.expires_at = row.OptionalInt(14);
  record.superseded_by = row.OptionalText(15).value_or("");
  record.overlap_ends_at = row.OptionalInt(16);
  // A damaged policy must not become one that allows more.
  if (!CheckKeyPolicy(policy)) *corrupt = true;
  return record;
}

}  // namespace

bool InForce(const KeyRecord& record, int64_t now) {
  return !record.revoked_at && !(record.policy.expires_at && now >= *record.policy.expires_at) &&
         !(record.overlap_ends_at && now >= *record.overlap_ends_at);
}

Result<std::unique_ptr<SqlKeyStore>> SqlKeyStore::Open(store::Database* database,
                                                       const Clock* clock) {
  TANDEM_RETURN_IF_ERROR(MigrateAuth(database));
  return std::unique_ptr<SqlKeyStore>(new SqlKeyStore(database, clock));
}

Status SqlKeyStore::Add(const KeyRecord& record, const AuditEvent& event) {
  TANDEM_ASSIGN_OR_RETURN(store::Transaction transaction, database_->BeginWrite());
  TANDEM_RETURN_IF_ERROR(Insert(transaction, record));
  return Finish(std::move(transaction), {&event, 1});
}

Status SqlKeyStore::Replace(std::string_view id, int64_t overlap_ends_at, const KeyRecord& next,
                            const AuditEvent& event) {
  TANDEM_ASSIGN_OR_RETURN(store::Transaction transaction, database_->BeginWrite());
  // The old one first: it holds the name.
  TANDEM_ASSIGN_OR_RETURN(
      const int64_t n_superseded,
      transaction.Execute("UPDATE api_keys SET superseded_by = $1, overlap_ends_at = $2 "
                          "WHERE id = $3 AND revoked_at IS NULL AND superseded_by IS NULL",
                          {next.id, overlap_ends_at, id}));
  if (n_superseded == 0) return Err(ErrorCode::kNotFound, "no key in force has the id '{}'", id);
  TANDEM_RETURN_IF_ERROR(Insert(transaction, next));
  return Finish(std::move(transaction), {&event, 1});
}

Result<std::vector<KeyRecord>> SqlKeyStore::List() {
  bool corrupt = false;
  auto records = database_->Query<KeyRecord>(
      "SELECT id, name, digest, created_at, revoked_at, account, models, device, cloud, privacy, "
      "budget_nano_usd, budget_period, scope_chat, scope_admin, expires_at, superseded_by, "
      "overlap_ends_at FROM api_keys ORDER BY created_at, id",
      {}, [&](const store::Row& row) { return ReadRecord(row, &corrupt); });
  TANDEM_RETURN_IF_ERROR(records);
  if (corrupt) {
    return Err(ErrorCode::kCorrupt, "the table api_keys holds a digest or a policy that is none");
  }
  return records;
}

Status SqlKeyStore::Revoke(std::span<const std::string> ids, int64_t revoked_at,
                           std::span<const AuditEvent> events) {
  TANDEM_ASSIGN_OR_RETURN(store::Transaction transaction, database_->BeginWrite());
  for (const std::string& id : ids) {
    TANDEM_ASSIGN_OR_RETURN(
        const int64_t n_revoked,
        transaction.Execute(
            "UPDATE api_keys SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL",
            {revoked_at, id}));
    if (n_revoked == 0) return Err(ErrorCode::kNotFound, "no key in force has the id '{}'", id);
  }
  return Finish(std::move(transaction), events);
}

Result<std::string> SqlKeyStore::KeepPepperProof(std::string_view proof) {
  TANDEM_ASSIGN_OR_RETURN(store::Transaction transaction, database_->BeginWrite());
  TANDEM_ASSIGN_OR_RETURN(auto kept, transaction.QueryOne<std::string>(
                                         "SELECT proof FROM api_keys_pepper", {},
                                         [](const store::Row& row) { return row.Text(0); }));
  if (kept) return *std::move(kept);
  TANDEM_RETURN_IF_ERROR(
      transaction.Execute("INSERT INTO api_keys_pepper (proof) VALUES ($1)", {proof}));
  TANDEM_RETURN_IF_ERROR(transaction.Commit());
  return std::string(proof);
}

Result<int64_t> SqlKeyStore::Version() {
  TANDEM_ASSIGN_OR_RETURN(
      const std::optional<int64_t> version,
      database_->QueryOne<int64_t>("SELECT version FROM api_keys_version", {},
                                   [](const store::Row& row) { return row.Int(0); }));
  if (!version) return Err(ErrorCode::kCorrupt, "the table api_keys_version is empty");
  return *version;
}

Status SqlKeyStore::Finish(store::Transaction transaction, std::span<const AuditEvent> events) {
  TANDEM_RETURN_IF_ERROR(transaction.Execute("UPDATE api_keys_version SET version = version + 1"));
  const auto now = std::chrono::floor<std::chrono::milliseconds>(clock_->SystemNow());
  for (const AuditEvent& event : events) {
    TANDEM_RETURN_IF_ERROR(AuditLog::AppendTo(&transaction, now.time_since_epoch().count(), event));
  }
  return transaction.Commit();
}

}  // namespace tandem::gateway::auth
