// The store, what the reader makes of it, and what a crash leaves.
#include "gateway/usage/sql_usage_store.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gateway/usage/prices.h"
#include "gateway/usage/usage_reader.h"
#include "gateway/usage/usage_writer.h"

#include "store/testing/test_databases.h"

namespace tandem::gateway::usage {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr int64_t k2026Jan01 = 1767225600'000;
constexpr int64_t kDay = 86'400'000;

// A request that the device began and the cloud finished; every field differs from its default.
UsageRecord FullRecord(const std::string& id) {
  UsageRecord record;
  record.request_id = id;
  record.client_request_id = "client-" + id;
  record.started_at_ms = k2026Jan01 + 5;
  record.key_id = "bbbbbbbb";
  record.account = "aaaaaaaa";
  record.subject_digest = "d1";
  record.requested_model = "auto";
  record.strategy = "three-tier";
  record.strategy_version = "v7";
  record.decision_json = R"({"candidates":["device-small","cloud"]})";
  record.privacy = Privacy::kRedacted;
  record.streamed = true;
  record.finish_reason = FinishReason::kLength;
  record.client_gone = true;
  record.target = "cloud";
  record.model = "deepseek-v3.2";
  record.tier = Tier::kCloud;
  record.usage = {100, 100, 40};
  record.ttft_ms = 42.5;
  record.e2e_ms = 1234.5;
  record.itl = {10, 20.5, 31};
  record.receipt_json = R"({"signature":"x"})";
  record.trimmed = true;

  Attempt local;
  local.target = "device-small";
  local.model = "phi-4-mini";
  local.tier = Tier::kDeviceSmall;
  local.reason = "simple";
  local.outcome = AttemptOutcome::kHandedOff;
  local.failure = FailureCode::kOutputValidationFailed;
  local.detail = "repetition: period 3";
  local.retry_after = std::chrono::milliseconds(1500);
  local.usage = {100, 40, 7};
  local.started_ms = 0.5;
  local.ttft_ms = 42;
  local.ended_ms = 600;
  local.text_begin = 0;
  local.text_end = 123;

  Attempt cloud;
  cloud.target = "cloud";
  cloud.model = "deepseek-v3.2";
  cloud.tier = Tier::kCloud;
  cloud.reason = "fallback";
  cloud.outcome = AttemptOutcome::kAnswered;
  cloud.retry = 1;
  cloud.hedge = true;
  cloud.usage = {150, 60, 50};
  cloud.usage_estimated = true;
  cloud.started_ms = 601;
  cloud.ended_ms = 1234;
  cloud.text_begin = 123;
  cloud.text_end = 400;
  cloud.egress = Egress{"api.example:443", 2048, "abcd"};
  record.attempts = {{local, {}}, {cloud, {}}};
  PriceRecord(PriceTable::Builtin(), "deepseek-v3.2", &record);
  return record;
}

// A request that one call answered.
UsageRecord PlainRecord(const std::string& id, int64_t at_ms, const std::string& key, Tier tier,
                        const std::string& model, double ttft_ms = 10) {
  UsageRecord record;
  record.request_id = id;
  record.started_at_ms = at_ms;
  record.key_id = key;
  record.finish_reason = FinishReason::kStop;
  record.target = record.model = model;
  record.tier = tier;
  record.usage = {1000, 100, 0};
  record.ttft_ms = ttft_ms;
  record.e2e_ms = 2 * ttft_ms;
  Attempt attempt;
  attempt.target = attempt.model = model;
  attempt.tier = tier;
  attempt.outcome = AttemptOutcome::kAnswered;
  attempt.usage = record.usage;
  record.attempts = {{attempt, {}}};
  PriceRecord(PriceTable::Builtin(), "deepseek-v3.2", &record);
  return record;
}
constexpr NanoUsd kPlainCloudCost = 1000 * 280 + 100 * 560;

UsageRecord RefusedRecord(const std::string& id, int64_t at_ms, const std::string& key) {
  UsageRecord record;
  record.request_id = id;
  record.started_at_ms = at_ms;
  record.key_id = record.account = key;
  record.failure = FailureCode::kPrivacyRefused;
  return record;
}

class SqlUsageStoreTest : public store::DatabaseTestOf {
 protected:
  // Not in SetUp: the crash test forks before anything is open.
  void OpenAll() {
    database_ = Open();
    auto store = SqlUsageStore::Open(database_.get());
    ASSERT_TRUE(store.has_value()) << store.error().message;
    store_ = *std::move(store);
    reader_ = std::make_unique<UsageReader>(database_.get());
  }
  void MustAppend(const std::vector<UsageRecord>& records) {
    const auto duplicates = store_->Append(records);
    ASSERT_TRUE(duplicates.has_value()) << duplicates.error().message;
    ASSERT_THAT(*duplicates, IsEmpty());
  }
  std::vector<UsageSum> MustSum(const UsageQuery& query, GroupBy by) {
    auto sums = reader_->Sum(query, by);
    EXPECT_TRUE(sums.has_value()) << (sums ? "" : sums.error().message);
    return sums.value_or(std::vector<UsageSum>());
  }

  std::unique_ptr<store::Database> database_;
  std::unique_ptr<SqlUsageStore> store_;
  std::unique_ptr<UsageReader> reader_;
};
INSTANTIATE_TEST_SUITE_P(Databases, SqlUsageStoreTest, store::AllDatabases(), store::DatabaseName);

void ExpectSame(const UsageRecord& a, const UsageRecord& b) {
  EXPECT_EQ(a.request_id, b.request_id);
  EXPECT_EQ(a.client_request_id, b.client_request_id);
  EXPECT_EQ(a.started_at_ms, b.started_at_ms);
  EXPECT_EQ(a.key_id, b.key_id);
  EXPECT_EQ(a.account, b.account);
  EXPECT_EQ(a.subject_digest, b.subject_digest);
  EXPECT_EQ(a.requested_model, b.requested_model);
  EXPECT_EQ(a.strategy, b.strategy);
  EXPECT_EQ(a.strategy_version, b.strategy_version);
  EXPECT_EQ(a.decision_json, b.decision_json);
  EXPECT_EQ(a.privacy, b.privacy);
  EXPECT_EQ(a.streamed, b.streamed);
  EXPECT_EQ(a.finish_reason, b.finish_reason);
  EXPECT_EQ(a.failure, b.failure);
  EXPECT_EQ(a.client_gone, b.client_gone);
  EXPECT_EQ(a.target, b.target);
  EXPECT_EQ(a.model, b.model);
  EXPECT_EQ(a.tier, b.tier);
  EXPECT_EQ(a.usage, b.usage);
  EXPECT_EQ(a.cost, b.cost);
  EXPECT_EQ(a.reference, b.reference);
  EXPECT_EQ(a.unpriced, b.unpriced);
  EXPECT_EQ(a.ttft_ms, b.ttft_ms);
  EXPECT_EQ(a.e2e_ms, b.e2e_ms);
  EXPECT_EQ(a.itl, b.itl);
  EXPECT_EQ(a.receipt_json, b.receipt_json);
  EXPECT_EQ(a.trimmed, b.trimmed);
  ASSERT_EQ(a.attempts.size(), b.attempts.size());
  for (size_t i = 0; i < a.attempts.size(); ++i) {
    const Attempt& x = a.attempts[i].attempt;
    const Attempt& y = b.attempts[i].attempt;
    EXPECT_EQ(a.attempts[i].cost, b.attempts[i].cost);
    EXPECT_EQ(x.target, y.target);
    EXPECT_EQ(x.model, y.model);
    EXPECT_EQ(x.tier, y.tier);
    EXPECT_EQ(x.reason, y.reason);
    EXPECT_EQ(x.outcome, y.outcome);
    EXPECT_EQ(x.failure, y.failure);
    EXPECT_EQ(x.detail, y.detail);
    EXPECT_EQ(x.retry_after, y.retry_after);
    EXPECT_EQ(x.retry, y.retry);
    EXPECT_EQ(x.hedge, y.hedge);
    EXPECT_EQ(x.usage, y.usage);
    EXPECT_EQ(x.usage_estimated, y.usage_estimated);
    EXPECT_EQ(x.started_ms, y.started_ms);
    EXPECT_EQ(x.ttft_ms, y.ttft_ms);
    EXPECT_EQ(x.ended_ms, y.ended_ms);
    EXPECT_EQ(x.text_begin, y.text_begin);
    EXPECT_EQ(x.text_end, y.text_end);
    EXPECT_EQ(x.egress, y.egress);
  }
}

// ---- Records ---------------------------------------------------------------------------------

TEST_P(SqlUsageStoreTest, WholeRecordComesBackAsItWent) {
  OpenAll();
  const UsageRecord full = FullRecord("req-1");
  UsageRecord failed = RefusedRecord("req-2", k2026Jan01, "bbbbbbbb");
  failed.e2e_ms = 1;
  MustAppend({full, failed});
  const auto found = reader_->Find("req-1");
  ASSERT_TRUE(found.has_value()) << found.error().message;
  ASSERT_TRUE(found->has_value());
  ExpectSame(**found, full);
  ExpectSame(reader_->Find("req-2").value().value(), failed);
  EXPECT_EQ(reader_->Find("req-3").value(), std::nullopt);
}

TEST_P(SqlUsageStoreTest, EveryNameOfAnEnumerationComesBack) {
  OpenAll();
  std::vector<UsageRecord> records;
  for (int i = 0; i < kFailureCodeCount; ++i) {
    UsageRecord record = RefusedRecord(std::to_string(i), i, "k");
    record.failure = static_cast<FailureCode>(i);
    Attempt attempt;
    attempt.failure = record.failure;
    attempt.outcome = static_cast<AttemptOutcome>(i % 5);
    attempt.tier = static_cast<Tier>(i % 3);
    record.attempts = {{attempt, {}}};
    record.privacy = static_cast<Privacy>(i % 3);
    records.push_back(record);
  }
  for (int i = 0; i < 5; ++i) {
    UsageRecord record = RefusedRecord("finish" + std::to_string(i), i, "k");
    record.failure.reset();
    record.finish_reason = static_cast<FinishReason>(i);
    records.push_back(record);
  }
  MustAppend(records);
  for (const UsageRecord& record : records) {
    ExpectSame(reader_->Find(record.request_id).value().value(), record);
  }
}

TEST_P(SqlUsageStoreTest, ClientsIdFindsTheNewestOfItsRequests) {
  OpenAll();
  UsageRecord first = PlainRecord("req-1", 100, "k", Tier::kCloud, "deepseek-v3.2");
  UsageRecord second = PlainRecord("req-2", 200, "k", Tier::kCloud, "deepseek-v3.2");
  first.client_request_id = second.client_request_id = "mine";
  MustAppend({first, second});
  EXPECT_EQ(reader_->Find("mine").value().value().request_id, "req-2");
  EXPECT_EQ(reader_->Find("mine").value().value().account, "k") << "the key's own id";
  // Both were paid for: a client cannot hide a request behind another one's id.
  EXPECT_THAT(MustSum({}, GroupBy::kAll), ElementsAre(::testing::Field(&UsageSum::requests, 2)));
}

TEST_P(SqlUsageStoreTest, SecondRecordOfARequestChangesNothing) {
  OpenAll();
  const UsageRecord first = FullRecord("req-1");
  MustAppend({first});
  UsageRecord second = PlainRecord("req-1", k2026Jan01, "other", Tier::kCloud, "deepseek-v3.2");
  const UsageRecord third =
      PlainRecord("req-3", k2026Jan01, "other", Tier::kCloud, "deepseek-v3.2");
  const auto duplicates = store_->Append(std::vector<UsageRecord>{second, third, third});
  ASSERT_TRUE(duplicates.has_value()) << duplicates.error().message;
  EXPECT_THAT(*duplicates, ElementsAre("req-1", "req-3"));
  ExpectSame(reader_->Find("req-1").value().value(), first);
  EXPECT_THAT(reader_->Spent().value(),
              ElementsAre(AccountSpend{"aaaaaaaa", 202601, first.cost},
                          AccountSpend{"other", 202601, kPlainCloudCost}));
}

TEST_P(SqlUsageStoreTest, CountsThatNoProviderCanMeanDoNoHarm) {
  OpenAll();
  UsageRecord record = PlainRecord("req-1", k2026Jan01, "k", Tier::kCloud, "deepseek-v3.2");
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  record.usage = record.attempts[0].attempt.usage = {kMax, kMax, kMax};
  PriceRecord(PriceTable::Builtin(), "deepseek-v3.2", &record);
  UsageRecord again = record;
  again.request_id = "req-2";
  MustAppend({record, again});
  const auto sums = MustSum({}, GroupBy::kModel);
  ASSERT_THAT(sums, SizeIs(1));
  EXPECT_EQ(sums[0].usage.prompt_tokens, 200'000'000);
  EXPECT_GT(sums[0].cost, 0);
}

// ---- Sums ------------------------------------------------------------------------------------

TEST_P(SqlUsageStoreTest, CallsCountWhereTheyWereMadeAndRequestsWhereTheyWereAnswered) {
  OpenAll();
  UsageRecord full = FullRecord("req-1");
  Attempt skipped;  // its breaker was open: nobody was called
  skipped.outcome = AttemptOutcome::kSkipped;
  skipped.tier = Tier::kCloud;
  full.attempts.push_back({skipped, {}});
  MustAppend({full, RefusedRecord("req-2", k2026Jan01, "aaaaaaaa")});
  const auto sums = MustSum({}, GroupBy::kTier);
  ASSERT_THAT(sums, SizeIs(3));
  EXPECT_EQ(sums[0].group, "");
  EXPECT_EQ(sums[0].requests, 1);
  EXPECT_EQ(sums[0].failed, 1);
  EXPECT_EQ(sums[0].calls, 0);
  EXPECT_EQ(sums[1].group, "cloud");
  EXPECT_EQ(sums[1].requests, 1);
  EXPECT_EQ(sums[1].calls, 1);
  EXPECT_EQ(sums[1].usage, (Usage{150, 60, 50}));
  EXPECT_EQ(sums[1].cost, 100 * 280 + 50 * 28 + 60 * 560);
  EXPECT_EQ(sums[1].reference, full.reference);
  EXPECT_EQ(sums[1].ttft_ms.count, 1);
  EXPECT_EQ(sums[1].client_gone, 1);
  EXPECT_EQ(sums[1].e2e_ms.count, 0) << "the client left, so its time says nothing";
  EXPECT_EQ(sums[2].group, "device_small");
  EXPECT_EQ(sums[2].requests, 0);
  EXPECT_EQ(sums[2].calls, 1);
  EXPECT_EQ(sums[2].handed_off, 1);
  EXPECT_EQ(sums[2].usage, (Usage{100, 40, 7}));
  EXPECT_EQ(sums[2].cost, 0);
}

TEST_P(SqlUsageStoreTest, EveryGroupingHasTheSameTotals) {
  OpenAll();
  std::vector<UsageRecord> records;
  const std::pair<Tier, std::string> targets[] = {{Tier::kDeviceSmall, "phi-4-mini"},
                                                  {Tier::kDeviceLarge, "mimo-7b-int4"},
                                                  {Tier::kCloud, "deepseek-v3.2"},
                                                  {Tier::kCloud, "unpriced-model"}};
  for (int i = 0; i < 200; ++i) {
    const std::string id = "req-" + std::to_string(i);
    const std::string key = "key" + std::to_string(i % 7);
    const int64_t at = k2026Jan01 + i * kDay / 10;
    if (i % 11 == 0) {
      records.push_back(RefusedRecord(id, at, key));
    } else if (i % 5 == 0) {
      records.push_back(FullRecord(id));
    } else {
      records.push_back(PlainRecord(id, at, key, targets[i % 4].first, targets[i % 4].second, i));
    }
  }
  MustAppend(records);
  const auto all = MustSum({}, GroupBy::kAll);
  ASSERT_THAT(all, SizeIs(1));
  NanoUsd cost = 0;
  NanoUsd reference = 0;
  for (const UsageRecord& record : records) {
    cost += record.cost;
    reference += record.reference;
  }
  EXPECT_EQ(all[0].requests, 200);
  EXPECT_EQ(all[0].cost, cost);
  EXPECT_EQ(all[0].reference, reference);
  EXPECT_GT(all[0].unpriced, 0);
  for (const GroupBy by : {GroupBy::kModel, GroupBy::kTier, GroupBy::kKey, GroupBy::kDay}) {
    UsageSum total;
    std::set<std::string> groups;
    for (const UsageSum& sum : MustSum({}, by)) {
      EXPECT_TRUE(groups.insert(sum.group).second) << sum.group;
      total.requests += sum.requests;
      total.failed += sum.failed;
      total.calls += sum.calls;
      total.handed_off += sum.handed_off;
      total.cost += sum.cost;
      total.reference += sum.reference;
      total.unpriced += sum.unpriced;
      total.usage.prompt_tokens += sum.usage.prompt_tokens;
      total.usage.completion_tokens += sum.usage.completion_tokens;
      total.usage.cached_tokens += sum.usage.cached_tokens;
      total.ttft_ms.count += sum.ttft_ms.count;
    }
    EXPECT_EQ(total.requests, all[0].requests);
    EXPECT_EQ(total.failed, all[0].failed);
    EXPECT_EQ(total.calls, all[0].calls);
    EXPECT_EQ(total.handed_off, all[0].handed_off);
    EXPECT_EQ(total.cost, all[0].cost);
    EXPECT_EQ(total.reference, all[0].reference);
    EXPECT_EQ(total.unpriced, all[0].unpriced);
    EXPECT_EQ(total.usage, all[0].usage);
    EXPECT_EQ(total.ttft_ms.count, all[0].ttft_ms.count);
  }
  const auto by_day = MustSum({}, GroupBy::kDay);
  EXPECT_THAT(by_day, SizeIs(20));
  EXPECT_EQ(by_day.front().group, "2026-01-01");
  EXPECT_EQ(by_day.back().group, "2026-01-20");
}

TEST_P(SqlUsageStoreTest, TimesAndKeysNarrowTheSums) {
  OpenAll();
  MustAppend({PlainRecord("1", 1000, "a", Tier::kCloud, "m"),
              PlainRecord("2", 1999, "a", Tier::kCloud, "m"),
              PlainRecord("3", 2000, "b", Tier::kCloud, "m")});
  const auto requests = [&](const UsageQuery& query) {
    const auto sums = MustSum(query, GroupBy::kAll);
    return sums.empty() ? 0 : sums[0].requests;
  };
  EXPECT_EQ(requests({.since_ms = 1000, .until_ms = 2000}), 2);
  EXPECT_EQ(requests({.since_ms = 1001}), 2);
  EXPECT_EQ(requests({.since_ms = 2000}), 1);
  EXPECT_EQ(requests({.account = "a"}), 2);
  EXPECT_EQ(requests({.since_ms = 2000, .account = "a"}), 0);
  EXPECT_EQ(requests({.account = "' OR ''='"}), 0);
}

TEST_P(SqlUsageStoreTest, QuantilesAreThoseOfTheGroup) {
  OpenAll();
  std::vector<UsageRecord> records;
  for (int i = 1; i <= 1000; ++i) {
    records.push_back(PlainRecord("a" + std::to_string(i), i, "k", Tier::kCloud, "slow", i));
    records.push_back(PlainRecord("b" + std::to_string(i), i, "k", Tier::kCloud, "fast", 5));
  }
  MustAppend(records);
  const auto sums = MustSum({}, GroupBy::kModel);
  ASSERT_THAT(sums, SizeIs(2));
  EXPECT_EQ(sums[0].group, "fast");
  EXPECT_NEAR(sums[0].ttft_ms.p99, 5, 0.03);
  EXPECT_NEAR(sums[1].ttft_ms.p50, 500, 3);
  EXPECT_NEAR(sums[1].ttft_ms.p95, 950, 5);
  EXPECT_NEAR(sums[1].ttft_ms.p99, 990, 5);
  EXPECT_NEAR(sums[1].e2e_ms.p50, 1000, 6);
}

// ---- Pages -----------------------------------------------------------------------------------

TEST_P(SqlUsageStoreTest, PagesMeetEveryRecordOnceThoughTimesAreEqualAndNewOnesCome) {
  OpenAll();
  std::vector<UsageRecord> records;
  for (int i = 0; i < 25; ++i) {
    // Five at each instant.
    records.push_back(
        PlainRecord("r" + std::to_string(100 + i), 1000 + i / 5, "k", Tier::kCloud, "m"));
  }
  MustAppend(records);
  std::vector<std::string> seen;
  std::string cursor;
  do {
    const auto page = reader_->List({}, 7, cursor);
    ASSERT_TRUE(page.has_value()) << page.error().message;
    for (const UsageRecord& record : page->records) seen.push_back(record.request_id);
    cursor = page->next;
    MustAppend({PlainRecord("new" + std::to_string(seen.size()), 5000, "k", Tier::kCloud, "m")});
  } while (!cursor.empty());
  ASSERT_THAT(seen, SizeIs(25));
  for (int i = 0; i < 25; ++i)
    EXPECT_EQ(seen[static_cast<size_t>(i)], "r" + std::to_string(124 - i));
}

TEST_P(SqlUsageStoreTest, PageThatEndsWithTheLastRecordHasNoNext) {
  OpenAll();
  MustAppend({FullRecord("1"), FullRecord("2")});
  EXPECT_THAT(reader_->List({}, 2).value().next, IsEmpty());
  const UsagePage first = reader_->List({}, 1).value();
  EXPECT_EQ(first.records.at(0).request_id, "2");
  EXPECT_THAT(first.records.at(0).attempts, IsEmpty());
  EXPECT_THAT(first.records.at(0).decision_json, IsEmpty());
  EXPECT_EQ(reader_->List({}, 1, first.next).value().records.at(0).request_id, "1");
}

TEST_P(SqlUsageStoreTest, RecentReceiptsAreThoseThatThereAre) {
  OpenAll();
  std::vector<UsageRecord> records;
  for (int i = 0; i < 6; ++i) {
    records.push_back(RefusedRecord(std::to_string(i), i, "k"));
    if (i % 2 == 0) records.back().receipt_json = "receipt " + std::to_string(i);
  }
  MustAppend(records);
  EXPECT_THAT(reader_->RecentReceipts(2).value(), ElementsAre("receipt 4", "receipt 2"));
  EXPECT_THAT(reader_->RecentReceipts(10).value(), SizeIs(3));
  EXPECT_THAT(reader_->RecentReceipts(10, "pt 2").value(), ElementsAre("receipt 2"));
}

TEST_P(SqlUsageStoreTest, WrongCursorAndLimitAreRefused) {
  OpenAll();
  for (const char* cursor : {"x", "12", "12x.y", ".y"}) {
    const auto page = reader_->List({}, 10, cursor);
    ASSERT_FALSE(page.has_value()) << cursor;
    EXPECT_EQ(page.error().code, ErrorCode::kInvalidArgument);
  }
  EXPECT_EQ(reader_->List({}, 0).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(reader_->List({}, 1001).error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(ParseGroupBy("moon").error().message, HasSubstr("model, tier, key, day"));
}

// ---- Months and deletion ---------------------------------------------------------------------

TEST_P(SqlUsageStoreTest, SpendIsKeptByMonthAndSurvivesTheRecords) {
  OpenAll();
  EXPECT_EQ(MonthOf(k2026Jan01 - 1), 202512);
  EXPECT_EQ(MonthOf(k2026Jan01), 202601);
  EXPECT_EQ(MonthOf(0), 197001);
  EXPECT_EQ(MonthOf(-1), 196912);
  std::vector<UsageRecord> records;
  for (int i = 0; i < 1200; ++i) {
    records.push_back(PlainRecord("old" + std::to_string(i), k2026Jan01 - 1 - i, "k", Tier::kCloud,
                                  "deepseek-v3.2"));
  }
  records.push_back(PlainRecord("new", k2026Jan01, "k", Tier::kCloud, "deepseek-v3.2"));
  records.push_back(PlainRecord("free", k2026Jan01, "k2", Tier::kDeviceSmall, "phi-4-mini"));
  MustAppend(records);
  const auto spent = [&] { return reader_->Spent().value(); };
  const std::vector<AccountSpend> expected = {{"k", 202512, 1200 * kPlainCloudCost},
                                              {"k", 202601, kPlainCloudCost}};
  EXPECT_EQ(spent(), expected);

  EXPECT_EQ(reader_->DeleteBefore(k2026Jan01).value(), 1200);
  EXPECT_EQ(spent(), expected);
  EXPECT_EQ(MustSum({}, GroupBy::kAll).at(0).requests, 2);
  EXPECT_EQ(database_->QueryOne<int64_t>("SELECT COUNT(*) FROM usage_attempts", {},
                                         [](const store::Row& row) { return row.Int(0); }),
            2);
  EXPECT_EQ(reader_->DeleteBefore(k2026Jan01).value(), 0);
}

// ---- Failure ---------------------------------------------------------------------------------

TEST_P(SqlUsageStoreTest, BatchThatFailsInTheMiddleLeavesNothing) {
  OpenAll();
  // The database refuses the second record's attempt.
  ASSERT_TRUE(database_->Execute(
      postgres()
          ? "ALTER TABLE usage_attempts ADD CHECK (request_id <> 'bad')"
          : "CREATE TRIGGER refuse BEFORE INSERT ON usage_attempts WHEN NEW.request_id = 'bad' "
            "BEGIN SELECT RAISE(ABORT, 'refused'); END"));
  const auto result = store_->Append(
      std::vector<UsageRecord>{PlainRecord("good", k2026Jan01, "k", Tier::kCloud, "deepseek-v3.2"),
                               PlainRecord("bad", k2026Jan01, "k", Tier::kCloud, "deepseek-v3.2")});
  EXPECT_FALSE(result.has_value());
  EXPECT_THAT(MustSum({}, GroupBy::kAll), IsEmpty());
  EXPECT_THAT(reader_->Spent().value(), IsEmpty());
}

// The process is killed with batches written, one in hand and more in the queue.
TEST_P(SqlUsageStoreTest, KilledProcessLeavesWholeBatchesAndConsistentSums) {
  constexpr int kFlushed = 300;
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    auto database = Open();
    auto store = SqlUsageStore::Open(database.get()).value();
    metrics::Registry registry;
    UsageWriter writer(store.get(), &registry, {.max_batch = 7, .batch_interval = {}});
    const auto submit = [&](int i) {
      writer.Submit(
          PlainRecord("r" + std::to_string(i), k2026Jan01, "k", Tier::kCloud, "deepseek-v3.2"));
    };
    for (int i = 0; i < kFlushed; ++i) submit(i);
    if (!writer.Flush(std::chrono::seconds(60))) ::_exit(1);
    for (int i = kFlushed; i < kFlushed + 500; ++i) submit(i);
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);

  OpenAll();
  for (int i = 0; i < kFlushed; ++i) {
    const auto record = reader_->Find("r" + std::to_string(i)).value();
    ASSERT_TRUE(record.has_value()) << i;
    EXPECT_THAT(record->attempts, SizeIs(1));
  }
  const UsageSum sum = MustSum({}, GroupBy::kAll).at(0);
  EXPECT_GE(sum.requests, kFlushed);
  EXPECT_EQ(sum.calls, sum.requests);
  EXPECT_EQ(sum.cost, sum.requests * kPlainCloudCost);
  EXPECT_THAT(reader_->Spent().value(), ElementsAre(AccountSpend{"k", 202601, sum.cost}));
  // Who submits the same again after the crash pays once.
  metrics::Registry registry;
  UsageWriter writer(store_.get(), &registry);
  for (int i = 0; i < kFlushed + 500; ++i) {
    writer.Submit(
        PlainRecord("r" + std::to_string(i), k2026Jan01, "k", Tier::kCloud, "deepseek-v3.2"));
  }
  ASSERT_TRUE(writer.Flush(std::chrono::seconds(60)));
  EXPECT_EQ(reader_->Spent().value().at(0).cost, (kFlushed + 500) * kPlainCloudCost);
}

}  // namespace
}  // namespace tandem::gateway::usage
