#include "gateway/dispatch/dispatcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "crypto/digest.h"
#include "gateway/dispatch/testing/fake_target_source.h"
#include "gateway/provider/fake_provider.h"
#include "gateway/relay/fake_timers.h"

namespace tandem::gateway::dispatch {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

class Kept final : public RecordSink {
 public:
  void Keep(usage::UsageRecord record, AnswerFigures answer) override {
    records.push_back(std::move(record));
    digests.push_back(std::move(answer.sha256));
  }
  std::vector<usage::UsageRecord> records;
  std::vector<std::string> digests;
};

Strategy ThreeTiers() {
  Strategy strategy{.name = "three-tier"};
  strategy.targets = {
      {.id = "small", .model = "phi-4-mini", .tier = Tier::kDeviceSmall, .context_tokens = 4096},
      {.id = "large", .model = "mimo-7b-int4", .tier = Tier::kDeviceLarge},
      {.id = "cloud", .model = "deepseek-v3.2", .tier = Tier::kCloud}};
  strategy.rules = {{.name = "quality", .require_high_quality = true, .targets = {"cloud"}},
                    {.name = "simple", .targets = {"small", "large", "cloud"}}};
  return strategy;
}

class DispatcherTest : public ::testing::Test {
 protected:
  DispatcherTest() {
    source_.providers = {{"phi-4-mini", small_},
                         {"mimo-7b-int4", large_},
                         {"deepseek-v3.2", cloud_},
                         {"other", other_}};
    Apply({.digest = "v1", .strategies = {{.strategy = ThreeTiers()}}});
  }
  ~DispatcherTest() override {
    for (auto& provider : {small_, large_, cloud_, other_}) provider->FinishAll();
  }

  void Apply(RoutingTable table) {
    if (dispatcher_ == nullptr) {
      auto created = Dispatcher::Create({.clock = &clock_,
                                         .timers = &timers_,
                                         .targets = &source_,
                                         .records = &kept_,
                                         .random = [] { return 0.5; }},
                                        std::move(table));
      ASSERT_TRUE(created) << created.error().message;
      dispatcher_ = *std::move(created);
    } else {
      ASSERT_TRUE(dispatcher_->Apply(std::move(table)));
    }
  }

  Incoming Ask(std::string_view text = "hello there", std::string_view model = "three-tier") {
    Incoming incoming;
    incoming.request.request_id = "req-" + std::to_string(++n_requests_);
    incoming.request.messages = {{.role = "user", .content = std::string(text)}};
    incoming.model = model;
    incoming.key_id = "key";
    return incoming;
  }

  struct Seen {
    std::string text;
    std::optional<Finished> finished;
    std::optional<Failed> failed;
  };
  // Starts it; the returned handle lives in the test.
  std::shared_ptr<Seen> Start(Incoming incoming) {
    auto seen = std::make_shared<Seen>();
    auto routed = dispatcher_->Route(std::move(incoming));
    if (!routed) {
      seen->failed = Failed{routed.error()};
      return seen;
    }
    routed_ = *routed;
    generation_ = routed_->Start([seen](GenerateEvent event) {
      if (auto* delta = std::get_if<TextDelta>(&event)) seen->text += delta->text;
      if (auto* finished = std::get_if<Finished>(&event)) seen->finished = *finished;
      if (auto* failed = std::get_if<Failed>(&event)) seen->failed = *failed;
    });
    return seen;
  }

  FakeClock clock_;
  relay::FakeTimers timers_{&clock_};
  std::shared_ptr<FakeProvider> small_ = std::make_shared<FakeProvider>("phi-4-mini");
  std::shared_ptr<FakeProvider> large_ =
      std::make_shared<FakeProvider>("mimo-7b-int4", Tier::kDeviceLarge);
  std::shared_ptr<FakeProvider> cloud_ =
      std::make_shared<FakeProvider>("deepseek-v3.2", Tier::kCloud);
  std::shared_ptr<FakeProvider> other_ = std::make_shared<FakeProvider>("other");
  FakeTargetSource source_;
  Kept kept_;
  std::unique_ptr<Dispatcher> dispatcher_;
  std::shared_ptr<RoutedRequest> routed_;
  std::unique_ptr<Generation> generation_;
  int n_requests_ = 0;
};

TEST_F(DispatcherTest, AnswerOfTheFirstCandidateAndItsRecord) {
  const auto seen = Start(Ask());
  EXPECT_EQ(routed_->route().target, "small");
  EXPECT_EQ(routed_->route().reason, "simple");
  small_->last_call()->EmitText("Hi ");
  clock_.Advance(milliseconds(30));
  small_->last_call()->EmitText("you.");
  small_->last_call()->Emit(Finished{.usage = {4, 2, 0}});
  EXPECT_EQ(seen->text, "Hi you.");
  ASSERT_EQ(kept_.records.size(), 1u);
  const usage::UsageRecord& record = kept_.records[0];
  EXPECT_EQ(record.request_id, "req-1");
  EXPECT_EQ(record.key_id, "key");
  EXPECT_EQ(record.requested_model, "three-tier");
  EXPECT_EQ(record.strategy, "three-tier");
  EXPECT_EQ(record.strategy_version, "v1");
  EXPECT_EQ(record.finish_reason, FinishReason::kStop);
  EXPECT_EQ(record.target, "small");
  EXPECT_EQ(record.usage, (Usage{4, 2, 0}));
  EXPECT_EQ(record.itl.value().max_ms, 30);
  ASSERT_EQ(record.attempts.size(), 1u);
  EXPECT_EQ(kept_.digests[0], crypto::Sha256Hex("Hi you."));
  const auto decision = ParseDecisionRecord(record.decision_json);
  ASSERT_TRUE(decision);
  const auto strategy =
      ParseStrategyJson(*dispatcher_->FindStrategyJson(decision->strategy_digest).value());
  EXPECT_TRUE(ReplayDecision(*strategy, *decision));
}

TEST_F(DispatcherTest, FailureBeforeTheFirstTokenGoesToTheNextTierUnseen) {
  const auto seen = Start(Ask());
  small_->last_call()->Emit(Failed{{FailureCode::kOutOfMemory, "no memory"}});
  ASSERT_EQ(large_->calls().size(), 1u);
  large_->last_call()->EmitText("ok");
  EXPECT_EQ(routed_->route().target, "large");
  EXPECT_EQ(routed_->route().reason, "fallback");
  large_->last_call()->Emit(Finished{.usage = {4, 1, 0}});
  EXPECT_EQ(seen->text, "ok");
  ASSERT_EQ(kept_.records.size(), 1u);
  ASSERT_EQ(kept_.records[0].attempts.size(), 2u);
  EXPECT_EQ(kept_.records[0].attempts[0].attempt.outcome, AttemptOutcome::kFailed);
  EXPECT_EQ(kept_.records[0].tier, Tier::kDeviceLarge);
}

TEST_F(DispatcherTest, RequestThatAllowsNoFallbackFailsWithItsOwnTier) {
  Incoming incoming = Ask();
  incoming.may_fall_back = false;
  const auto seen = Start(std::move(incoming));
  small_->last_call()->Emit(Failed{{FailureCode::kOutOfMemory, "no memory"}});
  EXPECT_EQ(seen->failed.value().failure.code, FailureCode::kOutOfMemory);
  EXPECT_TRUE(large_->calls().empty());
  EXPECT_EQ(kept_.records.at(0).failure, FailureCode::kOutOfMemory);
}

TEST_F(DispatcherTest, CloudCallHasAPermitAndOnDeviceRequestNeverGetsThere) {
  Incoming incoming = Ask();
  incoming.request.require_high_quality = true;
  (void)Start(incoming);
  EXPECT_TRUE(cloud_->last_call()->request().egress.value().Covers("req-1"));
  cloud_->FinishAll();
  incoming = Ask();
  incoming.request.require_high_quality = true;
  incoming.request.privacy = Privacy::kOnDevice;
  const auto seen = Start(std::move(incoming));
  EXPECT_EQ(routed_->route().target, "small");
  EXPECT_EQ(routed_->privacy(), Privacy::kOnDevice);
  small_->last_call()->Emit(Failed{{FailureCode::kOutOfMemory, "no memory"}});
  large_->last_call()->Emit(Failed{{FailureCode::kOutOfMemory, "no memory"}});
  EXPECT_TRUE(seen->failed);
  EXPECT_EQ(cloud_->calls().size(), 1u);
}

TEST_F(DispatcherTest, ConfiguredPrivacyAppliesToEveryRequest) {
  Apply({.digest = "v2",
         .strategies = {{.strategy = ThreeTiers()}},
         .privacy = Privacy::kRedacted,
         .redacted_names = {"Alice Smith"}});
  Incoming incoming = Ask("Write to alice@example.com for Alice Smith");
  incoming.request.require_high_quality = true;
  const auto seen = Start(std::move(incoming));
  const std::string& sent = cloud_->last_call()->request().messages[0].content;
  EXPECT_EQ(sent.find("alice@example.com"), std::string::npos);
  EXPECT_EQ(sent.find("Alice Smith"), std::string::npos);
  cloud_->last_call()->EmitText(sent);
  cloud_->last_call()->Emit(Finished{});
  EXPECT_EQ(seen->text, "Write to alice@example.com for Alice Smith");
}

TEST_F(DispatcherTest, PrivacyOfATargetAppliesToWhatItIsSent) {
  Strategy strategy = ThreeTiers();
  strategy.targets[2].privacy = Privacy::kRedacted;
  Apply({.digest = "v2", .strategies = {{.strategy = strategy}}});
  Incoming incoming = Ask("Write to alice@example.com");
  incoming.request.require_high_quality = true;
  (void)Start(incoming);
  const std::string& sent = cloud_->last_call()->request().messages[0].content;
  EXPECT_EQ(sent.find("alice@example.com"), std::string::npos) << sent;
  cloud_->FinishAll();
  strategy.targets[2].privacy = Privacy::kOnDevice;
  Apply({.digest = "v3", .strategies = {{.strategy = strategy}}});
  (void)Start(incoming);
  EXPECT_EQ(cloud_->calls().size(), 1u);
  EXPECT_EQ(routed_->route().target, "small");
}

TEST_F(DispatcherTest, LimitOnTheFirstTokenStartsTheCloudBeforeItIsTooLate) {
  Incoming incoming = Ask();
  incoming.max_ttft_ms = 400;
  const auto seen = Start(std::move(incoming));
  timers_.Advance(milliseconds(199));
  EXPECT_TRUE(large_->calls().empty());
  timers_.Advance(milliseconds(1));
  ASSERT_EQ(large_->calls().size(), 1u) << "half of the limit, for one that never answered yet";
  large_->last_call()->EmitText("in time");
  EXPECT_EQ(small_->last_call()->cancels(), 1);
  large_->last_call()->Emit(Finished{});
  small_->last_call()->Emit(Finished{.reason = FinishReason::kCancelled, .usage = {9, 0, 0}});
  EXPECT_EQ(seen->text, "in time");
  ASSERT_EQ(kept_.records.size(), 1u);
  EXPECT_EQ(kept_.records[0].attempts.at(0).attempt.outcome, AttemptOutcome::kCancelled);
  EXPECT_EQ(kept_.records[0].attempts.at(0).attempt.usage.prompt_tokens, 9) << "the loser's cost";
}

TEST_F(DispatcherTest, BreakerOpensAfterFiveFailuresAndTheTargetIsSkipped) {
  Apply({.digest = "v2",
         .strategies = {{.strategy = ThreeTiers(), .runs = {{"small", {.max_retries = 0}}}}}});
  small_->SetScript({Failed{{FailureCode::kInternal, "broken"}}});
  large_->SetScript({TextDelta{"ok", {}}, Finished{}});
  for (int i = 0; i < 8; ++i) (void)Start(Ask());
  EXPECT_EQ(small_->calls().size(), 5u);
  EXPECT_EQ(large_->calls().size(), 8u);
  const auto targets = dispatcher_->Targets();
  EXPECT_EQ(targets[0].breaker, Breaker::State::kOpen);
  EXPECT_EQ(targets[0].times_opened, 1);
  const auto explained = dispatcher_->Explain(Ask()).value();
  EXPECT_EQ(explained.decision.rejections.at(0).reason, "breaker_open");
  Apply({.digest = "v3", .strategies = {{.strategy = ThreeTiers()}}});
  EXPECT_EQ(dispatcher_->Targets()[0].breaker, Breaker::State::kOpen)
      << "another configuration does not forget how the target did";
}

TEST_F(DispatcherTest, UnknownModelIsRecordedAndOneOutsideTheStrategyAnswersAlone) {
  const auto unknown = Start(Ask("x", "gpt-99"));
  EXPECT_EQ(unknown->failed.value().failure.code, FailureCode::kModelNotFound);
  ASSERT_EQ(kept_.records.size(), 1u);
  EXPECT_EQ(kept_.records[0].failure, FailureCode::kModelNotFound);
  const auto seen = Start(Ask("x", "other"));
  EXPECT_EQ(routed_->route().reason, "explicit_model");
  other_->last_call()->Emit(Failed{{FailureCode::kOutOfMemory, "no memory"}});
  EXPECT_TRUE(seen->failed) << "nobody else may answer for it";
  EXPECT_TRUE(small_->calls().empty());
}

TEST_F(DispatcherTest, TheTierIsTheStrategysNotTheProviders) {
  Strategy strategy = ThreeTiers();
  strategy.targets[0].tier = Tier::kDeviceLarge;  // of a provider that calls itself small
  Apply({.digest = "v2", .strategies = {{.strategy = strategy}}});
  (void)Start(Ask());
  EXPECT_EQ(routed_->route().tier, Tier::kDeviceLarge);
  small_->last_call()->EmitText("Hi");
  small_->last_call()->Emit(Finished{.usage = {4, 1, 0}});
  ASSERT_EQ(kept_.records.size(), 1u);
  EXPECT_EQ(kept_.records[0].tier, Tier::kDeviceLarge);
  EXPECT_EQ(kept_.records[0].attempts.at(0).attempt.tier, Tier::kDeviceLarge);
}

TEST_F(DispatcherTest, ExplainRunsAndRecordsNothing) {
  Incoming incoming = Ask();
  incoming.max_cost_usd = 0.0000001;
  const DecisionRecord record = dispatcher_->Explain(incoming).value();
  EXPECT_EQ(record.decision.candidates.at(0).target, "small");
  EXPECT_TRUE(small_->calls().empty());
  EXPECT_TRUE(kept_.records.empty());
}

TEST_F(DispatcherTest, RequestThatIsNeverStartedHasItsRecord) {
  auto routed = dispatcher_->Route(Ask()).value();
  EXPECT_TRUE(kept_.records.empty());
  routed.reset();
  ASSERT_EQ(kept_.records.size(), 1u);
  EXPECT_TRUE(kept_.records[0].client_gone);
}

TEST_F(DispatcherTest, ClientThatLeavesCancelsAndIsRecorded) {
  (void)Start(Ask());
  small_->last_call()->EmitText("a");
  generation_->Cancel();
  EXPECT_EQ(small_->last_call()->cancels(), 1);
  small_->last_call()->Emit(Finished{.reason = FinishReason::kCancelled, .usage = {3, 1, 0}});
  ASSERT_EQ(kept_.records.size(), 1u);
  EXPECT_TRUE(kept_.records[0].client_gone);
  EXPECT_EQ(dispatcher_->Targets()[0].state.failure_share, 0);
}

TEST_F(DispatcherTest, WrongTablesAreRefusedAndTheOldOneStays) {
  EXPECT_EQ(dispatcher_->Apply({.digest = "x"}).error().code, ErrorCode::kInvalidArgument);
  RoutingTable two{.digest = "x",
                   .strategies = {{.strategy = ThreeTiers()}, {.strategy = ThreeTiers()}}};
  EXPECT_THAT(dispatcher_->Apply(two).error().message, HasSubstr("two strategies"));
  RoutingTable run{.digest = "x",
                   .strategies = {{.strategy = ThreeTiers(), .runs = {{"nobody", {}}}}}};
  EXPECT_THAT(dispatcher_->Apply(run).error().message, HasSubstr("'nobody'"));
  RoutingTable canary{.digest = "x", .strategies = {{.strategy = ThreeTiers()}}};
  canary.canary = CanaryPlan{.options = {.id = "c"}, .target = "nobody", .baseline = "small"};
  EXPECT_FALSE(dispatcher_->Apply(canary));
  EXPECT_EQ(dispatcher_->digest(), "v1");
}

TEST_F(DispatcherTest, CanaryGetsItsShareAndAWorseOneIsRolledBack) {
  RoutingTable table{
      .digest = "v2",
      .strategies = {{.strategy = ThreeTiers(), .runs = {{"large", {.max_retries = 0}}}}}};
  table.canary = CanaryPlan{
      .options = {.id = "c", .steps = {0.5, 1.0}}, .target = "large", .baseline = "small"};
  Apply(table);
  small_->SetScript({TextDelta{"a", {}}, Finished{}});
  large_->SetScript({TextDelta{"b", {}}, Finished{}});
  for (int i = 0; i < 400; ++i) {
    Incoming incoming = Ask();
    incoming.user = "user-" + std::to_string(i);
    (void)Start(std::move(incoming));
  }
  EXPECT_NEAR(static_cast<double>(large_->calls().size()), 200, 50);
  const auto seen = dispatcher_->canary().ReadAll().value();
  EXPECT_EQ(seen->canary.samples, large_->calls().size());
  EXPECT_EQ(seen->baseline.samples, small_->calls().size());
  EXPECT_TRUE(dispatcher_->Engage("req-1"));
  EXPECT_EQ(dispatcher_->Engage("req-1").error().code, ErrorCode::kNotFound) << "once each";

  large_->SetScript({Failed{{FailureCode::kInternal, "broken"}}});
  for (int i = 0; i < 40; ++i) {
    Incoming incoming = Ask();
    incoming.user = "user-" + std::to_string(i);
    (void)Start(std::move(incoming));
  }
  EXPECT_TRUE(dispatcher_->canary().Sync());
  EXPECT_EQ(dispatcher_->canary().Read()->state, Canary::State::kRolledBack);
  Apply(table);
  EXPECT_EQ(dispatcher_->canary().Read()->state, Canary::State::kRolledBack)
      << "the same configuration does not start it again";
}

TEST_F(DispatcherTest, ShadowAsksTheOtherSideAndShowsNothingOfIt) {
  Apply({.digest = "v2", .strategies = {{.strategy = ThreeTiers(), .shadow_share = 1}}});
  const auto seen = Start(Ask());
  ASSERT_EQ(cloud_->calls().size(), 1u);
  EXPECT_TRUE(cloud_->last_call()->request().egress.value().Covers("req-1-shadow"));
  cloud_->last_call()->EmitText("from the cloud");
  small_->last_call()->EmitText("from here");
  small_->last_call()->Emit(Finished{.usage = {4, 2, 0}});
  cloud_->last_call()->Emit(Finished{.usage = {4, 3, 0}});
  EXPECT_EQ(seen->text, "from here");
  ASSERT_EQ(kept_.records.size(), 2u);
  EXPECT_EQ(kept_.records[0].key_id, "key");
  EXPECT_EQ(kept_.records[1].key_id, "shadow");
  EXPECT_EQ(kept_.records[1].request_id, "req-1-shadow");
  EXPECT_EQ(kept_.records[1].attempts.at(0).attempt.reason, "shadow");
  EXPECT_TRUE(cloud_->last_call()->released());
}

TEST_F(DispatcherTest, ShadowOfAnOnDeviceRequestDoesNotExist) {
  Apply({.digest = "v2", .strategies = {{.strategy = ThreeTiers(), .shadow_share = 1}}});
  Incoming incoming = Ask();
  incoming.request.privacy = Privacy::kOnDevice;
  (void)Start(std::move(incoming));
  EXPECT_TRUE(cloud_->calls().empty());
  small_->last_call()->Emit(Finished{});
}

TEST_F(DispatcherTest, UnsureDeviceAnswerGoesToTheNextCandidate) {
  RoutingTable table{.digest = "v2", .strategies = {{.strategy = ThreeTiers()}}};
  table.cascade = Cascade{.tokens = 2, .min_mean_logprob = -1};
  Apply(table);
  const auto seen = Start(Ask());
  for (int i = 0; i < 2; ++i) small_->last_call()->Emit(TextDelta{"x", {{"x", -3.0F, {}}}});
  small_->last_call()->Emit(Finished{.reason = FinishReason::kCancelled});
  ASSERT_EQ(large_->calls().size(), 1u);
  for (int i = 0; i < 2; ++i) large_->last_call()->Emit(TextDelta{"y", {{"y", -0.1F, {}}}});
  large_->last_call()->Emit(Finished{});
  EXPECT_EQ(seen->text, "yy");
}

TEST_F(DispatcherTest, ExplanationSaysWhoseBeginningIsLookedAt) {
  EXPECT_FALSE(dispatcher_->Explain(Ask())->cascade);
  RoutingTable table{.digest = "v2", .strategies = {{.strategy = ThreeTiers()}}};
  table.cascade = Cascade{.tokens = 20, .min_probability = 0.7};
  Apply(table);
  const auto record = dispatcher_->Explain(Ask());
  ASSERT_TRUE(record && record->cascade);
  EXPECT_THAT(record->cascade->targets, ::testing::ElementsAre("small", "large"));
  EXPECT_EQ(record->cascade->tokens, 20);
  EXPECT_EQ(record->cascade->min_probability, 0.7);
  EXPECT_FALSE(record->cascade->min_mean_logprob);
  Incoming only_small = Ask();
  only_small.may_fall_back = false;
  EXPECT_FALSE(dispatcher_->Explain(only_small)->cascade) << "nobody could do better";
}

}  // namespace
}  // namespace tandem::gateway::dispatch
