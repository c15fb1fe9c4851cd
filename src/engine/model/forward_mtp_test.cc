// The multi-token prediction layer against a double-precision reference that shares nothing with
// it, and its bookkeeping.
#include <algorithm>
#include <cmath>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/model/model.h"
#include "engine/model/mtp_trail.h"
#include "engine/model/pack.h"
#include "engine/model/testing/tiny_model.h"

namespace tandem::model {
namespace {

constexpr TinyOptions kMimo = {
    .architecture = Architecture::kQwen2, .tied_head = false, .mtp = true, .rotary_dim = 16};

std::vector<int32_t> Tokens(int n) {
  std::vector<int32_t> ids(n);
  for (int i = 0; i < n; ++i) ids[i] = (i * i * 31 + i * 7 + 3) % kMimo.vocab_size;
  return ids;
}

double RelativeRms(std::span<const float> logits, std::span<const double> reference) {
  double squares = 0, reference_squares = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    squares += (logits[i] - reference[i]) * (logits[i] - reference[i]);
    reference_squares += reference[i] * reference[i];
  }
  return std::sqrt(squares / reference_squares);
}

// As forward_test.cc derives it, for one layer more.
const double kTolerance = 3 * 13.5 * std::sqrt(kMimo.n_layers + 2.0) * 0x1p-24;

// A sequence of a model with its cache and trail.
class Sequence {
 public:
  explicit Sequence(Forward* forward) : forward_(forward) {
    const Hyperparameters& h = forward->model().hyperparameters();
    cache_ = KvCache::Create(h, {.context_tokens = 200, .type = KvType::kF32}).value();
    trail_.emplace(h.d_model);
  }

  // In one step; returns the logits after each.
  std::vector<float> Step(std::span<const int32_t> tokens) {
    std::vector<float> logits(tokens.size() * kMimo.vocab_size);
    const BatchEntry entry{.cache = cache_.get(),
                           .token_ids = tokens,
                           .n_logit_rows = static_cast<int>(tokens.size()),
                           .trail = &*trail_};
    const Status status = forward_->Step({&entry, 1}, logits);
    EXPECT_TRUE(status) << status.error().message;
    return logits;
  }
  std::vector<float> Draft(int32_t token) {
    std::vector<float> logits(kMimo.vocab_size);
    const DraftEntry entry = draft_entry(token);
    const Status status = forward_->Draft({&entry, 1}, logits);
    EXPECT_TRUE(status) << status.error().message;
    return logits;
  }
  void Truncate(int n) {
    ASSERT_TRUE(cache_->Truncate(n));
    trail_->Truncate(n);
  }
  DraftEntry draft_entry(int32_t token) {
    return {.cache = cache_.get(), .trail = &*trail_, .token_id = token};
  }
  KvCache& cache() { return *cache_; }
  MtpTrail& trail() { return *trail_; }

 private:
  Forward* forward_;
  std::unique_ptr<KvCache> cache_;
  std::optional<MtpTrail> trail_;
};

class ForwardMtpTest : public ::testing::Test {
 protected:
  ForwardMtpTest() : tiny_(kMimo) {
    model_ = Model::Load(tiny_.File()).value();
    pool_ = ops::ThreadPool::Create(1, 2).value();
    forward_ = NewForward({.max_tokens = 128, .max_logit_rows = 128});
    tokens_ = Tokens(120);
    reference_ = ReferenceMtpLogits(tiny_, tokens_);
  }
  std::unique_ptr<Forward> NewForward(const StepLimits& limits) {
    return Forward::Create(model_, pool_.get(), limits).value();
  }
  std::span<const int32_t> Range(int begin, int end) const {
    return std::span(tokens_).subspan(begin, end - begin);
  }
  std::span<const double> Reference(int position) const {
    return std::span(reference_).subspan(position * kMimo.vocab_size, kMimo.vocab_size);
  }

  TinyModel tiny_;
  std::shared_ptr<const Model> model_;
  std::unique_ptr<ops::ThreadPool> pool_;
  std::unique_ptr<Forward> forward_;
  std::vector<int32_t> tokens_;
  std::vector<double> reference_;
};

TEST_F(ForwardMtpTest, DraftsAreTheReferencesBehindAPromptAndAlongAnAnswer) {
  Sequence sequence(forward_.get());
  sequence.Step(Range(0, 50));
  for (int t = 50; t < 119; ++t) {
    ASSERT_LT(RelativeRms(sequence.Draft(tokens_[t]), Reference(t)), kTolerance) << t;
    sequence.Step(Range(t, t + 1));
  }
}

TEST_F(ForwardMtpTest, DraftsDoNotDependOnHowTheSequenceWasCutNorOnWhenTheyAreAskedFor) {
  const std::vector<std::vector<int>> cuts = {
      {90}, {1, 90}, {8, 16, 24, 90}, {60, 61, 62, 63, 64, 72, 80, 88, 90}, {33, 66, 90}};
  std::vector<float> first;
  for (const std::vector<int>& cut : cuts) {
    Sequence sequence(forward_.get());
    int begin = 0;
    for (const int end : cut) {
      sequence.Step(Range(begin, end));
      begin = end;
    }
    const std::vector<float> logits = sequence.Draft(tokens_[90]);
    EXPECT_LT(RelativeRms(logits, Reference(90)), kTolerance);
    if (first.empty()) first = logits;
    EXPECT_EQ(logits, first);
  }
  // One by one, without a single draft in between: more than is remembered.
  Sequence slow(forward_.get());
  for (int t = 0; t < 90; ++t) slow.Step(Range(t, t + 1));
  EXPECT_EQ(slow.Draft(tokens_[90]), first);
}

TEST_F(ForwardMtpTest, TheModelsLogitsAreTheSameWithAndWithout) {
  Sequence with(forward_.get());
  const std::vector<float> logits = with.Step(Range(0, 100));
  std::vector<float> plain(logits.size());
  const auto cache = KvCache::Create(model_->hyperparameters(), {.context_tokens = 200}).value();
  const BatchEntry entry{.cache = cache.get(), .token_ids = Range(0, 100), .n_logit_rows = 100};
  ASSERT_TRUE(forward_->Step({&entry, 1}, plain));
  EXPECT_EQ(logits, plain);
}

TEST_F(ForwardMtpTest, RejectedTokensLeaveNothingBehind) {
  Sequence sequence(forward_.get());
  sequence.Step(Range(0, 40));
  for (int t = 40; t < 110; ++t) {
    ASSERT_LT(RelativeRms(sequence.Draft(tokens_[t]), Reference(t)), kTolerance) << t;
    // The token and two wrong guesses, which are taken back.
    const int32_t guessed[] = {tokens_[t], (tokens_[t + 1] + 1) % kMimo.vocab_size, 0};
    sequence.Step(guessed);
    sequence.Truncate(t + 1);
  }
}

TEST_F(ForwardMtpTest, SeveralSequencesAreDraftedAtOnce) {
  for (const int max_tokens : {128, 40, 3}) {
    const auto forward = NewForward({.max_tokens = max_tokens, .max_logit_rows = 3});
    std::vector<Sequence> sequences;
    for (int i = 0; i < 3; ++i) sequences.emplace_back(forward.get());
    std::vector<DraftEntry> entries;
    for (int i = 0; i < 3; ++i) {
      for (int t = 0; t < 30 + 5 * i; ++t) {
        std::vector<float> logits(kMimo.vocab_size);
        const BatchEntry entry{.cache = &sequences[i].cache(),
                               .token_ids = Range(t, t + 1),
                               .n_logit_rows = 1,
                               .trail = &sequences[i].trail()};
        ASSERT_TRUE(forward->Step({&entry, 1}, logits));
      }
      entries.push_back(sequences[i].draft_entry(tokens_[30 + 5 * i]));
    }
    std::vector<float> logits(3 * kMimo.vocab_size);
    ASSERT_TRUE(forward->Draft(entries, logits));
    for (int i = 0; i < 3; ++i) {
      const auto row = std::span(logits).subspan(i * kMimo.vocab_size, kMimo.vocab_size);
      EXPECT_LT(RelativeRms(row, Reference(30 + 5 * i)), kTolerance) << i;
    }
  }
}

TEST_F(ForwardMtpTest, SharedPagesAreCaughtUpBeforeAndNeverWrittenAfter) {
  Sequence first(forward_.get());
  first.Step(Range(0, 60));
  for (int t = 60; t < 70; ++t) first.Step(Range(t, t + 1));
  forward_->CatchUp(&first.cache(), &first.trail());
  EXPECT_EQ(first.trail().n_done(), 70);
  Sequence second(forward_.get());
  ASSERT_TRUE(second.cache().Adopt(first.cache().Share(70), 70));
  second.trail().Reset(70);
  // It lacks the hidden state before its first token, and goes on all the same.
  second.Step(Range(70, 90));
  EXPECT_LT(RelativeRms(second.Draft(tokens_[90]), Reference(90)), 0.5);
  EXPECT_GT(RelativeRms(second.Draft(tokens_[90]), Reference(90)), kTolerance);
  // The first one goes on in pages that are no longer its own alone.
  first.Step(Range(70, 75));
  EXPECT_LT(RelativeRms(first.Draft(tokens_[75]), Reference(75)), kTolerance);
}

TEST_F(ForwardMtpTest, WhatCannotBeDraftedIsRefused) {
  Sequence sequence(forward_.get());
  sequence.Step(Range(0, 10));
  std::vector<float> logits(kMimo.vocab_size);
  DraftEntry entry = sequence.draft_entry(kMimo.vocab_size);
  EXPECT_EQ(forward_->Draft({&entry, 1}, logits).error().code, ErrorCode::kInvalidArgument);
  entry = sequence.draft_entry(-1);
  EXPECT_EQ(forward_->Draft({&entry, 1}, logits).error().code, ErrorCode::kInvalidArgument);
  entry = sequence.draft_entry(1);
  entry.trail = nullptr;
  EXPECT_EQ(forward_->Draft({&entry, 1}, logits).error().code, ErrorCode::kInvalidArgument);
  const DraftEntry twice[] = {sequence.draft_entry(1), sequence.draft_entry(1)};
  std::vector<float> two(2 * kMimo.vocab_size);
  EXPECT_EQ(forward_->Draft(twice, two).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(forward_->Draft({}, logits).error().code, ErrorCode::kInvalidArgument);
  entry = sequence.draft_entry(1);
  EXPECT_EQ(forward_->Draft({&entry, 1}, std::span(logits).first(3)).error().code,
            ErrorCode::kInvalidArgument);

  const auto without = Model::Load(tiny_.File(), {.mtp = false});
  ASSERT_TRUE(without) << without.error().message;
  EXPECT_EQ((*without)->hyperparameters().n_cache_layers(), kMimo.n_layers);
  const auto forward =
      Forward::Create(*without, pool_.get(), {.max_tokens = 8, .max_logit_rows = 8}).value();
  EXPECT_EQ(forward->Draft({&entry, 1}, logits).error().code, ErrorCode::kUnsupported);
}

TEST_F(ForwardMtpTest, APackageDraftsTheSameWithinItsRounding) {
  const auto bytes = PackInMemory(*tiny_.File(), *model_, *pool_, PackScheme::kInt8G32);
  ASSERT_TRUE(bytes) << bytes.error().message;
  std::vector<std::byte> storage(bytes->size() + kernels::kStripAlignment);
  const size_t shift =
      -reinterpret_cast<uintptr_t>(storage.data()) % size_t{kernels::kStripAlignment};
  const std::span<std::byte> aligned = std::span(storage).subspan(shift, bytes->size());
  std::ranges::copy(*bytes, aligned.begin());
  const auto file = package::File::Parse(aligned, "tiny.tandem");
  ASSERT_TRUE(file) << file.error().message;
  for (const bool mtp : {true, false}) {
    const auto packed = Model::Load(*file, {.mtp = mtp});
    ASSERT_TRUE(packed) << packed.error().message;
    EXPECT_EQ((*packed)->hyperparameters().n_mtp_layers, mtp ? 1 : 0);
    EXPECT_EQ((*packed)->hyperparameters().n_layers, kMimo.n_layers);
    if (!mtp) continue;
    EXPECT_EQ(PackedWeightsBytes(*model_, PackScheme::kInt8G32), (*packed)->weights_bytes());
    const auto forward =
        Forward::Create(*packed, pool_.get(), {.max_tokens = 128, .max_logit_rows = 128}).value();
    Sequence sequence(forward.get());
    sequence.Step(Range(0, 50));
    EXPECT_LT(RelativeRms(sequence.Draft(tokens_[50]), Reference(50)), 0.05);
  }
}

TEST(MtpTrailTest, RemembersTheLastTokens) {
  MtpTrail trail(2);
  std::vector<int32_t> tokens;
  std::vector<float> hidden;
  for (int i = 0; i < 50; ++i) {
    tokens.push_back(100 + i);
    hidden.push_back(static_cast<float>(i));
    hidden.push_back(static_cast<float>(-i));
  }
  trail.Append(0, tokens, hidden.data());
  EXPECT_EQ(trail.token(17), std::nullopt);
  EXPECT_EQ(trail.hidden(17), nullptr);
  EXPECT_EQ(trail.hidden(-1), nullptr);
  EXPECT_EQ(trail.token(18), 118);
  EXPECT_EQ(trail.token(49), 149);
  EXPECT_EQ(trail.token(50), std::nullopt);
  EXPECT_EQ(trail.hidden(49)[1], -49.0F);
  trail.set_n_done(50);
  trail.Truncate(45);
  EXPECT_EQ(trail.n_done(), 45);
  EXPECT_EQ(trail.token(45), std::nullopt);
  trail.Append(45, std::span(tokens).first(1), hidden.data());
  EXPECT_EQ(trail.token(45), 100);
  EXPECT_EQ(trail.token(44), 144);
  // Behind a gap, nothing before it is known.
  trail.Append(60, std::span(tokens).first(2), hidden.data());
  EXPECT_EQ(trail.token(45), std::nullopt);
  EXPECT_EQ(trail.token(61), 101);
  trail.Reset(5);
  EXPECT_EQ(trail.n_done(), 5);
  EXPECT_EQ(trail.token(4), std::nullopt);
}

}  // namespace
}  // namespace tandem::model
