#include "gateway/privacy/egress_gate.h"

#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gateway/provider/fake_provider.h"

namespace tandem::gateway::privacy {
namespace {

using testing::HasSubstr;

struct Outcome {
  std::string text;
  std::optional<Finished> finished;
  std::optional<Failed> failed;
  int n_terminal = 0;
  size_t n_logprobs = 0;
};

class EgressGateTest : public testing::Test {
 protected:
  static GenerateRequest Request(Privacy privacy) {
    GenerateRequest request;
    request.request_id = "req-1";
    request.privacy = privacy;
    request.messages = {{.role = "user", .content = "I am bob@example.com"}};
    request.top_logprobs = 1;
    return request;
  }
  std::unique_ptr<Generation> Start(GenerateRequest request) {
    outcome_ = std::make_shared<Outcome>();
    return gate_.Start(std::move(request), [outcome = outcome_](GenerateEvent event) {
      if (auto* delta = std::get_if<TextDelta>(&event)) {
        outcome->text += delta->text;
        outcome->n_logprobs += delta->logprobs.size();
      }
      if (auto* finished = std::get_if<Finished>(&event)) outcome->finished = *finished;
      if (auto* failed = std::get_if<Failed>(&event)) outcome->failed = *failed;
      if (!std::holds_alternative<TextDelta>(event)) ++outcome->n_terminal;
    });
  }

  std::shared_ptr<FakeProvider> cloud_ =
      std::make_shared<FakeProvider>("cloud-model", Tier::kCloud);
  EgressGate gate_{cloud_, std::make_shared<Redactor>(std::vector<std::string>{"Alice"})};
  std::shared_ptr<Outcome> outcome_;
};

TEST_F(EgressGateTest, IsTheProviderBehindIt) {
  EXPECT_EQ(gate_.model(), "cloud-model");
  EXPECT_EQ(gate_.tier(), Tier::kCloud);
}

TEST_F(EgressGateTest, OnDeviceNeverReachesTheProviderWhateverItBringsAlong) {
  GenerateRequest with_permit = Request(Privacy::kAny);
  with_permit.egress =
      EgressPolicy::Permit(with_permit, Privacy::kAny, Mode::kPreferInCloud).value();
  with_permit.privacy = Privacy::kOnDevice;
  GenerateRequest local = Request(Privacy::kAny);
  local.local_only = true;
  GenerateRequest local_redacted = Request(Privacy::kRedacted);
  local_redacted.local_only = true;
  for (const GenerateRequest& request :
       {Request(Privacy::kOnDevice), with_permit, local, local_redacted}) {
    EXPECT_NE(Start(request), nullptr);
    ASSERT_TRUE(outcome_->failed);
    EXPECT_EQ(outcome_->failed->failure.code, FailureCode::kPrivacyRefused);
    EXPECT_THAT(outcome_->failed->failure.message, HasSubstr("tandem pull"));
    EXPECT_EQ(outcome_->n_terminal, 1);
  }
  EXPECT_TRUE(cloud_->calls().empty());
}

TEST_F(EgressGateTest, AnyGoesAsItIsWithAPermitOfItsOwn) {
  const auto generation = Start(Request(Privacy::kAny));
  const auto call = cloud_->last_call();
  EXPECT_EQ(call->request().messages[0].content, "I am bob@example.com");
  EXPECT_EQ(call->request().top_logprobs, 1);
  ASSERT_TRUE(call->request().egress);
  EXPECT_TRUE(call->request().egress->Covers("req-1"));
  call->Emit(TextDelta{"[EMAIL_1]", {{"t", -1, {}}}});
  call->Emit(Finished{});
  EXPECT_EQ(outcome_->text, "[EMAIL_1]");
  EXPECT_EQ(outcome_->n_logprobs, 1u);
  EXPECT_TRUE(outcome_->finished);
}

TEST_F(EgressGateTest, RedactedGoesWithoutItsSecretsAndComesBackWithThem) {
  const auto generation = Start(Request(Privacy::kRedacted));
  const auto call = cloud_->last_call();
  EXPECT_EQ(call->request().messages[0].content, "I am [EMAIL_1]");
  EXPECT_EQ(call->request().top_logprobs, std::nullopt);
  ASSERT_TRUE(call->request().egress);
  EXPECT_TRUE(call->request().egress->Covers("req-1"));
  call->Emit(TextDelta{"Hello [EM", {{"t", -1, {}}}});
  EXPECT_EQ(outcome_->text, "Hello ");
  call->EmitText("AIL_1] and [");
  EXPECT_EQ(outcome_->text, "Hello bob@example.com and ");
  call->Emit(Finished{.reason = FinishReason::kLength,
                      .usage = {3, 4, 0},
                      .egress = Egress{"cloud:443", 10, "ab"}});
  EXPECT_EQ(outcome_->text, "Hello bob@example.com and [");
  EXPECT_EQ(outcome_->n_logprobs, 0u);
  ASSERT_TRUE(outcome_->finished);
  EXPECT_EQ(outcome_->finished->usage.completion_tokens, 4);
  EXPECT_EQ(outcome_->finished->egress->destination, "cloud:443");
}

TEST_F(EgressGateTest, WithoutAnIdNothingLeaves) {
  for (const Privacy privacy : {Privacy::kAny, Privacy::kRedacted}) {
    GenerateRequest request = Request(privacy);
    request.request_id.clear();
    Start(request);
    ASSERT_TRUE(outcome_->failed);
    EXPECT_EQ(outcome_->failed->failure.code, FailureCode::kInternal);
  }
  EXPECT_TRUE(cloud_->calls().empty());
}

TEST_F(EgressGateTest, WhatCannotBeRedactedIsRefused) {
  GenerateRequest request = Request(Privacy::kRedacted);
  request.tools_json = "no json";
  Start(request);
  ASSERT_TRUE(outcome_->failed);
  EXPECT_EQ(outcome_->failed->failure.code, FailureCode::kPrivacyRefused);
  EXPECT_TRUE(cloud_->calls().empty());
}

TEST_F(EgressGateTest, ABrokenAnswerEndsBeforeTheBegunPlaceholder) {
  for (const bool cancelled : {false, true}) {
    const auto generation = Start(Request(Privacy::kRedacted));
    cloud_->last_call()->EmitText("Hello [EMAIL");
    if (cancelled) {
      cloud_->last_call()->Emit(Finished{.reason = FinishReason::kCancelled});
    } else {
      cloud_->last_call()->Emit(Failed{{FailureCode::kUnavailable, "cut near [EMAIL_1]"}});
      // Messages are kept in records, so what a placeholder stands for is not put back there.
      EXPECT_EQ(outcome_->failed->failure.message, "cut near [EMAIL_1]");
    }
    EXPECT_EQ(outcome_->text, "Hello ");
    EXPECT_EQ(outcome_->n_terminal, 1);
  }
}

TEST_F(EgressGateTest, AnAnswerGoesOnWithinASecret) {
  GenerateRequest request = Request(Privacy::kRedacted);
  request.assistant_prefix = "You are bob@exam";
  const auto generation = Start(request);
  const auto call = cloud_->last_call();
  EXPECT_EQ(call->request().assistant_prefix, "You are ");
  call->EmitText("[EMAIL");
  call->EmitText("_1], right?");
  call->Emit(Finished{});
  EXPECT_EQ(request.assistant_prefix + outcome_->text, "You are bob@example.com, right?");
  EXPECT_TRUE(outcome_->finished);
}

TEST_F(EgressGateTest, AnAnswerThatDoesNotGoOnWithinTheSecretFails) {
  for (const std::string_view text : {"someone else", "bob@e"}) {
    GenerateRequest request = Request(Privacy::kRedacted);
    request.assistant_prefix = "You are bob@exam";
    const auto generation = Start(request);
    cloud_->last_call()->EmitText(std::string(text));
    cloud_->last_call()->EmitText(" more");
    cloud_->last_call()->Emit(Finished{});
    EXPECT_EQ(outcome_->text, "");
    ASSERT_TRUE(outcome_->failed);
    EXPECT_EQ(outcome_->failed->failure.code, FailureCode::kUnsupported);
    EXPECT_EQ(outcome_->n_terminal, 1);
  }
}

TEST_F(EgressGateTest, CancellingReachesTheProvider) {
  auto generation = Start(Request(Privacy::kRedacted));
  generation->Cancel();
  EXPECT_EQ(cloud_->last_call()->cancels(), 1);
  generation.reset();
  EXPECT_TRUE(cloud_->last_call()->released());
  cloud_->FinishAll();
  EXPECT_EQ(outcome_->finished->reason, FinishReason::kCancelled);
}

}  // namespace
}  // namespace tandem::gateway::privacy
