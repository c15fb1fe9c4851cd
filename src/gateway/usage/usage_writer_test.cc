#include "gateway/usage/usage_writer.h"

#include <map>
#include <memory>
#include <span>
#include <string>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gateway/usage/fake_usage_store.h"

namespace tandem::gateway::usage {
namespace {

using std::chrono::milliseconds;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Le;
using ::testing::SizeIs;

// Long enough that only a hanging writer meets it.
constexpr milliseconds kPatience{30'000};

class UsageWriterTest : public ::testing::Test {
 protected:
  static UsageRecord Record(const std::string& id) {
    UsageRecord record;
    record.request_id = id;
    record.decision_json = "{}";
    record.receipt_json = "{\"kept\":true}";
    return record;
  }
  static UsageWriterOptions Quick() {
    return {.min_backoff = milliseconds(1), .max_backoff = milliseconds(2)};
  }
  uint64_t Count(const std::string& result) {
    return registry_.GetCounter("tandem_usage_records_total", "", {{"result", result}}).value();
  }
  uint64_t Failures() {
    return registry_.GetCounter("tandem_usage_write_failures_total", "").value();
  }

  FakeUsageStore store_;
  metrics::Registry registry_;
};

TEST_F(UsageWriterTest, BackoffDoublesUpToItsEnd) {
  const UsageWriterOptions options{.min_backoff = milliseconds(100),
                                   .max_backoff = milliseconds(5000)};
  EXPECT_EQ(BackoffAfter(1, options), milliseconds(100));
  EXPECT_EQ(BackoffAfter(2, options), milliseconds(200));
  EXPECT_EQ(BackoffAfter(6, options), milliseconds(3200));
  EXPECT_EQ(BackoffAfter(7, options), milliseconds(5000));
  EXPECT_EQ(BackoffAfter(1'000'000, options), milliseconds(5000));
}

TEST_F(UsageWriterTest, EveryRecordIsFinishedOnceThoughTheStoreFails) {
  std::map<std::string, int> finished;
  const Error away{ErrorCode::kUnavailable, "away", {}};
  store_.FailNext({away, away, away});
  UsageWriter writer(&store_, &registry_, Quick(), [&](std::span<UsageRecord> records) {
    for (UsageRecord& record : records)
      record.receipt_json = std::to_string(++finished[record.request_id]);
  });
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(writer.Submit(Record(std::to_string(i))));
  ASSERT_TRUE(writer.Flush(kPatience));
  EXPECT_GE(Failures(), 3u);
  ASSERT_THAT(finished, SizeIs(50));
  for (const auto& [id, record] : store_.records()) EXPECT_EQ(record.receipt_json, "1") << id;
}

TEST_F(UsageWriterTest, EverySubmittedRecordIsWrittenOnce) {
  UsageWriter writer(&store_, &registry_, Quick());
  for (int i = 0; i < 2000; ++i) ASSERT_TRUE(writer.Submit(Record(std::to_string(i))));
  ASSERT_TRUE(writer.Flush(kPatience));
  EXPECT_THAT(store_.records(), SizeIs(2000));
  EXPECT_THAT(store_.batches(), Each(Le(512u)));
  EXPECT_EQ(Count("written"), 2000u);
  EXPECT_EQ(Count("lost"), 0u);
  EXPECT_EQ(registry_.GetGauge("tandem_usage_queue_records", "").value(), 0);
}

TEST_F(UsageWriterTest, RecordsThatComeTogetherShareATransaction) {
  UsageWriter writer(&store_, &registry_, {.batch_interval = std::chrono::hours(1)});
  store_.Hold(true);
  ASSERT_TRUE(writer.Submit(Record("first")));
  std::thread flush([&] { EXPECT_TRUE(writer.Flush(kPatience)); });
  EXPECT_TRUE(store_.WaitForCalls(1));
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(writer.Submit(Record(std::to_string(i))));
  store_.Hold(false);
  ASSERT_TRUE(writer.Flush(kPatience));
  flush.join();
  EXPECT_THAT(store_.batches(), ElementsAre(1, 100));
}

TEST_F(UsageWriterTest, SingleRecordIsWrittenThoughNobodyAsksForIt) {
  UsageWriter writer(&store_, &registry_, {.batch_interval = milliseconds(1)});
  // Again and again, since it might see the first ones before it waits at all.
  for (int i = 1; i <= 50; ++i) {
    ASSERT_TRUE(writer.Submit(Record(std::to_string(i))));
    ASSERT_TRUE(store_.WaitForCalls(i)) << i;
  }
}

TEST_F(UsageWriterTest, FullBatchDoesNotWaitForItsTime) {
  UsageWriter writer(&store_, &registry_,
                     {.max_batch = 10, .batch_interval = std::chrono::hours(1)});
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(writer.Submit(Record(std::to_string(i))));
  ASSERT_TRUE(store_.WaitForCalls(1));
}

TEST_F(UsageWriterTest, SecondRecordOfARequestIsCountedAndTheFirstStays) {
  UsageWriter writer(&store_, &registry_, Quick());
  UsageRecord first = Record("a");
  first.cost = 1;
  UsageRecord second = Record("a");
  second.cost = 2;
  writer.Submit(first);
  ASSERT_TRUE(writer.Flush(kPatience));
  writer.Submit(second);
  ASSERT_TRUE(writer.Flush(kPatience));
  EXPECT_EQ(store_.records().at("a").cost, 1);
  EXPECT_EQ(Count("written"), 1u);
  EXPECT_EQ(Count("duplicate"), 1u);
}

TEST_F(UsageWriterTest, FailingStoreIsTriedAgainUntilItWorks) {
  const Error error{ErrorCode::kUnavailable, "busy", ""};
  store_.FailNext({error, error, error, error, error});
  UsageWriter writer(&store_, &registry_, Quick());
  for (int i = 0; i < 3; ++i) writer.Submit(Record(std::to_string(i)));
  ASSERT_TRUE(writer.Flush(kPatience));
  EXPECT_THAT(store_.records(), SizeIs(3));
  EXPECT_EQ(Failures(), 5u);
  EXPECT_EQ(Count("written"), 3u);
  EXPECT_EQ(Count("lost"), 0u);
}

TEST_F(UsageWriterTest, RequestsNeverWaitForTheStoreAndContentGoesFirst) {
  store_.Hold(true);  // a database that hangs
  UsageWriter writer(&store_, &registry_, {.capacity = 40, .max_batch = 1});
  ASSERT_TRUE(writer.Submit(Record("in hand")));
  EXPECT_TRUE(store_.WaitForCalls(1));  // taken out of the queue
  for (int i = 0; i < 40; ++i) ASSERT_TRUE(writer.Submit(Record(std::to_string(i)))) << i;
  EXPECT_FALSE(writer.Submit(Record("one too many")));
  EXPECT_FALSE(writer.Flush(milliseconds(0)));
  store_.Hold(false);
  ASSERT_TRUE(writer.Flush(kPatience));
  const auto records = store_.records();
  EXPECT_THAT(records, SizeIs(41));
  EXPECT_EQ(Count("lost"), 1u);
  for (int i = 0; i < 40; ++i) {
    const UsageRecord& record = records.at(std::to_string(i));
    EXPECT_EQ(record.decision_json.empty(), i >= 10) << i;
    EXPECT_EQ(record.trimmed, i >= 10) << i;
    EXPECT_FALSE(record.receipt_json.empty()) << "evidence is no ballast";
  }
  EXPECT_EQ(registry_.GetCounter("tandem_usage_trimmed_total", "").value(), 30u);
}

TEST_F(UsageWriterTest, RecordThatCannotBeKeptTakesNoOtherWithIt) {
  store_.SetPoison("2");
  UsageWriter writer(&store_, &registry_, Quick());
  for (int i = 0; i < 5; ++i) writer.Submit(Record(std::to_string(i)));
  ASSERT_TRUE(writer.Flush(kPatience));
  EXPECT_THAT(store_.records(), SizeIs(4));
  EXPECT_EQ(Count("written"), 4u);
  EXPECT_EQ(Count("lost"), 1u);
}

TEST_F(UsageWriterTest, DestructionWritesWhatWaits) {
  {
    UsageWriter writer(&store_, &registry_, {.batch_interval = std::chrono::hours(1)});
    for (int i = 0; i < 700; ++i) writer.Submit(Record(std::to_string(i)));
  }
  EXPECT_THAT(store_.records(), SizeIs(700));
}

TEST_F(UsageWriterTest, DestructionEndsThoughTheStoreNeverWorksAndSaysWhatIsLost) {
  store_.FailAlways(Error{ErrorCode::kIo, "disk gone", ""});
  {
    UsageWriter writer(&store_, &registry_,
                       {.max_batch = 2,
                        .min_backoff = std::chrono::hours(1),
                        .max_backoff = std::chrono::hours(1),
                        .shutdown_timeout = milliseconds(0)});
    for (int i = 0; i < 5; ++i) writer.Submit(Record(std::to_string(i)));
    ASSERT_TRUE(store_.WaitForCalls(1));  // and now it waits for an hour
  }
  EXPECT_EQ(Count("lost"), 5u);
  EXPECT_EQ(Count("written"), 0u);
}

TEST_F(UsageWriterTest, ManyThreadsMaySubmitAndFlush) {
  UsageWriter writer(&store_, &registry_, Quick());
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < 500; ++i) {
          ASSERT_TRUE(writer.Submit(Record(std::to_string(t) + "." + std::to_string(i))));
          if (i % 100 == 0) EXPECT_TRUE(writer.Flush(kPatience));
        }
      });
    }
  }
  ASSERT_TRUE(writer.Flush(kPatience));
  EXPECT_THAT(store_.records(), SizeIs(2000));
  EXPECT_EQ(Count("written"), 2000u);
}

}  // namespace
}  // namespace tandem::gateway::usage
