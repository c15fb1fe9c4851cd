// Records in the database: usage_records has one row for each request, usage_attempts one for each
// call of a provider, usage_spend what each account spent in each
// month. docs/usage.md explains them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "gateway/usage/usage_store.h"
#include "store/database.h"

namespace tandem::gateway::usage {

// Year and month of an instant, UTC: 202611.
int64_t MonthOf(int64_t unix_ms);

class SqlUsageStore final : public UsageStore {
 public:
  // Makes or upgrades the tables. `database` must outlive this object.
  // Errors: the database's; kFailedPrecondition where a newer Tandem made the tables.
  static Result<std::unique_ptr<SqlUsageStore>> Open(store::Database* database);

  // The records, their attempts and the spent sums change together, so that a bill and a budget
  // never tell different stories.
  Result<std::vector<std::string>> Append(std::span<const UsageRecord> records) override;

 private:
  explicit SqlUsageStore(store::Database* database) : database_(database) {}
  store::Database* const database_;
};

}  // namespace tandem::gateway::usage
