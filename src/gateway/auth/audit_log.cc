#include "gateway/auth/audit_log.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "crypto/digest.h"
#include "gateway/auth/schema.h"

namespace tandem::gateway::auth {
namespace {

constexpr std::string_view kColumns = "number, at_ms, action, who, subject, detail, digest";
constexpr size_t kDigestLength = 64;
constexpr int kMaxListed = 10'000;

// Each field with its length before it, so that no two records give the same bytes.
std::string DigestOf(std::string_view previous, const AuditRecord& record) {
  std::string bytes;
  const auto add = [&](std::string_view field) {
    fmt::format_to(std::back_inserter(bytes), "{}:{}", field.size(), field);
  };
  add(previous);
  add(std::to_string(record.number));
  add(std::to_string(record.at_ms));
  add(record.event.action);
  add(record.event.who);
  add(record.event.subject);
  add(record.event.detail);
  return crypto::Sha256Hex(bytes);
}

AuditRecord ReadRecord(const store::Row& row) {
  return {
      row.Int(0), row.Int(1), {row.Text(2), row.Text(3), row.Text(4), row.Text(5)}, row.Text(6)};
}

Result<AuditHead> ReadHead(store::Queries& queries) {
  TANDEM_ASSIGN_OR_RETURN(const auto head,
                          queries.QueryOne<AuditHead>("SELECT number, digest FROM audit_head", {},
                                                      [](const store::Row& row) {
                                                        return AuditHead{row.Int(0), row.Text(1)};
                                                      }));
  if (!head) {
    return Err(ErrorCode::kCorrupt,
               "the audit log has lost its end: the table audit_head is empty");
  }
  return *head;
}

}  // namespace

std::string FormatAuditHead(const AuditHead& head) {
  return fmt::format("{}:{}", head.number, head.digest);
}

Result<AuditHead> ParseAuditHead(std::string_view text) {
  AuditHead head;
  const size_t colon = std::min(text.find(':'), text.size());
  const auto [end, error] = std::from_chars(text.data(), text.data() + colon, head.number);
  head.digest = text.substr(std::min(colon + 1, text.size()));
  const bool good_number = error == std::errc() && end == text.data() + colon && head.number >= 0;
  const bool good_digest = head.digest.size() == (head.number == 0 ? 0 : kDigestLength);
  if (good_number && good_digest && colon < text.size()) return head;
  return Err(ErrorCode::kInvalidArgument,
             "'{}' is no end of an audit log; 'tandem audit verify' prints one, as NUMBER:DIGEST",
             text);
}

Result<std::unique_ptr<AuditLog>> AuditLog::Open(store::Database* database, const Clock* clock) {
  TANDEM_RETURN_IF_ERROR(MigrateAuth(database));
  return std::unique_ptr<AuditLog>(new AuditLog(database, clock));
}

Status AuditLog::Append(const AuditEvent& event) {
  TANDEM_ASSIGN_OR_RETURN(store::Transaction transaction, database_->BeginWrite());
  const auto now = std::chrono::floor<std::chrono::milliseconds>(clock_->SystemNow());
  TANDEM_RETURN_IF_ERROR(AppendTo(&transaction, now.time_since_epoch().count(), event));
  return transaction.Commit();
}

Status AuditLog::AppendTo(store::Transaction* transaction, int64_t at_ms, const AuditEvent& event) {
  if (event.action.empty()) {
    return Err(ErrorCode::kInvalidArgument, "an audit record needs an action");
  }
  // First the update: where several nodes write to one database, it makes the others wait here.
  TANDEM_RETURN_IF_ERROR(transaction->Execute("UPDATE audit_head SET number = number + 1"));
  TANDEM_ASSIGN_OR_RETURN(const AuditHead head, ReadHead(*transaction));
  AuditRecord record{head.number, at_ms, event, {}};
  record.digest = DigestOf(head.digest, record);
  TANDEM_RETURN_IF_ERROR(transaction->Execute(
      fmt::format("INSERT INTO audit_log ({}) VALUES ($1, $2, $3, $4, $5, $6, $7)", kColumns),
      {record.number, record.at_ms, event.action, event.who, event.subject, event.detail,
       record.digest}));
  TANDEM_RETURN_IF_ERROR(
      transaction->Execute("UPDATE audit_head SET digest = $1", {record.digest}));
  return {};
}

Result<std::vector<AuditRecord>> AuditLog::List(int limit, int64_t before) {
  return database_->Query<AuditRecord>(
      fmt::format("SELECT {} FROM audit_log WHERE $1 <= 0 OR number < $1 ORDER BY number DESC "
                  "LIMIT $2",
                  kColumns),
      {before, std::clamp(limit, 0, kMaxListed)}, ReadRecord);
}

Result<AuditHead> AuditLog::Verify(const std::optional<AuditHead>& known) {
  TANDEM_ASSIGN_OR_RETURN(store::Transaction read, database_->BeginRead());
  AuditHead head;
  Status broken;
  bool known_seen = !known || known->number == 0;
  TANDEM_RETURN_IF_ERROR(read.ForEach(
      fmt::format("SELECT {} FROM audit_log ORDER BY number", kColumns), {},
      [&](const store::Row& row) {
        if (!broken) return;
        const AuditRecord record = ReadRecord(row);
        if (record.number != head.number + 1) {
          broken = Err(ErrorCode::kCorrupt,
                       "the audit log has no record {} where one must be: it was removed",
                       head.number + 1);
        } else if (record.digest != DigestOf(head.digest, record)) {
          broken = Err(ErrorCode::kCorrupt,
                       "record {} of the audit log does not match its digest: it, or the order of "
                       "the records before it, was changed",
                       record.number);
        }
        head = {record.number, record.digest};
        known_seen |= known == head;
      }));
  TANDEM_RETURN_IF_ERROR(broken);
  TANDEM_ASSIGN_OR_RETURN(const AuditHead end, ReadHead(read));
  if (end != head) {
    return Err(ErrorCode::kCorrupt,
               "the audit log ends with record {} where record {} must be its last: records were "
               "removed from its end, or put there by something else",
               head.number, end.number);
  }
  if (!known_seen) {
    return Err(ErrorCode::kCorrupt,
               "record {} of the audit log is not the one that was seen earlier: the log was "
               "written anew",
               known->number);
  }
  return head;
}

}  // namespace tandem::gateway::auth
