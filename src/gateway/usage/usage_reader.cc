#include "gateway/usage/usage_reader.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <map>
#include <utility>

#include <fmt/format.h>

#include "metrics/histogram.h"

namespace tandem::gateway::usage {
namespace {

using store::Row;

constexpr int kMaxPage = 1000;
constexpr int64_t kDeleteStep = 500;  // records in one transaction: a few milliseconds
// $1 and $2 are the times, $3 the account.
constexpr std::string_view kInQuery =
    "r.started_at_ms >= $1 AND r.started_at_ms < $2 AND ($3 = '' OR r.account = $3)";

constexpr GroupBy kGroupings[] = {GroupBy::kAll, GroupBy::kModel, GroupBy::kTier, GroupBy::kKey,
                                  GroupBy::kDay};

// What a whole request is grouped by, and what one call is: SQL of type text.
struct GroupColumns {
  std::string_view of_request;
  std::string_view of_call;
};
GroupColumns ColumnsOf(GroupBy by) {
  switch (by) {
    case GroupBy::kAll:
      break;
    case GroupBy::kModel:
      return {"r.model", "a.model"};
    case GroupBy::kTier:
      return {"COALESCE(r.tier, '')", "a.tier"};
    case GroupBy::kKey:
      return {"r.account", "r.account"};
    case GroupBy::kDay:
      return {"CAST(r.started_at_ms / 86400000 AS TEXT)",
              "CAST(r.started_at_ms / 86400000 AS TEXT)"};
  }
  return {"''", "''"};
}

// "2026-11-23" of the number of days since 1970 as text.
std::string DayName(const std::string& number) {
  int64_t days = 0;
  std::from_chars(number.data(), number.data() + number.size(), days);
  const std::chrono::year_month_day day{
      std::chrono::sys_days(std::chrono::days(static_cast<int>(days)))};
  return fmt::format("{:04}-{:02}-{:02}", static_cast<int>(day.year()),
                     static_cast<unsigned>(day.month()), static_cast<unsigned>(day.day()));
}

LatencyQuantiles QuantilesOf(const metrics::Histogram& histogram) {
  return {static_cast<int64_t>(histogram.count()), histogram.Quantile(0.5),
          histogram.Quantile(0.95), histogram.Quantile(0.99)};
}

// The value of an enumeration, dense from 0 to n - 1, that has this name. A name that is none (a
// newer Tandem's) gives nothing.
template <typename Enum, typename Name>
std::optional<Enum> FromName(std::string_view text, int n, Name name) {
  for (int i = 0; i < n; ++i) {
    if (name(static_cast<Enum>(i)) == text) return static_cast<Enum>(i);
  }
  return std::nullopt;
}
std::optional<Tier> TierFrom(std::string_view text) {
  return FromName<Tier>(text, static_cast<int>(Tier::kCloud) + 1, TierName);
}
std::optional<FailureCode> FailureFrom(std::string_view text) {
  return FromName<FailureCode>(text, kFailureCodeCount, FailureCodeName);
}
std::optional<FinishReason> FinishReasonFrom(std::string_view text) {
  return FromName<FinishReason>(text, static_cast<int>(FinishReason::kDegenerate) + 1,
                                FinishReasonName);
}
std::optional<AttemptOutcome> OutcomeFrom(std::string_view text) {
  return FromName<AttemptOutcome>(text, static_cast<int>(AttemptOutcome::kSkipped) + 1,
                                  AttemptOutcomeName);
}

// The columns of a record in ReadRecord's order; the long texts only where they are wanted.
std::string RecordColumns(bool with_texts) {
  return fmt::format(
      "r.request_id, r.client_request_id, r.started_at_ms, r.key_id, r.subject_digest, "
      "r.requested_model, r.strategy, r.strategy_version, {}, r.trimmed, r.privacy, r.streamed, "
      "r.finish_reason, r.failure, r.client_gone, r.target, r.model, r.tier, r.prompt_tokens, "
      "r.completion_tokens, r.cached_tokens, r.cost_nano_usd, r.reference_nano_usd, r.unpriced, "
      "r.ttft_ms, r.e2e_ms, r.itl_p50_ms, r.itl_p95_ms, r.itl_max_ms, {}, r.account",
      with_texts ? "r.decision" : "''", with_texts ? "r.receipt" : "''");
}

UsageRecord ReadRecord(const Row& row) {
  UsageRecord record;
  record.request_id = row.Text(0);
  record.client_request_id = row.OptionalText(1).value_or("");
  record.started_at_ms = row.Int(2);
  record.key_id = row.Text(3);
  record.subject_digest = row.Text(4);
  record.requested_model = row.Text(5);
  record.strategy = row.Text(6);
  record.strategy_version = row.Text(7);
  record.decision_json = row.Text(8);
  record.trimmed = row.Bool(9);
  // Doubt about privacy means the strictest.
  record.privacy = ParsePrivacy(row.Text(10)).value_or(Privacy::kOnDevice);
  record.streamed = row.Bool(11);
  if (const auto text = row.OptionalText(12)) record.finish_reason = FinishReasonFrom(*text);
  if (const auto text = row.OptionalText(13)) {
    record.failure = FailureFrom(*text).value_or(FailureCode::kInternal);
  }
  record.client_gone = row.Bool(14);
  record.target = row.Text(15);
  record.model = row.Text(16);
  if (const auto text = row.OptionalText(17)) record.tier = TierFrom(*text);
  record.usage = {row.Int(18), row.Int(19), row.Int(20)};
  record.cost = row.Int(21);
  record.reference = row.Int(22);
  record.unpriced = row.Bool(23);
  record.ttft_ms = row.OptionalReal(24);
  record.e2e_ms = row.Real(25);
  if (const auto p50 = row.OptionalReal(26)) {
    record.itl = {*p50, row.OptionalReal(27).value_or(0), row.OptionalReal(28).value_or(0)};
  }
  record.receipt_json = row.Text(29);
  record.account = row.Text(30);
  return record;
}

PricedAttempt ReadAttempt(const Row& row) {
  Attempt attempt;
  attempt.target = row.Text(0);
  attempt.model = row.Text(1);
  attempt.tier = TierFrom(row.Text(2)).value_or(Tier::kCloud);
  attempt.reason = row.Text(3);
  attempt.outcome = OutcomeFrom(row.Text(4)).value_or(AttemptOutcome::kFailed);
  if (const auto text = row.OptionalText(5)) {
    attempt.failure = FailureFrom(*text).value_or(FailureCode::kInternal);
  }
  attempt.detail = row.Text(6);
  attempt.retry = static_cast<int>(row.Int(7));
  attempt.hedge = row.Bool(8);
  attempt.usage = {row.Int(9), row.Int(10), row.Int(11)};
  attempt.usage_estimated = row.Bool(12);
  attempt.started_ms = row.Real(13);
  attempt.ttft_ms = row.OptionalReal(14);
  attempt.ended_ms = row.Real(15);
  attempt.text_begin = static_cast<uint64_t>(row.Int(16));
  attempt.text_end = static_cast<uint64_t>(row.Int(17));
  if (const auto destination = row.OptionalText(18)) {
    attempt.egress = Egress{*destination, static_cast<uint64_t>(row.OptionalInt(19).value_or(0)),
                            row.OptionalText(20).value_or("")};
  }
  if (const auto ms = row.OptionalInt(22)) attempt.retry_after = std::chrono::milliseconds(*ms);
  return {std::move(attempt), row.OptionalInt(21)};
}

Status ReadAttempts(store::Queries& queries, UsageRecord* record) {
  return queries.ForEach(
      "SELECT target, model, tier, reason, outcome, failure, detail, retry, hedge, prompt_tokens, "
      "completion_tokens, cached_tokens, usage_estimated, started_ms, ttft_ms, ended_ms, "
      "text_begin, text_end, egress_destination, egress_bytes, egress_sha256, cost_nano_usd, "
      "retry_after_ms "
      "FROM usage_attempts WHERE request_id = $1 ORDER BY number",
      {record->request_id}, [&](const Row& row) { record->attempts.push_back(ReadAttempt(row)); });
}

// What belongs to whole requests, group by group.
Status SumRequests(store::Queries& queries, const UsageQuery& query, GroupBy by,
                   std::map<std::string, UsageSum>* sums) {
  const std::string_view column = ColumnsOf(by).of_request;
  // One group after the other, so that there are two histograms at a time, not two for each.
  UsageSum* sum = nullptr;
  metrics::Histogram ttft;
  metrics::Histogram e2e;
  const auto finish = [&] {
    if (sum == nullptr) return;
    sum->ttft_ms = QuantilesOf(ttft);
    sum->e2e_ms = QuantilesOf(e2e);
    ttft.Clear();
    e2e.Clear();
  };
  std::string group;
  TANDEM_RETURN_IF_ERROR(queries.ForEach(
      fmt::format("SELECT {}, r.failure IS NOT NULL, r.client_gone, r.reference_nano_usd, "
                  "r.unpriced, r.ttft_ms, r.e2e_ms FROM usage_records r WHERE {} ORDER BY 1",
                  column, kInQuery),
      {query.since_ms, query.until_ms, query.account}, [&](const Row& row) {
        if (std::string name = row.Text(0); sum == nullptr || name != group) {
          finish();
          group = std::move(name);
          sum = &(*sums)[group];
        }
        const bool failed = row.Bool(1);
        const bool client_gone = row.Bool(2);
        ++sum->requests;
        sum->failed += failed ? 1 : 0;
        sum->client_gone += client_gone ? 1 : 0;
        sum->reference = SaturatingAdd(sum->reference, row.Int(3));
        sum->unpriced += row.Bool(4) ? 1 : 0;
        if (const auto ms = row.OptionalReal(5)) ttft.Add(*ms);
        // How long a request took that did not come to its end says nothing about the others.
        if (!failed && !client_gone) e2e.Add(row.Real(6));
      }));
  finish();
  return {};
}

// What belongs to single calls.
Status SumCalls(store::Queries& queries, const UsageQuery& query, GroupBy by,
                std::map<std::string, UsageSum>* sums) {
  const std::string_view column = ColumnsOf(by).of_call;
  // PostgreSQL's sums of BIGINT are NUMERIC, hence the casts.
  return queries.ForEach(
      fmt::format("SELECT {}, COUNT(*), "
                  "CAST(SUM(CASE WHEN a.outcome = 'handed_off' THEN 1 ELSE 0 END) AS BIGINT), "
                  "CAST(SUM(a.prompt_tokens) AS BIGINT), CAST(SUM(a.completion_tokens) AS BIGINT), "
                  "CAST(SUM(a.cached_tokens) AS BIGINT), "
                  "CAST(SUM(COALESCE(a.cost_nano_usd, 0)) AS BIGINT) "
                  "FROM usage_attempts a JOIN usage_records r ON r.request_id = a.request_id "
                  "WHERE {} AND a.outcome <> 'skipped' GROUP BY 1",
                  column, kInQuery),
      {query.since_ms, query.until_ms, query.account}, [&](const Row& row) {
        UsageSum& sum = (*sums)[row.Text(0)];
        sum.calls = row.Int(1);
        sum.handed_off = row.Int(2);
        sum.usage = {row.Int(3), row.Int(4), row.Int(5)};
        sum.cost = row.Int(6);
      });
}

struct Cursor {
  int64_t started_at_ms = std::numeric_limits<int64_t>::max();
  std::string request_id;
};

// "1767225600000.req-..."
Result<Cursor> ParseCursor(std::string_view text) {
  Cursor cursor;
  if (text.empty()) return cursor;
  const size_t dot = text.find('.');
  const auto number = text.substr(0, dot);
  const auto [end, error] =
      std::from_chars(number.data(), number.data() + number.size(), cursor.started_at_ms);
  if (dot == std::string_view::npos || error != std::errc() ||
      end != number.data() + number.size()) {
    return Err(ErrorCode::kInvalidArgument,
               "'{}' is no cursor; take `next` of the page before as it is", text);
  }
  cursor.request_id = text.substr(dot + 1);
  return cursor;
}

}  // namespace

std::string_view GroupByName(GroupBy by) {
  switch (by) {
    case GroupBy::kAll:
      return "all";
    case GroupBy::kModel:
      return "model";
    case GroupBy::kTier:
      return "tier";
    case GroupBy::kKey:
      return "key";
    case GroupBy::kDay:
      return "day";
  }
  return "unknown";
}

Result<GroupBy> ParseGroupBy(std::string_view name) {
  for (const GroupBy by : kGroupings) {
    if (name == GroupByName(by)) return by;
  }
  return Err(ErrorCode::kInvalidArgument,
             "usage cannot be grouped by '{}'; use one of all, model, tier, key, day", name);
}

Result<std::vector<UsageSum>> UsageReader::Sum(const UsageQuery& query, GroupBy by) {
  std::map<std::string, UsageSum> sums;
  {
    // One view for both, so that the writer's next batch is in both or in none.
    TANDEM_ASSIGN_OR_RETURN(store::Transaction read, database_->BeginRead());
    TANDEM_RETURN_IF_ERROR(SumRequests(read, query, by, &sums));
    TANDEM_RETURN_IF_ERROR(SumCalls(read, query, by, &sums));
  }
  std::vector<UsageSum> result;
  for (auto& [group, sum] : sums) {
    sum.group = by == GroupBy::kDay ? DayName(group) : group;
    result.push_back(std::move(sum));
  }
  std::ranges::sort(result, {}, &UsageSum::group);
  return result;
}

Result<UsagePage> UsageReader::List(const UsageQuery& query, int limit, std::string_view cursor) {
  if (limit < 1 || limit > kMaxPage) {
    return Err(ErrorCode::kInvalidArgument, "a page has 1 to {} records, not {}", kMaxPage, limit);
  }
  TANDEM_ASSIGN_OR_RETURN(const Cursor from, ParseCursor(cursor));
  static const std::string kSql = fmt::format(
      "SELECT {} FROM usage_records r WHERE {} AND "
      "(r.started_at_ms < $4 OR (r.started_at_ms = $4 AND r.request_id < $5)) "
      "ORDER BY r.started_at_ms DESC, r.request_id DESC LIMIT $6",
      RecordColumns(/*with_texts=*/false), kInQuery);
  UsagePage page;
  // One more than asked for tells whether there is another page.
  TANDEM_ASSIGN_OR_RETURN(
      page.records, database_->Query<UsageRecord>(kSql,
                                                  {query.since_ms, query.until_ms, query.account,
                                                   from.started_at_ms, from.request_id, limit + 1},
                                                  ReadRecord));
  if (page.records.size() > static_cast<size_t>(limit)) {
    page.records.pop_back();
    const UsageRecord& last = page.records.back();
    page.next = fmt::format("{}.{}", last.started_at_ms, last.request_id);
  }
  return page;
}

Result<std::optional<UsageRecord>> UsageReader::Find(std::string_view request_id) {
  static const std::string kById = fmt::format(
      "SELECT {} FROM usage_records r WHERE r.request_id = $1", RecordColumns(/*with_texts=*/true));
  static const std::string kByClientId = fmt::format(
      "SELECT {} FROM usage_records r WHERE r.client_request_id = $1 "
      "ORDER BY r.started_at_ms DESC, r.request_id DESC LIMIT 1",
      RecordColumns(/*with_texts=*/true));
  TANDEM_ASSIGN_OR_RETURN(store::Transaction read, database_->BeginRead());
  TANDEM_ASSIGN_OR_RETURN(std::optional<UsageRecord> record,
                          read.QueryOne<UsageRecord>(kById, {request_id}, ReadRecord));
  if (!record) {
    TANDEM_ASSIGN_OR_RETURN(record,
                            read.QueryOne<UsageRecord>(kByClientId, {request_id}, ReadRecord));
  }
  if (record) TANDEM_RETURN_IF_ERROR(ReadAttempts(read, &*record));
  return record;
}

Result<std::vector<std::string>> UsageReader::RecentReceipts(int limit, std::string_view text) {
  return database_->Query<std::string>(
      "SELECT receipt FROM usage_records WHERE receipt <> '' "
      "AND ($2 = '' OR receipt LIKE '%' || $2 || '%') ORDER BY started_at_ms DESC LIMIT $1",
      {limit, text}, [](const Row& row) { return row.Text(0); });
}

Result<std::vector<AccountSpend>> UsageReader::Spent() {
  return database_->Query<AccountSpend>(
      "SELECT account, month, cost_nano_usd FROM usage_spend ORDER BY account, month", {},
      [](const Row& row) { return AccountSpend{row.Text(0), row.Int(1), row.Int(2)}; });
}

Result<int64_t> UsageReader::DeleteBefore(int64_t before_ms) {
  int64_t n_deleted = 0;
  while (true) {
    // Their attempts go with them, by the foreign key.
    TANDEM_ASSIGN_OR_RETURN(
        const int64_t n,
        database_->Execute(
            "DELETE FROM usage_records WHERE request_id IN (SELECT request_id FROM "
            "usage_records WHERE started_at_ms < $1 ORDER BY started_at_ms LIMIT $2)",
            {before_ms, kDeleteStep}));
    n_deleted += n;
    if (n < kDeleteStep) return n_deleted;
  }
}

}  // namespace tandem::gateway::usage
