#include "engine/session/session.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/session/testing/fixtures.h"

namespace tandem::session {
namespace {

using testing::Bytes;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::kAnswer;
using testing::kEndOfTurn;
using testing::kVocabSize;
using testing::kWord;
using testing::Recorder;

constexpr int32_t kContext = 64;

class SessionTest : public ::testing::Test {
 protected:
  // A session that has started; what the model says is given token by token.
  std::unique_ptr<Session> Start(Submission submission) {
    EventSink sink = recorder_.Sink();
    auto session = Session::Create(7, std::move(submission), model_, &sink, clock_.Now());
    EXPECT_TRUE(session) << session.error().message;
    (*session)->Start(executor_.NewSlot(executor::KvPrecision::kF16).value(), clock_.Now());
    return std::move(*session);
  }

  // The model says `token`: by far the largest logit.
  std::optional<Session::Outcome> Say(Session& session, int32_t token) {
    std::vector<float> logits(kVocabSize, 0.0F);
    logits[static_cast<size_t>(token)] = 20.0F;
    auto outcome = session.Advance(logits, &scratch_, clock_.Now());
    EXPECT_TRUE(outcome) << outcome.error().message;
    return std::move(*outcome);
  }
  // Says until the session is over or everything is said.
  std::optional<Session::Outcome> SayAll(Session& session, const std::vector<int32_t>& tokens) {
    for (int32_t token : tokens) {
      if (auto outcome = Say(session, token)) return outcome;
    }
    return std::nullopt;
  }

  Error CreateError(Submission submission) {
    EventSink sink = recorder_.Sink();
    const auto session = Session::Create(1, std::move(submission), model_, &sink, clock_.Now());
    EXPECT_FALSE(session);
    EXPECT_TRUE(sink) << "a refused sink stays the caller's";
    return session ? Error{} : session.error();
  }

  static Submission Greedy(std::string_view prompt) {
    return {.prompt_ids = Bytes(prompt), .sampling = {.temperature = 0}};
  }

  FakeClock clock_;
  SessionModel model_ = testing::MakeModel(kContext);
  executor::FakeExecutor executor_{kVocabSize, kContext, {64, 8}, testing::HashedLetter};
  sampling::SamplerScratch scratch_;
  Recorder recorder_;
};

TEST_F(SessionTest, WantsAsManyLogitsAsItsAnswerNeeds) {
  const auto wanted = [&](const Submission& submission) { return Start(submission)->wanted(); };
  Submission submission = Greedy("hi");
  EXPECT_EQ(wanted(submission).top, 1);
  EXPECT_EQ(wanted(submission).n_ids, model_.mask->n_tokens());
  EXPECT_EQ(wanted(submission).excluded.size(), model_.mask->unused().size());
  submission.sampling = {.top_k = 40};
  EXPECT_EQ(wanted(submission).top, 40);
  submission.sampling = {.top_k = 65};
  EXPECT_EQ(wanted(submission).top, 0);
  submission.sampling = {};
  EXPECT_EQ(wanted(submission).top, 0);
  submission = Greedy("hi");
  submission.top_logprobs = 0;
  EXPECT_EQ(wanted(submission).top, 0);
  // Text that the answer must go on with: until it is spelt out.
  submission = Greedy("hi");
  submission.forced_text = "ab";
  const auto session = Start(submission);
  EXPECT_EQ(session->wanted().top, 0);
  EXPECT_FALSE(SayAll(*session, Bytes("ab")));
  EXPECT_EQ(session->wanted().top, 1);
}

TEST_F(SessionTest, EndOfTurnFinishesWithStopAndIsNotShown) {
  auto session = Start(Greedy("hi"));
  EXPECT_FALSE(SayAll(*session, Bytes("ok")));
  const auto outcome = Say(*session, kEndOfTurn);
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->reason, FinishReason::kStop);
  EXPECT_EQ(outcome->detail, "");
  session->Finish(*outcome, clock_.Now());
  EXPECT_EQ(recorder_.text(), "ok");
  EXPECT_EQ(recorder_.token_ids(), Bytes("ok"));
  ASSERT_TRUE(recorder_.finished());
  EXPECT_EQ(recorder_.finished()->usage.prompt_tokens, 2);
  EXPECT_EQ(recorder_.finished()->usage.completion_tokens, 3);
}

TEST_F(SessionTest, CharacterThatSpansTokensComesWhole) {
  auto session = Start(Greedy("hi"));
  SayAll(*session, Bytes("a\xE2\x82\xAC"));  // a, euro sign in three tokens
  const auto deltas = recorder_.deltas();
  ASSERT_EQ(deltas.size(), 2U);
  EXPECT_EQ(deltas[0].text, "a");
  EXPECT_EQ(deltas[1].text, "\xE2\x82\xAC");
  EXPECT_THAT(deltas[1].token_ids, ElementsAre(0xE2, 0x82, 0xAC));
}

TEST_F(SessionTest, UnfinishedCharacterBecomesTheReplacementAtTheEnd) {
  auto session = Start(Greedy("hi"));
  SayAll(*session, Bytes("a\xE2\x82"));
  EXPECT_EQ(recorder_.text(), "a");
  ASSERT_TRUE(Say(*session, kEndOfTurn));
  EXPECT_EQ(recorder_.text(), "a\xEF\xBF\xBD");
  EXPECT_EQ(recorder_.token_ids(), Bytes("a\xE2\x82"));
}

TEST_F(SessionTest, ControlTokenInTheAnswerHasNoTextButIsReported) {
  auto session = Start(Greedy("hi"));
  SayAll(*session, {'a', kAnswer, 'b'});
  EXPECT_EQ(recorder_.text(), "ab");
  EXPECT_THAT(recorder_.token_ids(), ElementsAre('a', kAnswer, 'b'));
}

TEST_F(SessionTest, TokensWithoutTextAtTheEndAreReported) {
  auto session = Start(Greedy("hi"));
  SayAll(*session, {'a', kAnswer});
  EXPECT_THAT(recorder_.token_ids(), ElementsAre('a'));
  ASSERT_TRUE(Say(*session, kEndOfTurn));
  EXPECT_THAT(recorder_.token_ids(), ElementsAre('a', kAnswer));
}

TEST_F(SessionTest, EveryTokenIsANewDrawAndCountsForThePenalties) {
  const std::vector<float> flat(kVocabSize, 0.0F);
  Submission drawn{.prompt_ids = Bytes("hi"),
                   .sampling = {.logit_bias = {{kEndOfTurn, -100.0F}}, .seed = 3}};
  auto session = Start(drawn);
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(session->Advance(flat, &scratch_, clock_.Now()));
  const auto answer = session->tokens().subspan(2);
  EXPECT_NE(std::ranges::count(answer, answer[0]), 8);

  Submission penalised = Greedy("hi");
  penalised.sampling.presence_penalty = 1;
  auto other = Start(penalised);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(other->Advance(flat, &scratch_, clock_.Now()));
  EXPECT_THAT(other->tokens().subspan(2), ElementsAre(0, 1, 2));
}

TEST_F(SessionTest, ForcedTextIsSpelledOutAndOnlyWhatFollowsIsShown) {
  Submission submission = Greedy("hix");
  submission.n_answer_ids = 1;
  submission.forced_text = "yz w";
  submission.max_tokens = 3;
  auto session = Start(submission);
  clock_.Advance(std::chrono::milliseconds(10));
  EXPECT_FALSE(SayAll(*session, Bytes("yz")));
  EXPECT_TRUE(recorder_.deltas().empty());
  clock_.Advance(std::chrono::milliseconds(10));
  EXPECT_FALSE(Say(*session, kWord));  // " world": more than was forced
  EXPECT_EQ(recorder_.text(), "orld");
  EXPECT_THAT(recorder_.token_ids(), ElementsAre(kWord));
  EXPECT_FALSE(SayAll(*session, Bytes("!")));
  const auto outcome = Say(*session, '?');  // the third that is new
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->reason, FinishReason::kLength);
  session->Finish(*outcome, clock_.Now());
  EXPECT_EQ(recorder_.text(), "orld!?");
  EXPECT_EQ(recorder_.finished()->usage.prompt_tokens, 5);
  EXPECT_EQ(recorder_.finished()->usage.completion_tokens, 3);
  EXPECT_EQ(recorder_.finished()->timings.ttft_ms, 20);
}

TEST_F(SessionTest, AModelThatWantsToSayElseSpellsForcedTextAnyway) {
  Submission submission = Greedy("hi");
  submission.forced_text = "a w";
  auto session = Start(submission);
  for (int32_t wish : {static_cast<int32_t>('q'), kEndOfTurn, kAnswer}) {
    EXPECT_FALSE(Say(*session, wish));
  }
  // The best of what fits; with all of them equal the lower id: bytes, not " world".
  EXPECT_EQ(std::vector(session->tokens().begin() + 2, session->tokens().end()), Bytes("a w"));
  EXPECT_TRUE(recorder_.deltas().empty());
  ASSERT_TRUE(Say(*session, kEndOfTurn));
}

TEST_F(SessionTest, TheSamplerGoesOnAsIfItHadDrawnTheBeginning) {
  const std::vector<float> flat(kVocabSize, 0.0F);
  const auto draw = [&](Submission submission, int n) {
    submission.sampling = {.presence_penalty = 1, .logit_bias = {{kEndOfTurn, -100.0F}}, .seed = 5};
    auto session = Start(std::move(submission));
    for (int i = 0; i < n; ++i) EXPECT_TRUE(session->Advance(flat, &scratch_, clock_.Now()));
    return std::vector(session->tokens().begin(), session->tokens().end());
  };
  const std::vector<int32_t> whole = draw({.prompt_ids = Bytes("hi")}, 8);
  for (size_t n_kept = 0; n_kept < 6; ++n_kept) {
    Submission rest{.prompt_ids = std::vector(whole.begin(), whole.begin() + 2 + n_kept),
                    .n_answer_ids = n_kept};
    EXPECT_EQ(draw(std::move(rest), 8 - static_cast<int>(n_kept)), whole);
  }
}

TEST_F(SessionTest, ForcedTextThatNoTokenSpellsIsATypedError) {
  model_.mask = std::make_shared<const sampling::TokenMask>(kVocabSize, Bytes("z"));
  Submission submission = Greedy("hi");
  submission.forced_text = "z";
  auto session = Start(submission);
  const std::vector<float> flat(kVocabSize, 0.0F);
  const auto outcome = session->Advance(flat, &scratch_, clock_.Now());
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, ErrorCode::kUnsupported);
}

TEST_F(SessionTest, ForcedTextThatFillsTheContextEndsThere) {
  Submission submission = Greedy("hi");
  submission.forced_text = std::string(kContext, 'a');
  auto session = Start(submission);
  const auto outcome = SayAll(*session, std::vector<int32_t>(kContext, 'a'));
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->reason, FinishReason::kLength);
  session->Finish(*outcome, clock_.Now());
  EXPECT_EQ(recorder_.text(), "");
  EXPECT_EQ(recorder_.finished()->usage.prompt_tokens, kContext);
  EXPECT_EQ(recorder_.finished()->usage.completion_tokens, 0);
}

TEST_F(SessionTest, StopStringAcrossTokensEndsTheTextBeforeIt) {
  Submission submission = Greedy("hi");
  submission.stop = {"END", "o w"};
  auto session = Start(submission);
  EXPECT_FALSE(SayAll(*session, Bytes("hello")));
  EXPECT_EQ(recorder_.text(), "hell");        // the o may begin a stop string
  const auto outcome = Say(*session, kWord);  // " world"
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->reason, FinishReason::kStop);
  EXPECT_EQ(outcome->detail, "o w");
  EXPECT_EQ(recorder_.text(), "hell");
  EXPECT_EQ(recorder_.token_ids(), Bytes("hell"));  // those wholly inside the stop string are out
}

TEST_F(SessionTest, TokenThatBeginsBeforeTheStopStringIsReported) {
  Submission submission = Greedy("hi");
  submission.stop = {"orld"};
  auto session = Start(submission);
  ASSERT_TRUE(Say(*session, kWord));
  EXPECT_EQ(recorder_.text(), " w");
  EXPECT_THAT(recorder_.token_ids(), ElementsAre(kWord));
}

TEST_F(SessionTest, HeldTextThatIsNoStopStringIsShownLater) {
  Submission submission = Greedy("hi");
  submission.stop = {"abcd"};
  auto session = Start(submission);
  SayAll(*session, Bytes("xabc"));
  EXPECT_EQ(recorder_.text(), "x");
  Say(*session, 'z');
  EXPECT_EQ(recorder_.text(), "xabcz");
  SayAll(*session, Bytes("ab"));
  ASSERT_TRUE(Say(*session, kEndOfTurn));
  EXPECT_EQ(recorder_.text(), "xabczab");
  EXPECT_EQ(recorder_.token_ids(), Bytes("xabczab"));
}

TEST_F(SessionTest, TokensComeWithTheFirstPieceOfTheirTextAndNotBefore) {
  Submission submission = Greedy("hi");
  submission.stop = {"aab"};
  auto session = Start(submission);
  SayAll(*session, Bytes("aa"));
  EXPECT_TRUE(recorder_.deltas().empty());
  Say(*session, 'a');  // the first one is free: "aa" may still begin the stop string
  EXPECT_EQ(recorder_.text(), "a");
  EXPECT_THAT(recorder_.token_ids(), ElementsAre('a'));
  ASSERT_TRUE(Say(*session, 'b'));
  EXPECT_EQ(recorder_.text(), "a");
  EXPECT_THAT(recorder_.token_ids(), ElementsAre('a'));
}

TEST_F(SessionTest, MaxTokensFinishesWithLengthAndShowsWhatWasHeld) {
  Submission submission = Greedy("hi");
  submission.max_tokens = 3;
  submission.stop = {"cd"};
  auto session = Start(submission);
  EXPECT_FALSE(SayAll(*session, Bytes("ab")));
  const auto outcome = Say(*session, 'c');
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->reason, FinishReason::kLength);
  EXPECT_EQ(recorder_.text(), "abc");
}

TEST_F(SessionTest, EndOfTurnAsTheLastAllowedTokenIsAStop) {
  Submission submission = Greedy("hi");
  submission.max_tokens = 2;
  auto session = Start(submission);
  EXPECT_FALSE(Say(*session, 'a'));
  const auto outcome = Say(*session, kEndOfTurn);
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->reason, FinishReason::kStop);
}

TEST_F(SessionTest, FullContextFinishesWithLength) {
  auto session = Start(Greedy(std::string(kContext - 2, 'x')));
  EXPECT_FALSE(Say(*session, 'a'));
  const auto outcome = Say(*session, 'b');
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->reason, FinishReason::kLength);
  EXPECT_EQ(recorder_.text(), "ab");
}

TEST_F(SessionTest, LoopEndsDegenerateOnlyWhereAskedFor) {
  model_ = testing::MakeModel(200);
  for (bool detect : {false, true}) {
    Submission submission = Greedy("hi");
    submission.detect_degeneration = detect;
    auto session = Start(submission);
    std::optional<Session::Outcome> outcome;
    int n_said = 0;
    while (!outcome && n_said < 60) outcome = Say(*session, 'a' + n_said++ % 5);
    EXPECT_EQ(outcome.has_value(), detect);
    if (!outcome) continue;
    EXPECT_EQ(n_said, 48);
    EXPECT_EQ(outcome->reason, FinishReason::kDegenerate);
    EXPECT_EQ(outcome->detail, "tail_period: the last 48 tokens repeat a cycle of 5");
  }
}

TEST_F(SessionTest, LogprobsComeWithTheirTokens) {
  Submission submission = Greedy("hi");
  submission.top_logprobs = 2;
  auto session = Start(submission);
  std::vector<float> logits(kVocabSize, -1000.0F);
  logits['a'] = std::log(0.75F);
  logits[kWord] = std::log(0.25F);
  ASSERT_TRUE(session->Advance(logits, &scratch_, clock_.Now()));
  const auto deltas = recorder_.deltas();
  ASSERT_EQ(deltas.size(), 1U);
  ASSERT_EQ(deltas[0].logprobs.size(), 1U);
  const TokenLogprobs& logprobs = deltas[0].logprobs[0];
  EXPECT_EQ(logprobs.chosen.id, 'a');
  EXPECT_EQ(logprobs.chosen.bytes, "a");
  EXPECT_NEAR(logprobs.chosen.logprob, std::log(0.75), 1e-5);
  ASSERT_EQ(logprobs.top.size(), 2U);
  EXPECT_EQ(logprobs.top[1].id, kWord);
  EXPECT_EQ(logprobs.top[1].bytes, " world");
  EXPECT_NEAR(logprobs.top[1].logprob, std::log(0.25), 1e-5);
}

TEST_F(SessionTest, HeldTokensKeepTheirLogprobs) {
  Submission submission = Greedy("hi");
  submission.top_logprobs = 0;
  submission.stop = {"abz"};
  auto session = Start(submission);
  SayAll(*session, Bytes("abc"));
  const auto deltas = recorder_.deltas();
  ASSERT_EQ(deltas.size(), 1U);
  ASSERT_EQ(deltas[0].logprobs.size(), 3U);
  EXPECT_EQ(deltas[0].logprobs[1].chosen.bytes, "b");
  EXPECT_TRUE(deltas[0].logprobs[1].top.empty());
}

TEST_F(SessionTest, TimingsAreMeasuredFromTheSubmission) {
  EventSink sink = recorder_.Sink();
  auto session = Session::Create(7, Greedy("hi"), model_, &sink, clock_.Now());
  ASSERT_TRUE(session);
  clock_.Advance(std::chrono::milliseconds(10));
  (*session)->Start(executor_.NewSlot(executor::KvPrecision::kF16).value(), clock_.Now());
  clock_.Advance(std::chrono::milliseconds(30));
  Say(**session, 'a');
  for (int i = 0; i < 4; ++i) {
    clock_.Advance(std::chrono::milliseconds(50));
    Say(**session, 'b');
  }
  clock_.Advance(std::chrono::milliseconds(5));
  (*session)->Finish({.reason = FinishReason::kCancelled}, clock_.Now());
  const Timings timings = recorder_.finished()->timings;
  EXPECT_DOUBLE_EQ(timings.queued_ms, 10);
  EXPECT_DOUBLE_EQ(timings.ttft_ms, 40);
  EXPECT_DOUBLE_EQ(timings.e2e_ms, 245);
  EXPECT_DOUBLE_EQ(timings.decode_tokens_per_second, 20);
}

TEST_F(SessionTest, LogitsThatAreNotFiniteAreAnError) {
  auto session = Start(Greedy("hi"));
  std::vector<float> logits(kVocabSize, 0.0F);
  logits[3] = std::numeric_limits<float>::quiet_NaN();
  const auto outcome = session->Advance(logits, &scratch_, clock_.Now());
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, ErrorCode::kInternal);
}

TEST_F(SessionTest, WrongSubmissionsNameTheField) {
  EXPECT_EQ(CreateError({}).param, "prompt");
  EXPECT_EQ(CreateError({.prompt_ids = {kVocabSize}}).param, "prompt");
  EXPECT_EQ(CreateError({.prompt_ids = {-1}}).param, "prompt");
  EXPECT_EQ(CreateError({.prompt_ids = {1}, .max_tokens = -1}).param, "max_tokens");
  EXPECT_EQ(CreateError({.prompt_ids = {1}, .stop = std::vector<std::string>(17, "x")}).param,
            "stop");
  EXPECT_EQ(CreateError({.prompt_ids = {1}, .stop = {std::string(1025, 'x')}}).param, "stop");
  EXPECT_EQ(CreateError({.prompt_ids = {1}, .top_logprobs = 21}).param, "top_logprobs");
  EXPECT_EQ(CreateError({.prompt_ids = {1}, .sampling = {.top_p = 2}}).param, "top_p");
}

TEST_F(SessionTest, PromptThatFillsTheContextNamesBothFigures) {
  const Error error = CreateError({.prompt_ids = std::vector<int32_t>(kContext, 1)});
  EXPECT_EQ(error.code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(error.param, "context");
  EXPECT_THAT(error.message, HasSubstr("64 tokens and the context 64"));
}

}  // namespace
}  // namespace tandem::session
