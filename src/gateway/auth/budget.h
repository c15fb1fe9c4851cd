// What keys may still spend. In memory: the persisted sums come in at the start, and what is
// settled from then on is persisted by whoever keeps the usage records.
//
// A request reserves what it will probably cost before it is admitted, and settles what it did cost
// when it ends; so many requests at once cannot spend the same dollar. How far a budget can be
// overshot: by the sum, over the requests that run at the same time, of what each costs beyond its
// reservation; a reservation for the whole of max_tokens cannot be exceeded. Several processes over
// one database know each other's spending from their start only.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "gateway/auth/key_policy.h"

namespace tandem::gateway::auth {

// What an account (KeyRecord::account) spent in one month.
struct Spend {
  std::string account;
  int64_t month = 0;  // 202611, UTC
  int64_t nano_usd = 0;
};

class BudgetLedger;

// Money put aside for one request. Given back when it is destroyed without having been settled. May
// outlive the ledger. Thread: one at a time.
class BudgetReservation {
 public:
  BudgetReservation();  // of nothing
  BudgetReservation(BudgetReservation&& other) noexcept;
  BudgetReservation& operator=(BudgetReservation&& other) noexcept;
  ~BudgetReservation();

  // What the request did cost, in place of what was reserved. Once.
  void Settle(int64_t cost_nano_usd);

 private:
  friend class BudgetLedger;
  struct Place;
  explicit BudgetReservation(std::unique_ptr<Place> place);
  std::unique_ptr<Place> place_;  // null: settled or of nothing
};

// Thread: any.
class BudgetLedger {
 public:
  // `spent`: what was persisted so far; several for the same account and month add up. `clock` must
  // outlive this object.
  BudgetLedger(const Clock* clock, const std::vector<Spend>& spent);
  ~BudgetLedger();

  // Also for accounts without a budget, so that a later budget knows what was spent.
  // What costs nothing (`estimate_nano_usd` 0) needs no budget and is always admitted.
  // Errors: kResourceExhausted where spent and reserved money leave less than the estimate; the
  // message says how much there is and when there will be more.
  Result<BudgetReservation> Reserve(std::string_view account, const std::optional<Budget>& budget,
                                    int64_t estimate_nano_usd);

  // What may still be reserved; never negative.
  int64_t Left(std::string_view account, const Budget& budget) const;
  // Settled in the budget's current period.
  int64_t Spent(std::string_view account, BudgetPeriod period) const;

 private:
  struct State;
  const Clock* const clock_;
  const std::shared_ptr<State> state_;
  friend class BudgetReservation;
};

}  // namespace tandem::gateway::auth
