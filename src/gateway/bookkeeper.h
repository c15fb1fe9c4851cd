// What becomes of the record of a finished request: its price, figures, budget, receipt and place
// in the store.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "base/bounded_queue.h"
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

// Thread: any. Signing (some 60 us each) has a thread of its own.
class Bookkeeper final : public dispatch::RecordSink {
 public:
  struct Parts {
    usage::PriceTable prices;
    std::string reference_model;           // whose price savings are measured against
    usage::UsageWriter* writer = nullptr;  // all of these outlive the bookkeeper
    usage::UsageMetrics* metrics = nullptr;
    privacy::ReceiptSigner* signer = nullptr;  // null: no receipts
    Receipts receipts = Receipts::kAll;
    bool log_egress = false;  // a line for each call that sent something
    const Clock* clock = nullptr;
  };
  explicit Bookkeeper(Parts parts);
  // Signs and hands over what waits.
  ~Bookkeeper() override;

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
  bool Flush(std::chrono::milliseconds timeout);

  static constexpr size_t kMaxUnsigned = 4096;

 private:
  struct Unsigned {
    usage::UsageRecord record;
    std::string answer_sha256;
    std::function<void()> marker;  // set: nothing to sign, somebody waits for the queue
  };
  bool WantsReceipt(const usage::UsageRecord& record) const;
  void Run();

  const Parts parts_;
  mutable std::mutex mutex_;  // guards all three below
  std::shared_ptr<const usage::PriceTable> prices_;
  std::map<std::string, auth::BudgetReservation, std::less<>> reservations_;
  bool warned_ = false;
  BoundedQueue<Unsigned> queue_{kMaxUnsigned};
  std::jthread signer_thread_;  // last: it uses all above
};

}  // namespace tandem::gateway
