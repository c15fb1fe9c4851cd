#include "gateway/privacy/conversations.h"

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/testing/temp_dir.h"

#include "store/testing/test_databases.h"

namespace tandem::gateway::privacy {
namespace {

using testing::HasSubstr;
using testing::Not;

const ConversationState kStays{.privacy = Privacy::kOnDevice, .target = ""};

Message System(std::string text) { return {.role = "system", .content = std::move(text)}; }
Message User(std::string text) { return {.role = "user", .content = std::move(text)}; }
Message Assistant(std::string text) { return {.role = "assistant", .content = std::move(text)}; }
Message Tool(std::string text) {
  return {.role = "tool", .content = std::move(text), .tool_call_id = "c1"};
}

const std::string kQuestion = "My blood test says 7.4, what does that mean?";

class ConversationsTest : public store::DatabaseTestOf {
 protected:
  void SetUp() override {
    store::DatabaseTestOf::SetUp();
    if (!IsSkipped()) Reopen();
  }
  void TearDown() override {
    conversations_.reset();
    database_.reset();
    store::DatabaseTestOf::TearDown();
  }
  void Reopen(Conversations::Options options = {}) {
    conversations_.reset();
    database_.reset();
    database_ = Open();
    conversations_ = Conversations::Open(database_.get(), &clock_, options).value();
  }
  Conversations::Fingerprint Of(const std::vector<Message>& messages, std::string_view id = {},
                                std::string_view scope = "key-1") const {
    return conversations_->FingerprintOf(scope, id, messages);
  }
  bool Stays(const std::vector<Message>& messages, std::string_view id = {},
             std::string_view scope = "key-1") {
    const auto state = conversations_->Find(Of(messages, id, scope));
    return state && state->privacy == Privacy::kOnDevice;
  }
  void MakeStay(const std::vector<Message>& messages, std::string_view id = {}) {
    ASSERT_TRUE(conversations_->Remember(Of(messages, id), kStays));
  }

  FakeClock clock_;
  std::unique_ptr<store::Database> database_;
  std::unique_ptr<Conversations> conversations_;
};
INSTANTIATE_TEST_SUITE_P(Databases, ConversationsTest, store::AllDatabases(), store::DatabaseName);

TEST_P(ConversationsTest, ANewConversationIsUnknown) {
  EXPECT_EQ(conversations_->Find(Of({User(kQuestion)}, "conv-1")), std::nullopt);
}

TEST_P(ConversationsTest, TheIdIsEnoughWhateverIsSent) {
  MakeStay({User("Hi")}, "conv-1");
  EXPECT_TRUE(Stays({User("something else")}, "conv-1"));
  EXPECT_FALSE(Stays({User("something else")}, "conv-2"));
  EXPECT_FALSE(Stays({User("something else")}, "conv-1", "key-2"));
}

TEST_P(ConversationsTest, AHistoryThatIsSentAgainWithoutAnIdIsKnown) {
  MakeStay({System("You are a doctor."), User(kQuestion)}, "conv-1");
  const std::vector<Message> history = {System("You are a doctor."), User(kQuestion),
                                        Assistant("It is normal."), User("And 9?")};
  EXPECT_TRUE(Stays(history));
  // Other system prompts, and white space at the ends, do not hide it.
  EXPECT_TRUE(Stays({System("Other."), User(kQuestion + "\n"), Assistant("Edited."), User("x")}));
  EXPECT_TRUE(Stays({User(kQuestion)}));
}

TEST_P(ConversationsTest, WhatOthersShareDoesNotMakeThemStay) {
  const Message system = System("You are the assistant of a company with a very long prompt.");
  const Message example = User("Example question that every request of this application has");
  const Message example_answer = Assistant("Example answer that every request of it has as well.");
  MakeStay({system, example, example_answer, User(kQuestion)});
  EXPECT_FALSE(Stays({system, User("What are your opening hours on Sunday?")}));
  EXPECT_FALSE(Stays({system, example, example_answer, User("Another question altogether?")}));
  EXPECT_TRUE(Stays({system, example, example_answer, User(kQuestion)}));
}

TEST_P(ConversationsTest, AShortGreetingCountsOnlyWithItsAnswer) {
  const auto fingerprint = Of({User("Hi")});
  ASSERT_TRUE(conversations_->Remember(fingerprint, kStays));
  EXPECT_FALSE(Stays({User("Hi")}));
  ASSERT_TRUE(
      conversations_->RememberAnswer(fingerprint, Assistant("Hello, doctor here."), kStays));
  EXPECT_FALSE(Stays({User("Hi")}));
  EXPECT_FALSE(Stays({User("Hi"), Assistant("Hello!"), User("x")}));
  EXPECT_TRUE(Stays({User("Hi"), Assistant("Hello, doctor here."), User("x")}));
}

TEST_P(ConversationsTest, AToolResultTakesItsPrivacyAlong) {
  const std::string record = R"({"patient": "Bob", "diagnosis": "a cold", "dose": 3})";
  MakeStay({User(kQuestion), Assistant(""), Tool(record), Tool("{}")});
  EXPECT_TRUE(Stays({User("A new conversation that has it."), Tool(record)}));
  EXPECT_FALSE(Stays({User("A new conversation that has it not."), Tool("{}")}));
  EXPECT_FALSE(Stays({User("x"), Tool(record)}, "", "key-2"));
}

TEST_P(ConversationsTest, AClientThatCutsOffTheOldestMessagesIsKnownByTheAnswer) {
  const std::string answer =
      "A value of 7.4 is within the usual range for blood, so there is nothing to worry about.";
  const auto fingerprint = Of({User(kQuestion)});
  ASSERT_TRUE(conversations_->RememberAnswer(fingerprint, Assistant(answer), kStays));
  EXPECT_TRUE(Stays({User("cut"), Assistant(answer), User("And 9?")}));
}

TEST_P(ConversationsTest, FunctionCallsArePartOfTheChain) {
  Message call = Assistant("");
  call.tool_calls = {{"call_1", "find", R"({"name":"Bob"})"}};
  const auto fingerprint = Of({User("Hi")});
  ASSERT_TRUE(conversations_->RememberAnswer(fingerprint, call, kStays));
  call.tool_calls[0].id = "call_of_the_client";
  EXPECT_TRUE(Stays({User("Hi"), call, Tool("x")}));
  call.tool_calls[0].arguments = R"({"name":"Eve"})";
  EXPECT_FALSE(Stays({User("Hi"), call, Tool("x")}));
}

TEST_P(ConversationsTest, PrivacyNeverBecomesLessStrict) {
  const auto fingerprint = Of({User(kQuestion)}, "conv-1");
  ASSERT_TRUE(conversations_->Remember(fingerprint, kStays));
  ASSERT_TRUE(conversations_->Remember(fingerprint, {Privacy::kAny, "cloud"}));
  ASSERT_TRUE(conversations_->Remember(fingerprint, {Privacy::kRedacted, ""}));
  EXPECT_EQ(conversations_->Find(fingerprint), (ConversationState{Privacy::kOnDevice, "cloud"}));
  Reopen();
  EXPECT_EQ(conversations_->Find(fingerprint), (ConversationState{Privacy::kOnDevice, "cloud"}));
}

TEST_P(ConversationsTest, ThePinnedTargetIsThatOfTheIdElseOfTheLongestBeginning) {
  const std::vector<Message> first = {User(kQuestion)};
  std::vector<Message> second = first;
  second.push_back(Assistant("It is normal."));
  second.push_back(User("And 9?"));
  ASSERT_TRUE(conversations_->Remember(Of(first), {Privacy::kAny, "device-small"}));
  ASSERT_TRUE(conversations_->Remember(Of(second), {Privacy::kAny, "device-large"}));
  ASSERT_TRUE(conversations_->Remember(Of({User("Hi")}, "conv-1"), {Privacy::kAny, "cloud"}));
  EXPECT_EQ(conversations_->Find(Of(first))->target, "device-small");
  EXPECT_EQ(conversations_->Find(Of(second))->target, "device-large");
  EXPECT_EQ(conversations_->Find(Of(second, "conv-1"))->target, "cloud");
  ASSERT_TRUE(conversations_->Remember(Of(first), {Privacy::kAny, "cloud"}));
  EXPECT_EQ(conversations_->Find(Of(first))->target, "cloud");
}

TEST_P(ConversationsTest, MarksAndPinsSurviveARestart) {
  MakeStay({User(kQuestion)}, "conv-1");
  ASSERT_TRUE(conversations_->Remember(Of({User("A question about gardening.")}),
                                       {Privacy::kAny, "device-small"}));
  Reopen();
  EXPECT_TRUE(Stays({User(kQuestion)}));
  EXPECT_TRUE(Stays({User("x")}, "conv-1"));
  EXPECT_EQ(conversations_->Find(Of({User("A question about gardening.")})),
            (ConversationState{Privacy::kAny, "device-small"}));
}

TEST_P(ConversationsTest, NoTextIsKept) {
  MakeStay({User(kQuestion), Tool("A tool result that is long enough to count by itself.")},
           "conv-1");
  std::string all;
  ASSERT_TRUE(database_->ForEach(
      "SELECT digest, target FROM privacy_conversations", {},
      [&](const store::Row& row) { all += row.Text(0) + " " + row.Text(1) + "\n"; }));
  EXPECT_THAT(all, Not(HasSubstr("blood")));
  EXPECT_THAT(all, Not(HasSubstr("conv-1")));
  EXPECT_EQ(std::ranges::count(all, '\n'), 3);
}

// Digests of one store say nothing to the other.
TEST_P(ConversationsTest, EveryStoreHasItsOwnSecret) {
  os::TempDir other_directory;
  const auto other_database = store::Database::Open(other_directory.path() / "tandem.db").value();
  const auto other = Conversations::Open(other_database.get(), &clock_).value();
  EXPECT_NE(other->FingerprintOf("key-1", "conv-1", {}).id, Of({}, "conv-1").id);
  const auto before = Of({}, "conv-1").id;
  Reopen();
  EXPECT_EQ(Of({}, "conv-1").id, before);
}

TEST_P(ConversationsTest, WhatWasNotSeenForItsTimeIsForgotten) {
  Reopen({.max_entries = 100, .ttl = std::chrono::hours(48)});
  MakeStay({User(kQuestion)}, "conv-1");
  clock_.Advance(std::chrono::hours(47));
  EXPECT_TRUE(Stays({User("x")}, "conv-1"));  // seen
  clock_.Advance(std::chrono::hours(47));
  EXPECT_TRUE(Stays({User("x")}, "conv-1"));
  EXPECT_FALSE(Stays({User(kQuestion)}));
  Reopen({.max_entries = 100, .ttl = std::chrono::hours(48)});
  EXPECT_TRUE(Stays({User("x")}, "conv-1"));
  EXPECT_EQ(conversations_->size(), 1u);
}

TEST_P(ConversationsTest, PinsGoBeforeMarksWhenThereAreTooMany) {
  Reopen({.max_entries = 50});
  for (int i = 0; i < 30; ++i) {
    MakeStay({}, "mark-" + std::to_string(i));
    clock_.Advance(std::chrono::seconds(1));
  }
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(conversations_->Remember(Of({}, "pin-" + std::to_string(i)), {Privacy::kAny, "t"}));
    clock_.Advance(std::chrono::seconds(1));
    ASSERT_LE(conversations_->size(), 50u);
  }
  for (int i = 0; i < 30; ++i) EXPECT_TRUE(Stays({}, "mark-" + std::to_string(i))) << i;
  EXPECT_TRUE(conversations_->Find(Of({}, "pin-99")));
  EXPECT_FALSE(conversations_->Find(Of({}, "pin-0")));
  // Then the oldest marks.
  for (int i = 30; i < 90; ++i) {
    MakeStay({}, "mark-" + std::to_string(i));
    clock_.Advance(std::chrono::seconds(1));
  }
  EXPECT_FALSE(Stays({}, "mark-0"));
  EXPECT_TRUE(Stays({}, "mark-89"));
}

TEST_P(ConversationsTest, ThreadsMayAskAndRememberAtOnce) {
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([this, t] {
        for (int i = 0; i < 30; ++i) {
          const auto mine = Of({User("x")}, "conv-" + std::to_string(t) + "-" + std::to_string(i));
          const Privacy privacy = i % 2 == 0 ? Privacy::kOnDevice : Privacy::kAny;
          EXPECT_TRUE(conversations_->Remember(mine, {privacy, "target"}));
          EXPECT_EQ(conversations_->Find(mine), (ConversationState{privacy, "target"}));
          conversations_->Find(Of({}, "conv-0-0"));
        }
      });
    }
  }
  Reopen();
  EXPECT_EQ(conversations_->size(), 120u);
  EXPECT_TRUE(Stays({}, "conv-3-28"));
}

// What one node keeps on the device, the others that share the database keep there too.
TEST_P(ConversationsTest, NodesThatShareADatabaseFollowEachOther) {
  if (!postgres()) GTEST_SKIP() << "a file is for one node";
  const auto other_database = Open();
  const auto other = Conversations::Open(other_database.get(), &clock_).value();
  const auto known = [&](std::string_view id) {
    const auto state = other->Find(other->FingerprintOf("key-1", id, {}));
    return state ? std::optional(state->privacy) : std::nullopt;
  };
  MakeStay({User(kQuestion)}, "conv-1");
  EXPECT_EQ(known("conv-1"), std::nullopt);
  ASSERT_TRUE(other->Follow());
  EXPECT_EQ(known("conv-1"), Privacy::kOnDevice);
  // And back: what the other one writes does not make it less strict.
  ASSERT_TRUE(other->Remember(other->FingerprintOf("key-1", "conv-2", {}), kStays));
  ASSERT_TRUE(conversations_->Follow());
  EXPECT_TRUE(Stays({}, "conv-1"));
  EXPECT_TRUE(Stays({}, "conv-2"));
  MakeStay({}, "conv-3");
  ASSERT_TRUE(other->Follow());
  EXPECT_EQ(known("conv-3"), Privacy::kOnDevice);
  ASSERT_TRUE(other->Follow()) << "nothing new";
}

TEST_P(ConversationsTest, ADamagedStoreIsRefused) {
  ASSERT_TRUE(database_->Execute("UPDATE privacy_secret SET secret = 'x'"));
  EXPECT_EQ(Conversations::Open(database_.get(), &clock_).error().code, ErrorCode::kCorrupt);
  ASSERT_TRUE(database_->Execute("DELETE FROM privacy_secret"));
  ASSERT_TRUE(
      database_->Execute("INSERT INTO privacy_conversations VALUES ('zz', 2, '', 9999999999, 1)"));
  EXPECT_EQ(Conversations::Open(database_.get(), &clock_).error().code, ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace tandem::gateway::privacy
