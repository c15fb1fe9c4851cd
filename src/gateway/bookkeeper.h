// What becomes of the record of a finished request: its price, figures, budget, receipt and place
// in the store.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "gateway/auth/budget.h"
#include "gateway/dispatch/routed_request.h"
#include "gateway/privacy/receipt.h"
#include "gateway/usage/metrics.h"
#include "gateway/usage/prices.h"
#include "gateway/usage/usage_writer.h"

namespace tandem::gateway {

// Which requests get a signed receipt.
enum class Receipts {
  kAll,
  kEgress,  // those of which something left this device, or that were not to leave it as they are
  kNone,
};
// "all", "egress", "none". ParseReceipts gives kInvalidArgument with the list of names.
std::string_view ReceiptsName(Receipts receipts);
Result<Receipts> ParseReceipts(std::string_view name);

// What a usage writer does last with its records: signs a receipt for each that wants one, all with
// one signature. `signer` outlives the writer.
usage::FinishRecords SignReceipts(privacy::ReceiptSigner* signer);

// Thread: any.
class Bookkeeper final : public dispatch::RecordSink {
 public:
  struct Parts {
    usage::PriceTable prices;
    std::string reference_model;           // whose price savings are measured against
    usage::UsageWriter* writer = nullptr;  // with SignReceipts; both outlive the bookkeeper
    usage::UsageMetrics* metrics = nullptr;
    Receipts receipts = Receipts::kAll;
    bool log_egress = false;  // a line for each call that sent something
    const Clock* clock = nullptr;
  };
  explicit Bookkeeper(Parts parts);
  // Money that was put aside for a request; settled with what it did cost when its record comes,
  // which must be after this.
  void Reserve(const std::string& request_id, auth::BudgetReservation reservation);
  // Gives it back: there will be no record.
  void Release(const std::string& request_id);

  void Keep(usage::UsageRecord record, AnswerFigures answer) override;

  // Other prices from now on.
  void SetPrices(usage::PriceTable prices);
  // What a call would cost now, for reservations; nothing where its model has no price.
  std::optional<usage::NanoUsd> Estimate(std::string_view model, Tier tier,
                                         const Usage& usage) const;

  // Waits until everything kept before is in the store. False: not within `timeout`.
  bool Flush(std::chrono::milliseconds timeout) { return parts_.writer->Flush(timeout); }

 private:
  bool WantsReceipt(const usage::UsageRecord& record) const;

  const Parts parts_;
  mutable std::mutex mutex_;  // guards both below
  std::shared_ptr<const usage::PriceTable> prices_;
  std::map<std::string, auth::BudgetReservation, std::less<>> reservations_;
};

}  // namespace tandem::gateway
