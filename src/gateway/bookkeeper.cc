#include "gateway/bookkeeper.h"

#include <algorithm>
#include <future>
#include <utility>

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

Bookkeeper::Bookkeeper(Parts parts)
    : parts_(std::move(parts)),
      prices_(std::make_shared<const usage::PriceTable>(parts_.prices)),
      signer_thread_([this] { Run(); }) {}

Bookkeeper::~Bookkeeper() {
  queue_.Close();
  signer_thread_.join();
}

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
  if (parts_.signer == nullptr || parts_.receipts == Receipts::kNone) return false;
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
  if (WantsReceipt(record)) {
    Unsigned unsigned_record{std::move(record), std::move(answer.sha256), nullptr};
    if (queue_.TryPush(std::move(unsigned_record))) return;
    // The record counts for more than its receipt.
    // NOLINTNEXTLINE(bugprone-use-after-move): a refused item is untouched
    record = std::move(unsigned_record.record);
    std::lock_guard lock(mutex_);
    if (!std::exchange(warned_, true)) {
      log::Error("receipts cannot keep up; requests are recorded without one");
    }
  }
  parts_.writer->Submit(std::move(record));
}

void Bookkeeper::Run() {
  while (auto next = queue_.Pop()) {
    if (next->marker) {
      next->marker();
      continue;
    }
    usage::UsageRecord& record = next->record;
    privacy::ReceiptFacts facts{.request_id = record.request_id,
                                .time = SystemTime(std::chrono::milliseconds(record.started_at_ms)),
                                .policy_sha256 = record.strategy_version,
                                .privacy = record.privacy,
                                .key_id = record.key_id,
                                .answer_sha256 = std::move(next->answer_sha256)};
    for (const usage::PricedAttempt& attempt : record.attempts) {
      facts.attempts.push_back(attempt.attempt);
    }
    record.receipt_json = parts_.signer->Sign(facts);
    parts_.writer->Submit(std::move(record));
  }
}

bool Bookkeeper::Flush(std::chrono::milliseconds timeout) {
  auto passed = std::make_shared<std::promise<void>>();
  std::future<void> signed_all = passed->get_future();
  if (!queue_.TryPush({{}, {}, [passed] { passed->set_value(); }})) return false;
  if (signed_all.wait_for(timeout) != std::future_status::ready) return false;
  return parts_.writer->Flush(timeout);
}

}  // namespace tandem::gateway
