#include "gateway/auth/budget_pool.h"

#include <algorithm>
#include <optional>

namespace tandem::gateway::auth {

Result<BudgetPool::Taken> SqlBudgetPool::Take(const BudgetPurse& purse, int64_t limit,
                                              int64_t needed, int64_t wanted, int64_t spent) {
  TANDEM_ASSIGN_OR_RETURN(store::Transaction transaction, database_->BeginWrite());
  TANDEM_ASSIGN_OR_RETURN(
      const std::optional<int64_t> before,
      transaction.QueryOne<int64_t>(
          "SELECT nano_usd FROM budget_taken WHERE account = $1 AND month = $2",
          {purse.account, purse.month}, [](const store::Row& row) { return row.Int(0); }));
  const int64_t taken = before.value_or(spent);
  const int64_t left = std::max<int64_t>(0, limit - taken);
  if (left < needed) {
    return Err(ErrorCode::kResourceExhausted, "{} nano-USD are left of the budget", left);
  }
  const int64_t take = std::min(left, std::max(needed, wanted));
  TANDEM_RETURN_IF_ERROR(
      transaction.Execute("INSERT INTO budget_taken (account, month, nano_usd) VALUES ($1, $2, $3) "
                          "ON CONFLICT (account, month) DO UPDATE SET nano_usd = excluded.nano_usd",
                          {purse.account, purse.month, taken + take}));
  TANDEM_RETURN_IF_ERROR(transaction.Commit());
  return Taken{take, left - take};
}

Status SqlBudgetPool::GiveBack(const BudgetPurse& purse, int64_t nano_usd) {
  TANDEM_RETURN_IF_ERROR(database_->Execute(
      "UPDATE budget_taken SET nano_usd = nano_usd - $3 WHERE account = $1 AND month = $2",
      {purse.account, purse.month, nano_usd}));
  return {};
}

}  // namespace tandem::gateway::auth
