#include "engine/sampling/top_candidates.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include <gtest/gtest.h>

#include "engine/sampling/philox.h"

namespace tandem::sampling {
namespace {

std::vector<int32_t> FullSort(const std::vector<float>& values, size_t k) {
  std::vector<int32_t> ids(values.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::ranges::sort(ids, [&](int32_t a, int32_t b) {
    return values[a] != values[b] ? values[a] > values[b] : a < b;
  });
  ids.resize(std::min(k, ids.size()));
  return ids;
}

TEST(TopCandidatesTest, EqualsAFullSortForEveryK) {
  // Few distinct values, so that ties cross every cut.
  std::vector<float> values(257);
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(static_cast<int>(UniformDraw(7, i) * 20));
  }
  std::vector<int32_t> ids;
  for (size_t k = 0; k <= values.size() + 3; ++k) {
    SelectTop(values, k, &ids);
    ASSERT_EQ(ids, FullSort(values, k)) << "k " << k;
  }
}

TEST(TopCandidatesTest, AscendingInputKeepsTheLast) {
  std::vector<float> values(1000);
  std::iota(values.begin(), values.end(), 0.0F);
  std::vector<int32_t> ids;
  SelectTop(values, 3, &ids);
  EXPECT_EQ(ids, (std::vector<int32_t>{999, 998, 997}));
}

TEST(TopCandidatesTest, AllEqualKeepsTheLowestIds) {
  const std::vector<float> values(100, 1.0F);
  std::vector<int32_t> ids;
  SelectTop(values, 4, &ids);
  EXPECT_EQ(ids, (std::vector<int32_t>{0, 1, 2, 3}));
}

TEST(TopCandidatesTest, MinusInfinityComesLast) {
  const float out = -std::numeric_limits<float>::infinity();
  std::vector<int32_t> ids;
  SelectTop(std::vector<float>{out, 1.0F, out, 2.0F}, 3, &ids);
  EXPECT_EQ(ids, (std::vector<int32_t>{3, 1, 0}));
}

TEST(TopCandidatesTest, MassIsReachedByTheFewestLargest) {
  std::vector<float> values(200);
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(static_cast<int>(UniformDraw(8, i) * 30));
  }
  // Weights are whole numbers, so that sums are exact in any order.
  const auto weight = [&](int32_t id) { return values[id]; };
  const std::vector<int32_t> sorted = FullSort(values, values.size());
  double total = 0;
  for (float value : values) total += value;
  std::vector<int32_t> ids;
  for (double mass = 0; mass <= total + 2; mass += 1) {
    SelectMass(values, mass, weight, &ids);
    size_t expected = 1;  // at least one, even for no mass
    for (double sum = values[sorted[0]]; sum < mass && expected < sorted.size(); ++expected) {
      sum += values[sorted[expected]];
    }
    std::ranges::sort(ids);
    std::vector<int32_t> fewest(sorted.begin(), sorted.begin() + static_cast<ptrdiff_t>(expected));
    std::ranges::sort(fewest);
    ASSERT_EQ(ids, fewest) << "mass " << mass;
  }
}

}  // namespace
}  // namespace tandem::sampling
