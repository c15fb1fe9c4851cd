#include "engine/session/prefix_cache.h"

#include <gtest/gtest.h>

#include "engine/executor/fake_executor.h"

namespace tandem::session {
namespace {

using Tokens = std::vector<int32_t>;

class PrefixCacheTest : public ::testing::Test {
 protected:
  std::unique_ptr<executor::Slot> SlotWith(const Tokens& tokens) {
    auto slot = executor_.NewSlot(executor::KvPrecision::kF16).value();
    executor::FakeExecutor::TokensOf(*slot) = tokens;
    return slot;
  }
  void Put(PrefixCache& cache, const Tokens& tokens) { cache.Put(tokens, SlotWith(tokens)); }

  executor::FakeExecutor executor_{
      100, 64, {.max_tokens = 64, .max_logit_rows = 8}, [](std::span<const int32_t>) { return 0; }};
};

TEST_F(PrefixCacheTest, FindsTheLongestCommonBeginning) {
  PrefixCache cache(4);
  EXPECT_EQ(cache.Find(Tokens{1, 2, 3}).n_tokens, 0);
  Put(cache, {1, 2, 9});
  Put(cache, {1, 2, 3, 4, 9});
  Put(cache, {7, 7});
  EXPECT_EQ(cache.Find(Tokens{1, 2, 3, 4, 5, 6}).n_tokens, 4);
  EXPECT_EQ(cache.Find(Tokens{1, 2, 8}).n_tokens, 2);
  EXPECT_EQ(cache.Find(Tokens{8, 7, 7}).n_tokens, 0);
  EXPECT_EQ(cache.Find(Tokens{}).n_tokens, 0);
}

TEST_F(PrefixCacheTest, LastTokenOfThePromptIsNeverCached) {
  PrefixCache cache(4);
  Put(cache, {1, 2, 3});
  EXPECT_EQ(cache.Find(Tokens{1, 2, 3}).n_tokens, 2);
  EXPECT_EQ(cache.Find(Tokens{1}).n_tokens, 0);
}

TEST_F(PrefixCacheTest, ContinuationIsWhatGoesOnNearTheSlotsEnd) {
  PrefixCache cache(4);
  Tokens chat;
  for (int32_t i = 0; i < 30; ++i) chat.push_back(i);
  Put(cache, chat);
  Tokens next(chat.begin(), chat.end() - 8);
  next.push_back(50);
  EXPECT_TRUE(cache.Find(next).is_continuation);
  Tokens other(chat.begin(), chat.end() - 9);
  other.push_back(50);
  EXPECT_FALSE(cache.Find(other).is_continuation);
  EXPECT_EQ(cache.Find(other).n_tokens, 21);
}

TEST_F(PrefixCacheTest, TakeGivesTheSlotCutToTheMatch) {
  PrefixCache cache(4);
  Put(cache, {1, 2, 3, 4});
  Put(cache, {5, 6});
  const auto slot = cache.Take(Tokens{1, 2, 9, 9});
  EXPECT_EQ(executor::FakeExecutor::TokensOf(*slot), (Tokens{1, 2}));
  EXPECT_EQ(cache.size(), 1U);
  EXPECT_EQ(cache.Find(Tokens{1, 2, 9}).n_tokens, 0);
  EXPECT_EQ(cache.Find(Tokens{5, 6, 7}).n_tokens, 2);
}

TEST_F(PrefixCacheTest, LeastRecentlyUsedGoesFirst) {
  PrefixCache cache(2);
  Put(cache, {1, 1});
  Put(cache, {2, 2});
  EXPECT_EQ(executor::FakeExecutor::TokensOf(cache.Borrow(Tokens{1, 1, 5})), (Tokens{1, 1}));
  Put(cache, {3, 3});  // {2, 2} goes
  EXPECT_EQ(cache.size(), 2U);
  EXPECT_EQ(cache.Find(Tokens{2, 2, 5}).n_tokens, 0);
  EXPECT_EQ(cache.Find(Tokens{1, 1, 5}).n_tokens, 2);
  EXPECT_TRUE(cache.DropOldest());  // {1, 1}
  EXPECT_EQ(cache.Find(Tokens{1, 1, 5}).n_tokens, 0);
  EXPECT_EQ(cache.Find(Tokens{3, 3, 5}).n_tokens, 2);
  EXPECT_TRUE(cache.DropOldest());
  EXPECT_FALSE(cache.DropOldest());
  EXPECT_EQ(executor_.n_slots(), 0);
}

TEST_F(PrefixCacheTest, ShorterSlotOfTheSameSequenceIsReplaced) {
  PrefixCache cache(4);
  Put(cache, {1, 2});
  Put(cache, {1, 2, 3});
  EXPECT_EQ(cache.size(), 1U);
  EXPECT_EQ(executor_.n_slots(), 1);
  EXPECT_EQ(cache.bytes(), executor_.bytes_per_slot);
}

TEST_F(PrefixCacheTest, TokensThatTheSlotDoesNotHoldAreNotPromised) {
  PrefixCache cache(4);
  cache.Put({1, 2, 3, 4}, SlotWith({1, 2, 3}));  // the last sampled token never ran
  EXPECT_EQ(cache.Find(Tokens{1, 2, 3, 4, 5}).n_tokens, 3);
}

TEST_F(PrefixCacheTest, EmptySlotsAndCachesKeepNothing) {
  PrefixCache cache(4);
  Put(cache, {});
  EXPECT_EQ(cache.size(), 0U);
  PrefixCache none(0);
  Put(none, {1, 2});
  EXPECT_EQ(none.size(), 0U);
  EXPECT_EQ(executor_.n_slots(), 0);
}

}  // namespace
}  // namespace tandem::session
