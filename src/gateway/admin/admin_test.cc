#include "gateway/admin/admin.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <boost/json.hpp>

#include "gateway/dispatch/testing/fake_target_source.h"
#include "gateway/provider/fake_provider.h"
#include "gateway/relay/fake_timers.h"
#include "gateway/usage/sql_usage_store.h"
#include "os/testing/temp_dir.h"

namespace tandem::gateway::admin {
namespace {

using ::testing::HasSubstr;

class FakeConfiguration final : public ConfigurationDoor {
 public:
  Version Current() override { return {number, sha256, "tandem.toml", "[server]\n"}; }
  Status Reload() override {
    if (broken) return Err(ErrorCode::kInvalidArgument, "tandem.toml:3:1: mode: is wrong");
    ++number;
    sha256 += "x";
    return {};
  }
  Status Replace(std::string_view text, std::string_view expected) override {
    if (!expected.empty() && expected != sha256) {
      return Err(ErrorCode::kFailedPrecondition, "another version is in force");
    }
    replaced = text;
    return Reload();
  }
  uint64_t number = 1;
  std::string sha256 = "aa";
  std::string replaced;
  bool broken = false;
};

class StoreSink final : public dispatch::RecordSink {
 public:
  explicit StoreSink(usage::UsageStore* store) : store_(store) {}
  void Keep(usage::UsageRecord record, AnswerFigures) override {
    ASSERT_TRUE(store_->Append(std::vector{std::move(record)}));
  }

 private:
  usage::UsageStore* const store_;
};

class AdminTest : public ::testing::Test {
 protected:
  AdminTest() {
    source_.providers["phi-4-mini"] = small_;
    source_.providers["mimo-7b-int4"] = large_;
    Strategy strategy{.name = "two"};
    strategy.targets = {{.id = "small", .model = "phi-4-mini", .tier = Tier::kDeviceSmall},
                        {.id = "large", .model = "mimo-7b-int4", .tier = Tier::kDeviceLarge}};
    dispatcher_ =
        dispatch::Dispatcher::Create({.clock = &clock_,
                                      .timers = &timers_,
                                      .targets = &source_,
                                      .records = &sink_,
                                      .random = [] { return 0.5; },
                                      .audit = Admin::AuditOf(audit_.get())},
                                     {.digest = "v1", .strategies = {{.strategy = strategy}}})
            .value();
    admin_ = std::make_unique<Admin>(Admin::Parts{.dispatcher = dispatcher_.get(),
                                                  .configuration = &configuration_,
                                                  .usage = &reader_,
                                                  .audit = audit_.get(),
                                                  .clock = &clock_,
                                                  .flush = nullptr});
  }

  boost::json::value Call(std::string_view method, std::string_view path, int status,
                          std::string_view body = "",
                          std::map<std::string, std::string, std::less<>> query = {},
                          std::string_view if_match = "") {
    const AdminReply reply = admin_->Handle({.method = method,
                                             .path = path,
                                             .query = std::move(query),
                                             .body = body,
                                             .if_match = if_match,
                                             .who = "key:ops"});
    EXPECT_EQ(reply.status, status) << path << " " << reply.body;
    return boost::json::parse(reply.body);
  }
  void Chat(std::string id) {
    dispatch::Incoming incoming;
    incoming.request.request_id = std::move(id);
    incoming.request.messages = {{.role = "user", .content = "hello"}};
    incoming.model = "two";
    small_->SetScript({TextDelta{"hi", {}}, Finished{.usage = {3, 1, 0}}});
    auto routed = dispatcher_->Route(std::move(incoming)).value();
    (void)routed->Start([](GenerateEvent) {});
  }

  FakeClock clock_;
  relay::FakeTimers timers_{&clock_};
  os::TempDir dir_;
  std::unique_ptr<store::Database> database_ = store::Database::Open(dir_ / "t.db").value();
  std::unique_ptr<usage::SqlUsageStore> store_ =
      usage::SqlUsageStore::Open(database_.get()).value();
  std::unique_ptr<auth::AuditLog> audit_ = auth::AuditLog::Open(database_.get(), &clock_).value();
  usage::UsageReader reader_{database_.get()};
  StoreSink sink_{store_.get()};
  FakeConfiguration configuration_;
  dispatch::FakeTargetSource source_;
  std::shared_ptr<FakeProvider> small_ = std::make_shared<FakeProvider>("phi-4-mini");
  std::shared_ptr<FakeProvider> large_ =
      std::make_shared<FakeProvider>("mimo-7b-int4", Tier::kDeviceLarge);
  std::unique_ptr<dispatch::Dispatcher> dispatcher_;
  std::unique_ptr<Admin> admin_;
};

TEST_F(AdminTest, ConfigurationIsShownReloadedReplacedAndAudited) {
  EXPECT_EQ(Call("GET", "config", 200).at("sha256"), "aa");
  EXPECT_EQ(Call("POST", "config/reload", 200).at("version"), 2);
  EXPECT_EQ(Call("PUT", "config", 200, "[server]\nio_threads = 2\n", {}, "aax").at("version"), 3);
  EXPECT_EQ(configuration_.replaced, "[server]\nio_threads = 2\n");
  Call("PUT", "config", 409, "x", {}, "old");
  configuration_.broken = true;
  const auto wrong = Call("POST", "config/reload", 400);
  EXPECT_EQ(wrong.at("error").at("message"), "tandem.toml:3:1: mode: is wrong");
  const auto audit = Call("GET", "audit", 200).at("records");
  ASSERT_EQ(audit.as_array().size(), 2u);
  EXPECT_EQ(audit.at(0).at("action"), "CONFIG_CHANGE");
  EXPECT_EQ(audit.at(0).at("who"), "key:ops");
  EXPECT_TRUE(audit_->Verify());
}

TEST_F(AdminTest, CanaryIsStartedPromotedHeldRolledBackAndAudited) {
  Call("GET", "canary", 404);
  const auto started = Call("POST", "canary/start", 200,
                            R"({"id":"c","target":"large","baseline":"small","steps":[0.05,0.5,1],)"
                            R"("min_step_seconds":10,"step_seconds":60,"bake_seconds":5})");
  EXPECT_EQ(started.at("state"), "running");
  EXPECT_EQ(started.at("share"), 0.05);
  Call("POST", "canary/start", 409, R"({"id":"c","target":"large","baseline":"small"})");
  EXPECT_EQ(Call("POST", "canary/promote", 200).at("share"), 0.5);
  EXPECT_EQ(Call("POST", "canary/hold", 200).at("state"), "held");
  EXPECT_EQ(Call("POST", "canary/promote", 200, "", {{"completely", "true"}}).at("state"),
            "promoted");
  Call("POST", "canary/hold", 409);
  EXPECT_EQ(Call("POST", "canary/rollback", 200).at("state"), "rolled_back")
      << "what was promoted can be taken back";
  Call("POST", "canary/rollback", 409);
  Call("POST", "canary/fly", 404);
  EXPECT_EQ(Call("GET", "audit", 200).at("records").as_array().size(), 5u);
}

TEST_F(AdminTest, CanaryShowsBothArms) {
  Call("POST", "canary/start", 200, R"({"id":"c","target":"large","baseline":"small"})");
  for (int i = 1; i <= 100; ++i) {
    dispatcher_->canary().Record(
        {.canary = true, .error = i <= 10, .ttft_ms = 1.0 * i, .total_ms = 10.0 * i});
    dispatcher_->canary().Record({.canary = false, .ttft_ms = 5, .total_ms = 50});
  }
  for (int i = 0; i < 25; ++i) dispatcher_->canary().Engage(true);
  const auto status = Call("GET", "canary", 200);
  const auto& canary = status.at("canary_arm");
  EXPECT_EQ(canary.at("samples"), 100);
  EXPECT_EQ(canary.at("error_share"), 0.1);
  EXPECT_EQ(canary.at("engagement_share"), 0.25);
  // Failures have no time: 11 to 100 are left.
  EXPECT_NEAR(canary.at("ttft_ms").at("p50").as_double(), 55, 0.5);
  EXPECT_NEAR(canary.at("ttft_ms").at("p99").as_double(), 100, 0.5);
  EXPECT_NEAR(canary.at("total_ms").at("p95").as_double(), 960, 5);
  EXPECT_NEAR(status.at("baseline_arm").at("ttft_ms").at("p95").as_double(), 5, 0.1);
  EXPECT_EQ(status.at("baseline_arm").at("error_share"), 0.0);
}

TEST_F(AdminTest, WrongPlansNameTheField) {
  for (const auto& [body, what] :
       {std::pair{"[]", "JSON object"}, std::pair{R"({"baseline":"small","id":"c"})", "'target'"},
        std::pair{R"({"target":"large","baseline":"small","id":"c","steps":5})", "'steps'"},
        std::pair{R"({"target":"large","baseline":"small","id":"c","steps":[2]})", "steps"},
        std::pair{R"({"target":"x","baseline":"small","id":"c"})", "'x'"},
        std::pair{R"({"target":"large","baseline":"small","id":"c","bake_seconds":-1})",
                  "bake_seconds"}}) {
    const auto error = Call("POST", "canary/start", 400, body);
    EXPECT_THAT(std::string(error.at("error").at("message").as_string()), HasSubstr(what));
  }
}

TEST_F(AdminTest, UsageIsSummedShownAndItsDecisionReplayed) {
  Chat("req-1");
  Chat("req-2");
  const auto sums = Call("GET", "usage", 200, "", {{"by", "model"}});
  EXPECT_EQ(sums.at("groups").at(0).at("group"), "phi-4-mini");
  EXPECT_EQ(sums.at("groups").at(0).at("requests"), 2);
  Call("GET", "usage", 400, "", {{"by", "colour"}});
  Call("GET", "usage", 400, "", {{"since_ms", "yesterday"}});
  EXPECT_EQ(Call("GET", "usage/req-2", 200).at("request_id"), "req-2");
  Call("GET", "usage/req-9", 404);
  const auto replay = Call("GET", "replay/req-1", 200);
  EXPECT_EQ(replay.at("same"), true);
  EXPECT_EQ(replay.at("decision").at("candidates").at(0).at("target"), "small");
  Call("GET", "replay/req-9", 404);
}

TEST_F(AdminTest, TargetsSayHowTheyStand) {
  source_.providers.erase("mimo-7b-int4");
  const auto targets = Call("GET", "targets", 200).at("targets");
  EXPECT_EQ(targets.at(0).at("breaker"), "closed");
  EXPECT_EQ(targets.at(1).at("installed"), false);
  EXPECT_EQ(targets.at(1).at("remedy"), "not here");
}

TEST_F(AdminTest, UnknownPathsAreNotFound) {
  Call("GET", "nothing", 404);
  Call("DELETE", "config", 404);
  Call("GET", "canary/start", 404);
  Call("GET", "audit", 400, "", {{"limit", "0"}});
}

}  // namespace
}  // namespace tandem::gateway::admin
