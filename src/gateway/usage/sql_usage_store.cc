#include "gateway/usage/sql_usage_store.h"

#include <chrono>
#include <map>
#include <utility>

namespace tandem::gateway::usage {
namespace {

using store::Value;

// Times are milliseconds since 1970, money is nano-USD, truth is 0 or 1: types that both databases
// have. Names (tiers, outcomes, failures) are kept as text, so that their order in the code may
// change.
constexpr store::Migration kMigrations[] = {
    {"usage_records",
     "CREATE TABLE usage_records ("
     "  request_id TEXT PRIMARY KEY,"
     "  client_request_id TEXT,"
     "  started_at_ms BIGINT NOT NULL,"
     "  key_id TEXT NOT NULL,"
     "  account TEXT NOT NULL,"
     "  subject_digest TEXT NOT NULL,"
     "  requested_model TEXT NOT NULL,"
     "  strategy TEXT NOT NULL,"
     "  strategy_version TEXT NOT NULL,"
     "  decision TEXT NOT NULL,"
     "  trimmed INTEGER NOT NULL,"
     "  privacy TEXT NOT NULL,"
     "  streamed INTEGER NOT NULL,"
     "  finish_reason TEXT,"  // one of these two
     "  failure TEXT,"
     "  client_gone INTEGER NOT NULL,"
     "  target TEXT NOT NULL,"  // empty: nobody answered
     "  model TEXT NOT NULL,"
     "  tier TEXT,"
     "  prompt_tokens BIGINT NOT NULL,"
     "  completion_tokens BIGINT NOT NULL,"
     "  cached_tokens BIGINT NOT NULL,"
     "  cost_nano_usd BIGINT NOT NULL,"
     "  reference_nano_usd BIGINT NOT NULL,"
     "  unpriced INTEGER NOT NULL,"
     "  ttft_ms DOUBLE PRECISION,"
     "  e2e_ms DOUBLE PRECISION NOT NULL,"
     "  itl_p50_ms DOUBLE PRECISION,"
     "  itl_p95_ms DOUBLE PRECISION,"
     "  itl_max_ms DOUBLE PRECISION,"
     "  receipt TEXT NOT NULL"
     ");"
     "CREATE INDEX usage_records_by_time ON usage_records (started_at_ms, request_id);"
     "CREATE INDEX usage_records_by_client_id ON usage_records (client_request_id)"
     "  WHERE client_request_id IS NOT NULL;"
     "CREATE TABLE usage_attempts ("
     "  request_id TEXT NOT NULL REFERENCES usage_records (request_id) ON DELETE CASCADE,"
     "  number INTEGER NOT NULL,"
     "  target TEXT NOT NULL,"
     "  model TEXT NOT NULL,"
     "  tier TEXT NOT NULL,"
     "  reason TEXT NOT NULL,"
     "  outcome TEXT NOT NULL,"
     "  failure TEXT,"
     "  detail TEXT NOT NULL,"
     "  retry_after_ms BIGINT,"
     "  retry INTEGER NOT NULL,"
     "  hedge INTEGER NOT NULL,"
     "  prompt_tokens BIGINT NOT NULL,"
     "  completion_tokens BIGINT NOT NULL,"
     "  cached_tokens BIGINT NOT NULL,"
     "  usage_estimated INTEGER NOT NULL,"
     "  started_ms DOUBLE PRECISION NOT NULL,"
     "  ttft_ms DOUBLE PRECISION,"
     "  ended_ms DOUBLE PRECISION NOT NULL,"
     "  text_begin BIGINT NOT NULL,"
     "  text_end BIGINT NOT NULL,"
     "  egress_destination TEXT,"
     "  egress_bytes BIGINT,"
     "  egress_sha256 TEXT,"
     "  cost_nano_usd BIGINT,"  // NULL: its model has no price
     "  PRIMARY KEY (request_id, number)"
     ");"
     // Outlives the records, which are deleted when they are old.
     "CREATE TABLE usage_spend ("
     "  account TEXT NOT NULL,"
     "  month INTEGER NOT NULL,"  // 202611, UTC
     "  cost_nano_usd BIGINT NOT NULL,"
     "  PRIMARY KEY (account, month)"
     ");"},
};

template <typename Enum, typename Name>
std::optional<std::string> NameOf(const std::optional<Enum>& value, Name name) {
  if (!value) return std::nullopt;
  return std::string(name(*value));
}

const std::string& AccountOf(const UsageRecord& record) {
  return record.account.empty() ? record.key_id : record.account;
}

// The number of rows: 0 where the request id is there already.
Result<int64_t> InsertRecord(store::Transaction& transaction, const UsageRecord& record) {
  const Usage usage = Sane(record.usage);
  std::optional<std::string> client_request_id;
  if (!record.client_request_id.empty()) client_request_id = record.client_request_id;
  std::optional<double> itl_p50;
  std::optional<double> itl_p95;
  std::optional<double> itl_max;
  if (record.itl) {
    itl_p50 = record.itl->p50_ms;
    itl_p95 = record.itl->p95_ms;
    itl_max = record.itl->max_ms;
  }
  return transaction.Execute(
      "INSERT INTO usage_records (request_id, client_request_id, started_at_ms, key_id,"
      " subject_digest, requested_model, strategy, strategy_version, decision, trimmed, privacy,"
      " streamed, finish_reason, failure, client_gone, target, model, tier, prompt_tokens,"
      " completion_tokens, cached_tokens, cost_nano_usd, reference_nano_usd, unpriced, ttft_ms,"
      " e2e_ms, itl_p50_ms, itl_p95_ms, itl_max_ms, receipt, account)"
      " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,"
      " $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31)"
      " ON CONFLICT (request_id) DO NOTHING",
      {record.request_id,
       client_request_id,
       record.started_at_ms,
       record.key_id,
       record.subject_digest,
       record.requested_model,
       record.strategy,
       record.strategy_version,
       record.decision_json,
       record.trimmed,
       PrivacyName(record.privacy),
       record.streamed,
       NameOf(record.finish_reason, FinishReasonName),
       NameOf(record.failure, FailureCodeName),
       record.client_gone,
       record.target,
       record.model,
       NameOf(record.tier, TierName),
       usage.prompt_tokens,
       usage.completion_tokens,
       usage.cached_tokens,
       record.cost,
       record.reference,
       record.unpriced,
       record.ttft_ms,
       record.e2e_ms,
       itl_p50,
       itl_p95,
       itl_max,
       record.receipt_json,
       AccountOf(record)});
}

Status InsertAttempt(store::Transaction& transaction, const std::string& request_id, int number,
                     const PricedAttempt& priced) {
  const Attempt& attempt = priced.attempt;
  const Usage usage = Sane(attempt.usage);
  std::optional<int64_t> retry_after_ms;
  if (attempt.retry_after) retry_after_ms = attempt.retry_after->count();
  std::optional<std::string> destination;
  std::optional<int64_t> n_bytes;
  std::optional<std::string> sha256;
  if (attempt.egress) {
    destination = attempt.egress->destination;
    n_bytes = static_cast<int64_t>(attempt.egress->n_bytes);
    sha256 = attempt.egress->sha256;
  }
  TANDEM_RETURN_IF_ERROR(transaction.Execute(
      "INSERT INTO usage_attempts (request_id, number, target, model, tier, reason, outcome,"
      " failure, detail, retry, hedge, prompt_tokens, completion_tokens, cached_tokens,"
      " usage_estimated, started_ms, ttft_ms, ended_ms, text_begin, text_end, egress_destination,"
      " egress_bytes, egress_sha256, cost_nano_usd, retry_after_ms)"
      " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,"
      " $19, $20, $21, $22, $23, $24, $25)",
      {request_id,
       number,
       attempt.target,
       attempt.model,
       TierName(attempt.tier),
       attempt.reason,
       AttemptOutcomeName(attempt.outcome),
       NameOf(attempt.failure, FailureCodeName),
       attempt.detail,
       attempt.retry,
       attempt.hedge,
       usage.prompt_tokens,
       usage.completion_tokens,
       usage.cached_tokens,
       attempt.usage_estimated,
       attempt.started_ms,
       attempt.ttft_ms,
       attempt.ended_ms,
       static_cast<int64_t>(attempt.text_begin),
       static_cast<int64_t>(attempt.text_end),
       destination,
       n_bytes,
       sha256,
       priced.cost,
       retry_after_ms}));
  return {};
}

}  // namespace

int64_t MonthOf(int64_t unix_ms) {
  const std::chrono::sys_time<std::chrono::milliseconds> time{std::chrono::milliseconds(unix_ms)};
  const std::chrono::year_month_day day(std::chrono::floor<std::chrono::days>(time));
  return int64_t{100} * static_cast<int>(day.year()) + static_cast<unsigned>(day.month());
}

Result<std::unique_ptr<SqlUsageStore>> SqlUsageStore::Open(store::Database* database) {
  TANDEM_RETURN_IF_ERROR(database->Migrate("usage", kMigrations));
  return std::unique_ptr<SqlUsageStore>(new SqlUsageStore(database));
}

Result<std::vector<std::string>> SqlUsageStore::Append(std::span<const UsageRecord> records) {
  std::vector<std::string> duplicates;
  std::map<std::pair<std::string, int64_t>, NanoUsd> spent;  // by account and month
  TANDEM_ASSIGN_OR_RETURN(store::Transaction transaction, database_->BeginWrite());
  for (const UsageRecord& record : records) {
    TANDEM_ASSIGN_OR_RETURN(const int64_t n_inserted, InsertRecord(transaction, record));
    if (n_inserted == 0) {
      duplicates.push_back(record.request_id);
      continue;
    }
    for (size_t i = 0; i < record.attempts.size(); ++i) {
      TANDEM_RETURN_IF_ERROR(
          InsertAttempt(transaction, record.request_id, static_cast<int>(i), record.attempts[i]));
    }
    NanoUsd& sum = spent[{AccountOf(record), MonthOf(record.started_at_ms)}];
    sum = SaturatingAdd(sum, record.cost);
  }
  for (const auto& [key, cost] : spent) {
    if (cost == 0) continue;
    TANDEM_RETURN_IF_ERROR(transaction.Execute(
        "INSERT INTO usage_spend (account, month, cost_nano_usd) VALUES ($1, $2, $3)"
        " ON CONFLICT (account, month) DO UPDATE"
        " SET cost_nano_usd = usage_spend.cost_nano_usd + excluded.cost_nano_usd",
        {key.first, key.second, cost}));
  }
  TANDEM_RETURN_IF_ERROR(transaction.Commit());
  return duplicates;
}

}  // namespace tandem::gateway::usage
