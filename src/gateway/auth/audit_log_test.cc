#include "gateway/auth/audit_log.h"

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "store/testing/test_databases.h"

namespace tandem::gateway::auth {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class AuditLogTest : public store::DatabaseTestOf {
 protected:
  void SetUp() override {
    store::DatabaseTestOf::SetUp();
    if (!IsSkipped()) Reopen();
  }
  void TearDown() override {
    log_.reset();
    database_.reset();
    store::DatabaseTestOf::TearDown();
  }
  void Reopen() {
    database_ = Open();
    log_ = AuditLog::Open(database_.get(), &clock_).value();
  }
  void Append(int n) {
    for (int i = 0; i < n; ++i) {
      clock_.Advance(std::chrono::milliseconds(7));
      const std::string number = std::to_string(i);
      ASSERT_TRUE(log_->Append({"CONFIG_CHANGE", "local:ann", "subject" + number,
                                R"({"digest":")" + number + "\"}"})
                      .has_value());
    }
  }
  void Sql(std::string_view sql) {
    const auto changed = database_->Execute(sql);
    ASSERT_TRUE(changed.has_value()) << changed.error().message;
  }
  // The message of what Verify finds; empty: nothing.
  std::string Found(const std::optional<AuditHead>& known = std::nullopt) {
    const auto head = log_->Verify(known);
    if (head) return "";
    EXPECT_EQ(head.error().code, ErrorCode::kCorrupt);
    return head.error().message;
  }

  FakeClock clock_;
  std::unique_ptr<store::Database> database_;
  std::unique_ptr<AuditLog> log_;
};
INSTANTIATE_TEST_SUITE_P(Databases, AuditLogTest, store::AllDatabases(), store::DatabaseName);

TEST_P(AuditLogTest, EmptyLogIsGood) {
  EXPECT_EQ(log_->Verify().value(), AuditHead{});
  EXPECT_THAT(log_->List(10).value(), IsEmpty());
}

TEST_P(AuditLogTest, RecordsComeBackNewestFirstAndInPages) {
  Append(5);
  const auto records = log_->List(3).value();
  ASSERT_THAT(records, SizeIs(3));
  EXPECT_EQ(records[0].number, 5);
  EXPECT_EQ(records[0].event.action, "CONFIG_CHANGE");
  EXPECT_EQ(records[0].event.who, "local:ann");
  EXPECT_EQ(records[0].event.subject, "subject4");
  EXPECT_EQ(records[0].event.detail, R"({"digest":"4"})");
  EXPECT_EQ(records[0].at_ms, UnixSeconds(clock_.SystemNow()) * 1000 + 35);
  const auto rest = log_->List(3, records[2].number).value();
  ASSERT_THAT(rest, SizeIs(2));
  EXPECT_EQ(rest[1].number, 1);
}

TEST_P(AuditLogTest, ChainGoesOnAfterAReopening) {
  Append(3);
  const AuditHead head = log_->Verify().value();
  EXPECT_EQ(head.number, 3);
  log_.reset();
  database_.reset();
  Reopen();
  Append(2);
  EXPECT_EQ(log_->Verify(head).value().number, 5);
}

TEST_P(AuditLogTest, EveryChangeOfEveryFieldIsFound) {
  for (const char* change :
       {"action = 'KEY_CREATE'", "who = 'local:bob'", "subject = 'x'", "detail = '{}'",
        "at_ms = at_ms + 1", "digest = '0'", "who = '', subject = 'local:ann' || subject"}) {
    Sql("DELETE FROM audit_log");
    Sql("UPDATE audit_head SET number = 0, digest = ''");
    Append(4);
    ASSERT_EQ(Found(), "");
    Sql(fmt::format("UPDATE audit_log SET {} WHERE number = 2", change));
    EXPECT_THAT(Found(), HasSubstr("record 2")) << change;
  }
}

TEST_P(AuditLogTest, RemovalIsFoundAtBothEndsAndInTheMiddle) {
  for (const auto& [number, message] : {std::pair{1, "no record 1"}, std::pair{2, "no record 2"},
                                        std::pair{4, "ends with record 3"}}) {
    Sql("DELETE FROM audit_log");
    Sql("UPDATE audit_head SET number = 0, digest = ''");
    Append(4);
    Sql(fmt::format("DELETE FROM audit_log WHERE number = {}", number));
    EXPECT_THAT(Found(), HasSubstr(message)) << number;
  }
  Sql("DELETE FROM audit_log");
  EXPECT_THAT(Found(), HasSubstr("record 4 must be its last"));
  Sql("DELETE FROM audit_head");
  EXPECT_THAT(Found(), HasSubstr("audit_head"));
}

TEST_P(AuditLogTest, RemovalWithRenumberingIsFound) {
  Append(4);
  Sql("DELETE FROM audit_log WHERE number = 2");
  Sql("UPDATE audit_log SET number = number - 1 WHERE number > 2");
  Sql("UPDATE audit_head SET number = 3");
  EXPECT_THAT(Found(), HasSubstr("record 2 of the audit log does not match"));
}

TEST_P(AuditLogTest, InsertionAtTheEndIsFound) {
  Append(2);
  Sql("INSERT INTO audit_log SELECT 3, at_ms, action, who, subject, detail, digest FROM audit_log "
      "WHERE number = 2");
  EXPECT_THAT(Found(), HasSubstr("record 3"));
}

TEST_P(AuditLogTest, LogThatWasWrittenAnewDoesNotHoldAnEndThatWasSeenEarlier) {
  Append(3);
  const AuditHead seen = log_->Verify().value();
  EXPECT_EQ(Found(seen), "");
  Append(1);
  EXPECT_EQ(Found(seen), "");
  // With all digests right.
  Sql("DELETE FROM audit_log");
  Sql("UPDATE audit_head SET number = 0, digest = ''");
  Append(4);
  EXPECT_EQ(Found(), "");
  EXPECT_THAT(Found(seen), HasSubstr("written anew"));
}

TEST_P(AuditLogTest, EndsAreWrittenAndRead) {
  Append(1);
  const AuditHead head = log_->Verify().value();
  EXPECT_EQ(ParseAuditHead(FormatAuditHead(head)), head);
  EXPECT_EQ(ParseAuditHead(FormatAuditHead({})), AuditHead{});
  for (const std::string& bad :
       {std::string(), std::string("x"), std::string("1"), std::string("1:"), std::string("1:ab"),
        std::string(":") + head.digest, std::string("-1:") + head.digest}) {
    EXPECT_EQ(ParseAuditHead(bad).error().code, ErrorCode::kInvalidArgument) << bad;
  }
}

TEST_P(AuditLogTest, ManyWritersMakeOneChain) {
  const auto other_database = Open();
  const auto other = AuditLog::Open(other_database.get(), &clock_).value();
  {
    std::vector<std::jthread> threads;
    for (AuditLog* log : {log_.get(), log_.get(), other.get()}) {
      threads.emplace_back([log] {
        for (int i = 0; i < 30; ++i) {
          EXPECT_TRUE(log->Append({"CANARY_START", "t", "s", "{}"}).has_value());
        }
      });
    }
  }
  EXPECT_EQ(log_->Verify().value().number, 90);
}

TEST_P(AuditLogTest, RecordNeedsAnAction) {
  EXPECT_EQ(log_->Append({"", "ann", "s", "{}"}).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(log_->Verify().value().number, 0);
}

}  // namespace
}  // namespace tandem::gateway::auth
