// The money of budgets that several nodes spend, in the database that they share: a node takes some
// out before it admits requests, and gives back what it does not need. All that was taken and not
// given back counts as spent, so that nodes together never admit more than a budget holds. What a
// node had taken when it died stays taken.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "store/database.h"

namespace tandem::gateway::auth {

// Which money: of an account, in a month (202611, UTC) or, with 0, for ever.
struct BudgetPurse {
  std::string account;
  int64_t month = 0;

  friend auto operator<=>(const BudgetPurse&, const BudgetPurse&) = default;
};

// Thread: any.
class BudgetPool {
 public:
  virtual ~BudgetPool() = default;

  struct Taken {
    int64_t nano_usd = 0;  // at least what is needed
    int64_t left = 0;      // there still is for any node
  };
  // `wanted` or what there is, but not less than `needed`. `spent`: what the records say was spent,
  // for the first time that anyone takes from this purse.
  // Errors: kResourceExhausted where less than `needed` is left; the database's.
  virtual Result<Taken> Take(const BudgetPurse& purse, int64_t limit, int64_t needed,
                             int64_t wanted, int64_t spent) = 0;
  // Negative for what was spent beyond what was taken.
  virtual Status GiveBack(const BudgetPurse& purse, int64_t nano_usd) = 0;
};

class SqlBudgetPool final : public BudgetPool {
 public:
  // After MigrateAuth. `database` outlives the object.
  explicit SqlBudgetPool(store::Database* database) : database_(database) {}
  Result<Taken> Take(const BudgetPurse& purse, int64_t limit, int64_t needed, int64_t wanted,
                     int64_t spent) override;
  Status GiveBack(const BudgetPurse& purse, int64_t nano_usd) override;

 private:
  store::Database* const database_;
};

}  // namespace tandem::gateway::auth
