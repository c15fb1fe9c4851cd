#include "engine/session/ngram_drafter.h"

#include <algorithm>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::session {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<int32_t> DraftOf(NgramDrafter& drafter, const std::vector<int32_t>& sequence,
                             size_t n) {
  std::vector<int32_t> drafts = {-1};
  drafter.Draft(sequence, n, &drafts);
  return drafts;
}
std::vector<int32_t> DraftOf(const std::vector<int32_t>& sequence, size_t n) {
  NgramDrafter drafter;
  return DraftOf(drafter, sequence, n);
}

TEST(NgramDrafterTest, WhatFollowedTheSameTokensIsDrafted) {
  EXPECT_THAT(DraftOf({1, 2, 3, 4, 5, 1, 2}, 3), ElementsAre(3, 4, 5));
  EXPECT_THAT(DraftOf({1, 2, 3, 4, 5, 1, 2}, 1), ElementsAre(3));
}

TEST(NgramDrafterTest, OneCommonTokenIsTooLittle) {
  EXPECT_THAT(DraftOf({1, 2, 3, 1}, 3), IsEmpty());
  EXPECT_THAT(DraftOf({}, 3), IsEmpty());
  EXPECT_THAT(DraftOf({1}, 3), IsEmpty());
  EXPECT_THAT(DraftOf({1, 2}, 3), IsEmpty());
}

TEST(NgramDrafterTest, TheLongestMatchWinsAndThenTheMostRecentOne) {
  // Behind 7 8 came 1, later 2; behind 9 7 8 came 1.
  EXPECT_THAT(DraftOf({9, 7, 8, 1, 6, 7, 8, 2, 5, 7, 8}, 1), ElementsAre(2));
  EXPECT_THAT(DraftOf({9, 7, 8, 1, 6, 7, 8, 2, 9, 7, 8}, 1), ElementsAre(1));
}

TEST(NgramDrafterTest, ARepetitionGoesOnBeyondTheEnd) {
  EXPECT_THAT(DraftOf({4, 1, 2, 3, 1, 2, 3, 1, 2}, 7), ElementsAre(3, 1, 2, 3, 1, 2, 3));
}

TEST(NgramDrafterTest, WhatComesLaterIsIndexedToo) {
  NgramDrafter drafter;
  std::vector<int32_t> sequence = {1, 2, 3};
  EXPECT_THAT(DraftOf(drafter, sequence, 2), IsEmpty());
  sequence.insert(sequence.end(), {9, 1, 2});
  EXPECT_THAT(DraftOf(drafter, sequence, 2), ElementsAre(3, 9));
}

TEST(NgramDrafterTest, LongRandomSequencesAreDraftedAsASearchWould) {
  std::mt19937 random(7);
  std::vector<int32_t> sequence;
  NgramDrafter drafter;
  for (int i = 0; i < 5000; ++i) {
    sequence.push_back(static_cast<int32_t>(random() % 12));
    if (i % 7 != 0) continue;
    std::vector<int32_t> expected;
    for (size_t n = 4; n >= 2 && expected.empty(); --n) {
      if (sequence.size() <= n) continue;
      for (size_t next = sequence.size() - 1; next >= n; --next) {
        if (!std::equal(sequence.end() - static_cast<ptrdiff_t>(n), sequence.end(),
                        sequence.begin() + static_cast<ptrdiff_t>(next - n))) {
          continue;
        }
        expected.push_back(sequence[next]);
        break;
      }
    }
    ASSERT_EQ(DraftOf(drafter, sequence, 1), expected) << i;
  }
}

}  // namespace
}  // namespace tandem::session
