#include "gateway/bookkeeper.h"

#include <map>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gateway/usage/fake_usage_store.h"
#include "os/testing/temp_dir.h"

namespace tandem::gateway {
namespace {

using std::chrono::seconds;
using ::testing::HasSubstr;

class BookkeeperTest : public ::testing::Test {
 protected:
  Bookkeeper::Parts Parts(Receipts receipts = Receipts::kAll) {
    return {.prices = usage::PriceTable::Builtin(),
            .reference_model = "deepseek-v3.2",
            .writer = &writer_,
            .metrics = &metrics_,
            .receipts = receipts,
            .clock = &clock_};
  }
  usage::UsageRecord Record(std::string id, Tier tier, std::string model) const {
    usage::UsageRecord record;
    record.request_id = std::move(id);
    record.started_at_ms =
        std::chrono::duration_cast<std::chrono::milliseconds>(clock_.SystemNow().time_since_epoch())
            .count();
    record.strategy_version = std::string(64, 'a');
    record.finish_reason = FinishReason::kStop;
    record.usage = {1000, 500, 0};
    Attempt attempt{.target = "t",
                    .model = std::move(model),
                    .tier = tier,
                    .outcome = AttemptOutcome::kAnswered,
                    .usage = record.usage};
    if (tier == Tier::kCloud) attempt.egress = Egress{"api:443", 77, std::string(64, 'b')};
    record.tier = tier;
    record.attempts.push_back({std::move(attempt), {}});
    return record;
  }

  FakeClock clock_;
  os::TempDir dir_;
  metrics::Registry registry_;
  usage::FakeUsageStore store_;
  std::unique_ptr<privacy::ReceiptSigner> signer_ =
      privacy::ReceiptSigner::Open(dir_ / "receipt_key.pem", "").value();
  usage::UsageWriter writer_{&store_, &registry_, {}, SignReceipts(signer_.get())};
  usage::UsageMetrics metrics_{&registry_};
};

TEST_F(BookkeeperTest, RecordIsPricedCountedSignedAndStored) {
  Bookkeeper books(Parts());
  books.Keep(Record("req-1", Tier::kCloud, "deepseek-v3.2"), {std::string(64, 'c'), {}});
  ASSERT_TRUE(books.Flush(seconds(30)));
  const auto records = store_.records();
  ASSERT_EQ(records.size(), 1u);
  // 0.28 and 0.56 USD per million tokens.
  const usage::UsageRecord& record = records.at("req-1");
  EXPECT_EQ(record.cost, 1000 * 280 + 500 * 560);
  const auto receipt = privacy::VerifyReceipt(record.receipt_json, signer_->public_key());
  ASSERT_TRUE(receipt) << receipt.error().message;
  EXPECT_EQ(receipt->request_id, "req-1");
  EXPECT_EQ(receipt->answer_sha256, std::string(64, 'c'));
  ASSERT_EQ(receipt->egress.size(), 1u);
  EXPECT_EQ(receipt->egress[0].n_bytes, 77u);
  EXPECT_THAT(registry_.PrometheusText(), HasSubstr("tandem_requests_total"));
}

TEST_F(BookkeeperTest, OnlyWhatLeftOrHadToStayIsSignedWhereThatIsAskedFor) {
  Bookkeeper books(Parts(Receipts::kEgress));
  books.Keep(Record("local", Tier::kDeviceSmall, "phi-4-mini"), {});
  books.Keep(Record("cloud", Tier::kCloud, "deepseek-v3.2"), {});
  auto kept = Record("kept", Tier::kDeviceSmall, "phi-4-mini");
  kept.privacy = Privacy::kOnDevice;
  books.Keep(std::move(kept), {});
  ASSERT_TRUE(books.Flush(seconds(30)));
  for (const auto& [id, record] : store_.records()) {
    EXPECT_EQ(record.receipt_json.empty(), id == "local") << id;
  }
}

TEST_F(BookkeeperTest, BudgetIsSettledWithWhatItDidCost) {
  auth::BudgetLedger ledger(&clock_, {});
  const auth::Budget budget{1'000'000, auth::BudgetPeriod::kTotal};
  Bookkeeper books(Parts());
  books.Reserve("req-1", ledger.Reserve("a", budget, 900'000).value());
  EXPECT_EQ(ledger.Left("a", budget), 100'000);
  books.Keep(Record("req-1", Tier::kCloud, "deepseek-v3.2"), {});
  EXPECT_EQ(ledger.Left("a", budget), 1'000'000 - 560'000);
  books.Reserve("req-2", ledger.Reserve("a", budget, 100'000).value());
  books.Keep(Record("req-2", Tier::kDeviceSmall, "phi-4-mini"), {});
  EXPECT_EQ(ledger.Left("a", budget), 1'000'000 - 560'000) << "the device costs nothing";
}

TEST_F(BookkeeperTest, ReceiptsOfABatchAreOneChain) {
  Bookkeeper books(Parts());
  for (int i = 0; i < 100; ++i) {
    books.Keep(Record("req-" + std::to_string(i), Tier::kDeviceSmall, "phi-4-mini"), {});
  }
  ASSERT_TRUE(books.Flush(seconds(30)));
  const auto records = store_.records();
  ASSERT_EQ(records.size(), 100u);
  std::map<uint64_t, std::string> by_sequence;
  for (const auto& [id, record] : records) {
    by_sequence[privacy::ReceiptSequence(record.receipt_json)] = record.receipt_json;
  }
  ASSERT_EQ(by_sequence.size(), 100u);
  std::string previous;
  for (const auto& [sequence, receipt] : by_sequence) {
    const auto verified = privacy::VerifyReceipt(receipt, signer_->public_key());
    ASSERT_TRUE(verified) << verified.error().message;
    EXPECT_EQ(verified->previous, previous);
    previous = privacy::ReceiptDigest(receipt);
  }
}

}  // namespace
}  // namespace tandem::gateway
