#include "gateway/relay/relay.h"

#include <gtest/gtest.h>

#include "gateway/provider/fake_provider.h"
#include "gateway/relay/fake_timers.h"

namespace tandem::gateway::relay {
namespace {

struct Client {
  std::string text;
  int n_ends = 0;
  std::optional<Finished> finished;
  std::optional<Failed> failed;
  EventSink Sink() {
    return [this](GenerateEvent event) {
      ASSERT_EQ(n_ends, 0);
      if (auto* delta = std::get_if<TextDelta>(&event)) {
        text += delta->text;
      } else {
        ++n_ends;
        if (auto* end = std::get_if<Finished>(&event)) finished = *end;
        if (auto* end = std::get_if<Failed>(&event)) failed = *end;
      }
    };
  }
};

TEST(RelayTest, FirstCandidateAnswers) {
  FakeClock clock;
  FakeTimers timers(&clock);
  auto a = std::make_shared<FakeProvider>("a");
  Relay relay({{.provider = a}}, {.clock = &clock, .timers = &timers}, nullptr);
  Client client;
  auto generation = relay.Start({}, client.Sink());
  a->last_call()->EmitText("hello");
  a->last_call()->EmitText(" world");
  a->last_call()->Emit(Finished{.usage = {3, 2, 0}});
  EXPECT_EQ(client.text, "hello world");
  ASSERT_TRUE(client.finished);
  EXPECT_EQ(client.finished->usage, (Usage{3, 2, 0}));
}

TEST(RelayTest, CutAnswerIsContinued) {
  FakeClock clock;
  FakeTimers timers(&clock);
  auto a = std::make_shared<FakeProvider>("a");
  auto b = std::make_shared<FakeProvider>("b", Tier::kCloud);
  Relay relay({{.provider = a}, {.provider = b, .continuation = Continuation::kNativePrefix}},
              {.clock = &clock, .timers = &timers}, nullptr);
  Client client;
  auto generation = relay.Start({}, client.Sink());
  a->last_call()->EmitText("hello");
  a->last_call()->Emit(Failed{{FailureCode::kUnavailable, "cut"}});
  EXPECT_EQ(b->last_call()->request().assistant_prefix, "hello");
  b->last_call()->EmitText(" world");
  b->last_call()->Emit(Finished{.usage = {4, 1, 0}});
  EXPECT_EQ(client.text, "hello world");
  ASSERT_TRUE(client.finished);
  ASSERT_EQ(client.finished->attempts.size(), 2);
  EXPECT_EQ(client.finished->attempts[0].outcome, AttemptOutcome::kHandedOff);
}

}  // namespace
}  // namespace tandem::gateway::relay
