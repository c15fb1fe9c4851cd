// What keys may still spend. In memory: the persisted sums come in at the start, and what is
// settled from then on is persisted by whoever keeps the usage records.
//
// A request reserves what it will probably cost before it is admitted, and settles what it did cost
// when it ends; so many requests at once cannot spend the same dollar. How far a budget can be
// overshot: by the sum, over the requests that run at the same time, of what each costs beyond its
// reservation; a reservation for the whole of max_tokens cannot be exceeded. Nodes that share a
// database share the money by a BudgetPool; without one, several processes over one database know
// each other's spending from their start only.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "gateway/auth/budget_pool.h"
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
  // With a `pool`, which outlives the object, reservations are made of what was taken out of it: in
  // portions, so that most of them need no database.
  BudgetLedger(const Clock* clock, const std::vector<Spend>& spent, BudgetPool* pool = nullptr);
  ~BudgetLedger();

  // Also for accounts without a budget, so that a later budget knows what was spent.
  // What costs nothing (`estimate_nano_usd` 0) needs no budget and is always admitted.
  // Errors: kResourceExhausted where spent and reserved money leave less than the estimate; the
  // message says how much there is and when there will be more. With a pool also the database's:
  // while it is lost, what this node had taken out is all that can be spent.
  Result<BudgetReservation> Reserve(std::string_view account, const std::optional<Budget>& budget,
                                    int64_t estimate_nano_usd);

  // What may still be reserved; never negative. With a pool: as far as was last seen.
  int64_t Left(std::string_view account, const Budget& budget) const;
  // Gives what lies unused back to the pool, for the other nodes; meant to be called now and then,
  // and at the end. Errors: the database's; nothing is lost then.
  Status GiveBack();
  // Settled in the budget's current period.
  int64_t Spent(std::string_view account, BudgetPeriod period) const;

 private:
  struct State;
  Status TakeFromPool(const BudgetPurse& purse, const Budget& budget, int64_t estimate_nano_usd);
  std::unexpected<Error> Exhausted(const Budget& budget, int64_t spent, int64_t reserved,
                                   int64_t estimate) const;
  const Clock* const clock_;
  BudgetPool* const pool_;
  const std::shared_ptr<State> state_;
  friend class BudgetReservation;
};

}  // namespace tandem::gateway::auth
