#include "gateway/auth/budget.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "base/check.h"

namespace tandem::gateway::auth {
namespace {

constexpr double kNanoPerUsd = 1e9;

// 202611, UTC.
int64_t MonthOf(SystemTime time) {
  const std::chrono::year_month_day day(std::chrono::floor<std::chrono::days>(time));
  return int64_t{100} * static_cast<int>(day.year()) + static_cast<unsigned>(day.month());
}

int64_t AddUpTo(int64_t a, int64_t b) {
  int64_t sum = 0;
  return __builtin_add_overflow(a, b, &sum) ? std::numeric_limits<int64_t>::max() : sum;
}

struct Sums {
  int64_t spent = 0;
  int64_t reserved = 0;
};

struct Account {
  Sums total;
  std::map<int64_t, Sums> months;
};

BudgetPurse PurseOf(std::string_view account, const Budget& budget, int64_t month) {
  return {std::string(account), budget.period == BudgetPeriod::kMonth ? month : 0};
}

std::string AsUsd(int64_t nano_usd) {
  return fmt::format("{:.6f}", static_cast<double>(nano_usd) / kNanoPerUsd);
}

}  // namespace

struct BudgetLedger::State {
  // What this node took out of the pool.
  struct Wallet {
    int64_t free = 0;  // neither reserved nor spent; negative: spent beyond what was taken
    std::optional<int64_t> left_in_pool;
  };

  mutable std::mutex mutex;  // guards all below
  std::map<std::string, Account, std::less<>> accounts;
  std::map<BudgetPurse, Wallet> wallets;

  // A copy; of nothing where the account is unknown.
  Sums Find(std::string_view account, BudgetPeriod period, int64_t month) const {
    const auto found = accounts.find(account);
    if (found == accounts.end()) return {};
    if (period == BudgetPeriod::kTotal) return found->second.total;
    const auto of_month = found->second.months.find(month);
    return of_month == found->second.months.end() ? Sums{} : of_month->second;
  }
};

// Where a reservation's money lies.
struct BudgetReservation::Place {
  std::shared_ptr<BudgetLedger::State> state;
  std::string account;
  int64_t month = 0;
  int64_t reserved = 0;
  std::optional<BudgetPurse> purse;  // whose wallet holds it

  void Close(int64_t spent) {
    std::lock_guard lock(state->mutex);
    if (purse) state->wallets[*purse].free += reserved - spent;
    Account& sums = state->accounts[account];
    for (Sums* of : {&sums.total, &sums.months[month]}) {
      of->reserved -= reserved;
      of->spent = AddUpTo(of->spent, spent);
    }
  }
};

BudgetReservation::BudgetReservation(std::unique_ptr<Place> place) : place_(std::move(place)) {}
BudgetReservation::BudgetReservation() = default;
BudgetReservation::BudgetReservation(BudgetReservation&& other) noexcept = default;

BudgetReservation& BudgetReservation::operator=(BudgetReservation&& other) noexcept {
  if (this != &other) {
    if (place_ != nullptr) place_->Close(0);
    place_ = std::move(other.place_);
  }
  return *this;
}

BudgetReservation::~BudgetReservation() {
  if (place_ != nullptr) place_->Close(0);
}

void BudgetReservation::Settle(int64_t cost_nano_usd) {
  if (place_ == nullptr) return;
  place_->Close(std::max<int64_t>(0, cost_nano_usd));
  place_.reset();
}

BudgetLedger::BudgetLedger(const Clock* clock, const std::vector<Spend>& spent, BudgetPool* pool)
    : clock_(clock), pool_(pool), state_(std::make_shared<State>()) {
  for (const Spend& spend : spent) {
    Account& account = state_->accounts[spend.account];
    account.total.spent = AddUpTo(account.total.spent, spend.nano_usd);
    int64_t& of_month = account.months[spend.month].spent;
    of_month = AddUpTo(of_month, spend.nano_usd);
  }
}

BudgetLedger::~BudgetLedger() = default;

std::unexpected<Error> BudgetLedger::Exhausted(const Budget& budget, int64_t spent,
                                               int64_t reserved, int64_t estimate) const {
  const bool month = budget.period == BudgetPeriod::kMonth;
  return Err(ErrorCode::kResourceExhausted,
             "this key's budget of {} USD{} does not suffice: {} USD are spent, {} USD are "
             "reserved by running requests, and this one may cost {} USD; {}",
             AsUsd(budget.limit_nano_usd), month ? " a month" : "", AsUsd(spent), AsUsd(reserved),
             AsUsd(estimate),
             month ? "ask for less, or wait for the next month (UTC)"
                   : "ask for less, or for a key with a larger budget");
}

// Moves the money from the wallet into the caller's hand, and into the wallet what it lacks.
Status BudgetLedger::TakeFromPool(const BudgetPurse& purse, const Budget& budget,
                                  int64_t estimate_nano_usd) {
  while (true) {
    int64_t needed = 0;
    Sums sums;
    {
      std::lock_guard lock(state_->mutex);
      State::Wallet& wallet = state_->wallets[purse];
      if (wallet.free >= estimate_nano_usd) {
        wallet.free -= estimate_nano_usd;
        return {};
      }
      needed = estimate_nano_usd - wallet.free;
      sums = state_->Find(purse.account, budget.period, purse.month);
    }
    // Portions: large enough that most requests need no database, small enough that the others
    // still find something.
    const int64_t wanted = std::min(AddUpTo(needed, 8 * std::min(needed, budget.limit_nano_usd)),
                                    budget.limit_nano_usd / 16);
    const auto taken = pool_->Take(purse, budget.limit_nano_usd, needed, wanted, sums.spent);
    if (!taken && taken.error().code == ErrorCode::kResourceExhausted) {
      {
        std::lock_guard lock(state_->mutex);
        state_->wallets[purse].left_in_pool = 0;
      }
      return Exhausted(budget, std::max<int64_t>(0, budget.limit_nano_usd - sums.reserved),
                       sums.reserved, estimate_nano_usd);
    }
    TANDEM_RETURN_IF_ERROR(taken);
    std::lock_guard lock(state_->mutex);
    State::Wallet& wallet = state_->wallets[purse];
    wallet.free += taken->nano_usd;
    wallet.left_in_pool = taken->left;
  }
}

Status BudgetLedger::GiveBack() {
  if (pool_ == nullptr) return {};
  std::map<BudgetPurse, State::Wallet> wallets;
  {
    std::lock_guard lock(state_->mutex);
    wallets = state_->wallets;
  }
  for (const auto& [purse, seen] : wallets) {
    int64_t free = 0;
    {
      std::lock_guard lock(state_->mutex);
      free = std::exchange(state_->wallets[purse].free, 0);
    }
    if (free == 0) continue;
    const Status given = pool_->GiveBack(purse, free);
    std::lock_guard lock(state_->mutex);
    State::Wallet& wallet = state_->wallets[purse];
    if (!given) {
      wallet.free += free;
      return given;
    }
    if (wallet.left_in_pool) *wallet.left_in_pool += free;
  }
  return {};
}

Result<BudgetReservation> BudgetLedger::Reserve(std::string_view account,
                                                const std::optional<Budget>& budget,
                                                int64_t estimate_nano_usd) {
  TANDEM_CHECK(estimate_nano_usd >= 0);
  const SystemTime now = clock_->SystemNow();
  auto place = std::make_unique<BudgetReservation::Place>();
  place->state = state_;
  place->account = account;
  place->month = MonthOf(now);
  place->reserved = estimate_nano_usd;
  if (budget && estimate_nano_usd > 0 && pool_ != nullptr) {
    place->purse = PurseOf(account, *budget, place->month);
    TANDEM_RETURN_IF_ERROR(TakeFromPool(*place->purse, *budget, estimate_nano_usd));
  }
  std::lock_guard lock(state_->mutex);
  if (budget && estimate_nano_usd > 0 && pool_ == nullptr) {
    const Sums sums = state_->Find(account, budget->period, place->month);
    if (AddUpTo(AddUpTo(sums.spent, sums.reserved), estimate_nano_usd) > budget->limit_nano_usd) {
      return Exhausted(*budget, sums.spent, sums.reserved, estimate_nano_usd);
    }
  }
  Account& sums = state_->accounts[place->account];
  sums.total.reserved += estimate_nano_usd;
  sums.months[place->month].reserved += estimate_nano_usd;
  // Past months matter only to requests that began in them.
  std::erase_if(sums.months, [&](const auto& entry) {
    return entry.first < place->month && entry.second.reserved == 0;
  });
  return BudgetReservation(std::move(place));
}

int64_t BudgetLedger::Left(std::string_view account, const Budget& budget) const {
  std::lock_guard lock(state_->mutex);
  if (pool_ != nullptr) {
    const auto wallet =
        state_->wallets.find(PurseOf(account, budget, MonthOf(clock_->SystemNow())));
    if (wallet != state_->wallets.end() && wallet->second.left_in_pool) {
      return std::max<int64_t>(0, *wallet->second.left_in_pool + wallet->second.free);
    }
  }
  const Sums sums = state_->Find(account, budget.period, MonthOf(clock_->SystemNow()));
  return std::max<int64_t>(0, budget.limit_nano_usd - AddUpTo(sums.spent, sums.reserved));
}

int64_t BudgetLedger::Spent(std::string_view account, BudgetPeriod period) const {
  std::lock_guard lock(state_->mutex);
  return state_->Find(account, period, MonthOf(clock_->SystemNow())).spent;
}

}  // namespace tandem::gateway::auth
