// What the records say: sums, single requests, what keys spent. For bills, savings and dashboards.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "gateway/usage/record.h"
#include "store/database.h"

namespace tandem::gateway::usage {

// Which requests: those that arrived in [since_ms, until_ms).
struct UsageQuery {
  int64_t since_ms = 0;
  int64_t until_ms = std::numeric_limits<int64_t>::max();
  std::string account = {};  // of a key and those that it replaced; empty: all
};

enum class GroupBy { kAll, kModel, kTier, kKey, kDay };

// "all", "model", "tier", "key", "day". ParseGroupBy: kInvalidArgument with the list of names.
std::string_view GroupByName(GroupBy by);
Result<GroupBy> ParseGroupBy(std::string_view name);

struct LatencyQuantiles {
  int64_t count = 0;
  double p50 = 0;
  double p95 = 0;
  double p99 = 0;
};

// One group. By model and by tier, what belongs to a call (calls, tokens, cost) counts where it was
// made, and what belongs to the whole request (requests, failures, reference, latency) where its
// answer came from; a request that nobody answered is in the group "". So every grouping has the
// same totals.
struct UsageSum {
  std::string group;  // a model, a tier, an account, a day ("2026-11-23", UTC); "" with kAll
  int64_t requests = 0;
  int64_t failed = 0;
  int64_t client_gone = 0;
  int64_t handed_off = 0;  // calls whose answer another provider had to continue
  int64_t calls = 0;       // of providers; those that were skipped are not
  Usage usage;             // of all calls, also of those that were in vain
  NanoUsd cost = 0;
  NanoUsd reference = 0;  // of the cloud alone; less cost: the savings
  int64_t unpriced = 0;   // requests whose cost is not wholly known
  LatencyQuantiles ttft_ms;
  LatencyQuantiles e2e_ms;
};

struct UsagePage {
  std::vector<UsageRecord> records;  // without attempts, decision and receipt
  std::string next;                  // the cursor of the following page; empty: this is the last
};

// What a key and those that it replaced spent in one month.
struct AccountSpend {
  std::string account;
  int64_t month = 0;  // 202611, UTC
  NanoUsd cost = 0;

  friend bool operator==(const AccountSpend&, const AccountSpend&) = default;
};

// Thread: any. Reads run beside the writer and see its last batch.
// Errors: the database's.
class UsageReader {
 public:
  // `database` must outlive this object and have the tables (SqlUsageStore::Open).
  explicit UsageReader(store::Database* database) : database_(database) {}

  // By group, ascending. Cost: reads every record in the time asked for.
  Result<std::vector<UsageSum>> Sum(const UsageQuery& query, GroupBy by);

  // Newest first. `cursor`: empty, or `next` of the page before; new records do not shift the
  // pages. `limit` is 1 to 1000. Errors: kInvalidArgument for either.
  Result<UsagePage> List(const UsageQuery& query, int limit, std::string_view cursor = {});

  // By the server's request id, else the newest with that id from the client; nothing where there
  // is none.
  Result<std::optional<UsageRecord>> Find(std::string_view request_id);

  // The receipts of the newest records that have one, at most so many; only those in which `text`
  // occurs, where it is not empty.
  Result<std::vector<std::string>> RecentReceipts(int limit, std::string_view text = {});

  // By account and month; also of records that are deleted by now.
  Result<std::vector<AccountSpend>> Spent();

  // Deletes records from before `before_ms`; what was spent stays. Returns how many. In steps, so
  // that the writer gets its turns.
  Result<int64_t> DeleteBefore(int64_t before_ms);

 private:
  store::Database* const database_;
};

}  // namespace tandem::gateway::usage
