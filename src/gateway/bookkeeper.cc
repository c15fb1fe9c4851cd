#include "gateway/bookkeeper.h"

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "base/log.h"

namespace tandem::gateway {

std::string_view ReceiptsName(Receipts receipts) {
  switch (receipts) {
    case Receipts::kAll:
      return "all";
    case Receipts::kEgress:
      return "egress";
    case Receipts::kNone:
      return "none";
  }
  return "unknown";
}

Result<Receipts> ParseReceipts(std::string_view name) {
  for (const Receipts receipts : {Receipts::kAll, Receipts::kEgress, Receipts::kNone}) {
    if (ReceiptsName(receipts) == name) return receipts;
  }
  return Err(ErrorCode::kInvalidArgument, "unknown receipts '{}'; use one of all, egress, none",
             name);
}

usage::FinishRecords SignReceipts(privacy::ReceiptSigner* signer) {
  return [signer](std::span<usage::UsageRecord> records) {
    std::vector<usage::UsageRecord*> wanted;
    std::vector<privacy::ReceiptFacts> batch;
    for (usage::UsageRecord& record : records) {
      if (!record.wants_receipt) continue;
      wanted.push_back(&record);
      privacy::ReceiptFacts& facts = batch.emplace_back(
          privacy::ReceiptFacts{.request_id = record.request_id,
                                .time = SystemTime(std::chrono::milliseconds(record.started_at_ms)),
                                .policy_sha256 = record.strategy_version,
                                .privacy = record.privacy,
                                .key_id = record.key_id,
                                .answer_sha256 = record.answer_sha256});
      for (const usage::PricedAttempt& attempt : record.attempts) {
        facts.attempts.push_back(attempt.attempt);
      }
    }
    std::vector<std::string> receipts = signer->Sign(batch);
    for (size_t i = 0; i < wanted.size(); ++i) wanted[i]->receipt_json = std::move(receipts[i]);
  };
}

Bookkeeper::Bookkeeper(Parts parts)
    : parts_(std::move(parts)), prices_(std::make_shared<const usage::PriceTable>(parts_.prices)) {}

void Bookkeeper::Reserve(const std::string& request_id, auth::BudgetReservation reservation) {
  std::lock_guard lock(mutex_);
  reservations_.insert_or_assign(request_id, std::move(reservation));
}

void Bookkeeper::Release(const std::string& request_id) {
  std::lock_guard lock(mutex_);
  reservations_.erase(request_id);
}

void Bookkeeper::SetPrices(usage::PriceTable prices) {
  auto next = std::make_shared<const usage::PriceTable>(std::move(prices));
  std::lock_guard lock(mutex_);
  prices_ = std::move(next);
}

std::optional<usage::NanoUsd> Bookkeeper::Estimate(std::string_view model, Tier tier,
                                                   const Usage& usage) const {
  std::shared_ptr<const usage::PriceTable> prices;
  {
    std::lock_guard lock(mutex_);
    prices = prices_;
  }
  const auto now = parts_.clock->SystemNow().time_since_epoch();
  const usage::Price* price =
      prices->Find(model, tier, std::chrono::duration_cast<std::chrono::milliseconds>(now).count());
  if (price == nullptr) return std::nullopt;
  return usage::CostOf(*price, usage);
}

bool Bookkeeper::WantsReceipt(const usage::UsageRecord& record) const {
  if (parts_.receipts == Receipts::kNone) return false;
  if (parts_.receipts == Receipts::kAll) return true;
  return record.privacy != Privacy::kAny ||
         std::ranges::any_of(record.attempts, [](const usage::PricedAttempt& attempt) {
           return attempt.attempt.egress.has_value();
         });
}

void Bookkeeper::Keep(usage::UsageRecord record, AnswerFigures answer) {
  auth::BudgetReservation reservation;
  std::shared_ptr<const usage::PriceTable> prices;
  {
    std::lock_guard lock(mutex_);
    prices = prices_;
    if (auto held = reservations_.extract(record.request_id)) {
      reservation = std::move(held.mapped());
    }
  }
  usage::PriceRecord(*prices, parts_.reference_model, &record);
  reservation.Settle(record.cost);
  parts_.metrics->Observe(record, answer.gaps);
  if (parts_.log_egress) {
    for (const usage::PricedAttempt& priced : record.attempts) {
      if (const auto& egress = priced.attempt.egress) {
        log::Info("{} egress: {} bytes to {}, sha256 {}", record.request_id, egress->n_bytes,
                  egress->destination, egress->sha256);
      }
    }
  }
  record.wants_receipt = WantsReceipt(record);
  record.answer_sha256 = std::move(answer.sha256);
  parts_.writer->Submit(std::move(record));
}

}  // namespace tandem::gateway
