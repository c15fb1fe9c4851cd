#include "engine/ops/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "engine/quant/half.h"

namespace tandem::ops {
namespace {

using kernels::kTilePositions;

std::vector<float> Normal(std::mt19937* random, int64_t n, float scale = 1.0F) {
  std::normal_distribution<float> normal(0.0F, scale);
  std::vector<float> values(n);
  for (float& value : values) value = normal(*random);
  return values;
}

// What was put into a cache of one layer with two KV heads, of which the second is used.
struct Past {
  static constexpr int kFill = 0x5A;  // of places that nothing was put into

  Past(const kernels::KernelSet* set, const AttentionShape& attention_shape, int n)
      : kernels(set),
        shape(attention_shape),
        n_positions(n),
        tile_bytes(kernels::KvTileBytes(shape.type, shape.head_dim)),
        scratch(AttentionScratchBytes(shape.head_dim)) {
    for (int p = 0; p < n; p += kTilePositions) {
      pages.emplace_back(2 * tile_bytes, std::byte{kFill});
    }
    for (const auto& page : pages) starts.push_back(page.data());
  }

  void Put(int position, const float* key, const float* value) {
    StoreKeyAndValue(*kernels, shape, key, value, position % kTilePositions,
                     pages[position / kTilePositions].data() + tile_bytes, scratch);
  }
  void PutAll(const std::vector<float>& keys, const std::vector<float>& values) {
    for (int p = 0; p < n_positions; ++p) {
      Put(p, keys.data() + int64_t{p} * shape.head_dim,
          values.data() + int64_t{p} * shape.head_dim);
    }
  }

  // Tokens at the last positions, `block` of them a call. Queries and output are dense.
  std::vector<float> Attend(const std::vector<float>& queries, int block = 1 << 20) {
    const int64_t width = int64_t{shape.n_queries} * shape.head_dim;
    const auto n_tokens = static_cast<int>(static_cast<int64_t>(queries.size()) / width);
    std::vector<float> out(queries.size() + 1, 123.0F);
    for (int t = 0; t < n_tokens; t += block) {
      ops::Attend(*kernels, shape, queries.data() + t * width, width, std::min(block, n_tokens - t),
                  n_positions - n_tokens + t, starts, tile_bytes, out.data() + t * width, width,
                  scratch);
    }
    EXPECT_EQ(out.back(), 123.0F);
    out.pop_back();
    return out;
  }

  const kernels::KernelSet* kernels;
  const AttentionShape shape;
  const int n_positions;
  const size_t tile_bytes;
  std::vector<std::byte> scratch;
  std::vector<std::vector<std::byte>> pages;
  std::vector<const std::byte*> starts;
};

// What a tile says, as kernels/kv_tile.h describes it, in double precision. Of kInt8 still rotated.
struct Decoded {
  explicit Decoded(const Past& past)
      : keys(int64_t{past.n_positions} * past.shape.head_dim), values(keys.size()) {
    const int head_dim = past.shape.head_dim;
    for (int p = 0; p < past.n_positions; ++p) {
      const std::byte* tile = past.starts[p / kTilePositions] + past.tile_bytes;
      const int slot = p % kTilePositions;
      const size_t plane = kernels::KvValuesOffset(past.shape.type, head_dim);
      for (int d = 0; d < head_dim; ++d) {
        const int64_t at = int64_t{p} * head_dim + d;
        const int64_t i = int64_t{slot} * head_dim + d;
        if (past.shape.type == KvType::kF32) {
          keys[at] = At<float>(tile, i);
          values[at] = At<float>(tile + plane, i);
        } else if (past.shape.type == KvType::kF16) {
          keys[at] = quant::HalfToFloat(At<uint16_t>(tile, i));
          values[at] = quant::HalfToFloat(At<uint16_t>(tile + plane, i));
        } else {
          const std::byte* scales = tile + 2 * plane;
          keys[at] = double{At<float>(scales, slot)} *
                     At<int8_t>(tile, (d / 2 * kTilePositions + slot) * 2 + d % 2);
          values[at] = double{At<float>(scales, kTilePositions + slot)} *
                       At<int8_t>(tile + plane, (slot / 2 * head_dim + d) * 2 + slot % 2);
        }
      }
    }
  }

  template <typename T>
  static T At(const std::byte* base, int64_t i) {
    T value;
    std::memcpy(&value, base + i * sizeof(T), sizeof(T));
    return value;
  }

  std::vector<double> keys;    // [n_positions, head_dim]
  std::vector<double> values;  // [n_positions, head_dim]
};

// The transform by its definition: entry (i, j) is -1 to the number of ones in i & j.
std::vector<double> Rotated(const double* x, int n, int block) {
  std::vector<double> y(n, 0.0);
  for (int i = 0; i < n; ++i) {
    for (int j = i / block * block; j < (i / block + 1) * block; ++j) {
      y[i] += __builtin_parity(static_cast<unsigned>((i % block) & (j % block))) ? -x[j] : x[j];
    }
  }
  return y;
}

struct Case {
  std::string name;
  const kernels::KernelSet* kernels;
  KvType type;
};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const kernels::KernelSet* set : kernels::UsableSets(os::HostCpu())) {
    const std::string isa(kernels::IsaName(set->isa));
    cases.push_back({isa + "_f32", set, KvType::kF32});
    cases.push_back({isa + "_f16", set, KvType::kF16});
    cases.push_back({isa + "_int8", set, KvType::kInt8});
  }
  return cases;
}

class AttendTest : public ::testing::TestWithParam<Case> {
 protected:
  AttentionShape Shape(int head_dim, int n_queries) const {
    return {.type = GetParam().type, .head_dim = head_dim, .n_queries = n_queries};
  }
  Past MakePast(int head_dim, int n_queries, int n_positions) const {
    return {GetParam().kernels, Shape(head_dim, n_queries), n_positions};
  }
};
INSTANTIATE_TEST_SUITE_P(Sets, AttendTest, ::testing::ValuesIn(Cases()),
                         [](const auto& instance) { return instance.param.name; });

// Against attention over what the tiles hold. Positions below, at and beyond a tile; head counts
// below, at and beyond what a kernel takes; head sizes that are and are not powers of two.
TEST_P(AttendTest, IsSoftmaxAttentionOverWhatTheTilesHold) {
  std::mt19937 random(1);
  for (const int head_dim : {8, 24, 32, 96, 128}) {
    const bool integers = GetParam().type == KvType::kInt8;
    const int block = integers ? head_dim & -head_dim : 1;
    for (const int n_positions : {1, 5, 63, 64, 65, 200}) {
      for (const int n_queries : {1, 3, 4, 6, 50}) {
        if (n_queries > 6 && head_dim != 24) continue;
        Past past = MakePast(head_dim, n_queries, n_positions);
        past.PutAll(Normal(&random, int64_t{n_positions} * head_dim),
                    Normal(&random, int64_t{n_positions} * head_dim));
        const Decoded decoded(past);
        const auto queries = Normal(&random, int64_t{n_queries} * head_dim, 2.0F);
        const auto out = past.Attend(queries);
        for (int q = 0; q < n_queries; ++q) {
          std::vector<double> query(queries.begin() + int64_t{q} * head_dim,
                                    queries.begin() + int64_t{q + 1} * head_dim);
          if (integers) query = Rotated(query.data(), head_dim, block);
          const double largest_query =
              std::fabs(*std::max_element(query.begin(), query.end(), [](double a, double b) {
                return std::fabs(a) < std::fabs(b);
              }));
          std::vector<double> weights(n_positions);
          double sum = 0;
          double score_error = 0;  // the largest
          for (int p = 0; p < n_positions; ++p) {
            double score = 0;
            double magnitude = 0;
            double key_sum = 0;
            for (int d = 0; d < head_dim; ++d) {
              const double key = decoded.keys[int64_t{p} * head_dim + d];
              score += query[d] * key;
              magnitude += std::fabs(query[d] * key);
              key_sum += std::fabs(key);
            }
            const double scale = 1 / std::sqrt(head_dim) / block;
            weights[p] = std::exp(score * scale);
            sum += weights[p];
            // Sums in float; of codes of 16 bits, half a step of the query for each key.
            const double rounding = (head_dim / 4.0 + 8) * 0x1p-24 * magnitude;
            score_error = std::max(
                score_error,
                scale * (rounding + (integers ? 0.5 / 32767 * largest_query * key_sum : 0)));
          }
          std::vector<double> exact(head_dim, 0.0);
          double magnitude = 0;
          double weight_step = 0;  // what a weight in codes of 16 bits may be off by, times a value
          for (int p = 0; p < n_positions; ++p) {
            double largest_value = 0;
            for (int d = 0; d < head_dim; ++d) {
              const double value = decoded.values[int64_t{p} * head_dim + d];
              exact[d] += weights[p] / sum * value;
              largest_value = std::max(largest_value, std::fabs(value));
            }
            magnitude += weights[p] / sum * largest_value;
            weight_step = std::max(weight_step, weights[p] / sum * largest_value);
          }
          if (integers) {
            exact = Rotated(exact.data(), head_dim, block);
            for (double& value : exact) value /= block;
          }
          const double tolerance =
              (2 * score_error + 8e-7 + (2 * n_positions + 8) * 0x1p-24) * magnitude +
              (integers ? n_positions * 0.5 / 32767 * weight_step : 0);
          for (int d = 0; d < head_dim; ++d) {
            ASSERT_NEAR(out[int64_t{q} * head_dim + d], exact[d], tolerance)
                << head_dim << " " << n_positions << " " << n_queries;
          }
        }
      }
    }
  }
}

TEST_P(AttendTest, TilesHoldKeysAndValuesWithinTheirRounding) {
  std::mt19937 random(2);
  constexpr int kPositions = 70;
  for (const int head_dim : {24, 128}) {
    Past past = MakePast(head_dim, 1, kPositions);
    auto keys = Normal(&random, int64_t{kPositions} * head_dim);
    auto values = Normal(&random, int64_t{kPositions} * head_dim);
    keys[3] = 40.0F;  // an outlier
    past.PutAll(keys, values);
    const Decoded decoded(past);
    const int block = GetParam().type == KvType::kInt8 ? head_dim & -head_dim : 1;
    const auto expect_near = [&](const std::vector<float>& given, const std::vector<double>& held) {
      for (int p = 0; p < kPositions; ++p) {
        const std::vector<double> row(given.begin() + int64_t{p} * head_dim,
                                      given.begin() + int64_t{p + 1} * head_dim);
        const std::vector<double> expected = Rotated(row.data(), head_dim, block);
        double largest = 0;
        for (const double value : expected) largest = std::max(largest, std::fabs(value));
        for (int d = 0; d < head_dim; ++d) {
          const double tolerance = GetParam().type == KvType::kF32 ? 0
                                   : GetParam().type == KvType::kF16
                                       ? 0x1p-11 * std::fabs(expected[d])
                                       : largest * (0.5 / 127 + 1e-6);
          ASSERT_NEAR(held[int64_t{p} * head_dim + d], expected[d], tolerance);
        }
      }
    };
    expect_near(keys, decoded.keys);
    expect_near(values, decoded.values);
  }
}

TEST_P(AttendTest, ScoresThatOverflowAnExponentialDoNot) {
  std::mt19937 random(3);
  constexpr int kHeadDim = 32;
  Past past = MakePast(kHeadDim, 1, 130);
  auto keys = Normal(&random, 130 * kHeadDim);
  const auto values = Normal(&random, 130 * kHeadDim);
  // The largest score comes in the last tile, hundreds above the others.
  const std::vector<float> queries(kHeadDim, 600.0F);
  std::fill_n(keys.begin() + 129 * kHeadDim, kHeadDim, 5.0F);
  past.PutAll(keys, values);
  const auto out = past.Attend(queries);
  for (int d = 0; d < kHeadDim; ++d) {
    const float value = values[129 * kHeadDim + d];
    const double tolerance = GetParam().type == KvType::kF32   ? 0
                             : GetParam().type == KvType::kF16 ? 0x1p-11 * std::fabs(value)
                                                               : 0.1;
    EXPECT_NEAR(out[d], value, tolerance);
  }
}

TEST_P(AttendTest, LaterPositionsAreNotRead) {
  std::mt19937 random(4);
  constexpr int kHeadDim = 32;
  const auto keys = Normal(&random, 70 * kHeadDim);
  const auto values = Normal(&random, 70 * kHeadDim);
  // Three tokens at positions 63, 64 and 65, so that some see a tile that others do not.
  const auto queries = Normal(&random, 3 * 2 * kHeadDim);
  Past short_past = MakePast(kHeadDim, 2, 66);
  short_past.PutAll(keys, values);
  const auto expected = short_past.Attend(queries);
  for (const float later : {1e9F, std::nanf("")}) {
    Past past = MakePast(kHeadDim, 2, 66);
    past.PutAll(keys, values);
    const std::vector<float> row(kHeadDim, later);
    for (const int slot : {2, 3, 9, 63}) {
      StoreKeyAndValue(*past.kernels, past.shape, row.data(), row.data(), slot,
                       past.pages[1].data() + past.tile_bytes, past.scratch);
    }
    EXPECT_EQ(past.Attend(queries), expected);
    // Position 65 is later than the first two tokens.
    past.Put(65, row.data(), row.data());
    const auto changed = past.Attend(queries);
    EXPECT_EQ(std::memcmp(changed.data(), expected.data(), 2 * 2 * kHeadDim * sizeof(float)), 0);
    EXPECT_NE(std::memcmp(changed.data(), expected.data(), expected.size() * sizeof(float)), 0);
  }
}

TEST_P(AttendTest, HeadsThatShareAKeyGetTheBitsThatTheyWouldGetAlone) {
  std::mt19937 random(5);
  constexpr int kHeadDim = 32;
  const auto keys = Normal(&random, 100 * kHeadDim);
  const auto values = Normal(&random, 100 * kHeadDim);
  Past past = MakePast(kHeadDim, 7, 100);
  past.PutAll(keys, values);
  const auto queries = Normal(&random, 7 * kHeadDim);
  const auto together = past.Attend(queries);
  Past single = MakePast(kHeadDim, 1, 100);
  single.PutAll(keys, values);
  for (int q = 0; q < 7; ++q) {
    const std::vector<float> one(queries.begin() + q * kHeadDim,
                                 queries.begin() + (q + 1) * kHeadDim);
    const auto alone = single.Attend(one);
    EXPECT_EQ(std::memcmp(alone.data(), together.data() + q * kHeadDim, kHeadDim * sizeof(float)),
              0);
  }
}

TEST_P(AttendTest, TokensTogetherGetTheBitsThatTheyWouldGetAlone) {
  std::mt19937 random(6);
  constexpr int kHeadDim = 40;
  constexpr int kTokens = 90;  // from within one tile into the third
  for (const int n_queries : {1, 3, 4}) {
    Past past = MakePast(kHeadDim, n_queries, 130);
    past.PutAll(Normal(&random, 130 * kHeadDim), Normal(&random, 130 * kHeadDim));
    const auto queries = Normal(&random, int64_t{kTokens} * n_queries * kHeadDim);
    const auto alone = past.Attend(queries, 1);
    for (const int block : {2, 7, 64, kTokens}) {
      EXPECT_EQ(past.Attend(queries, block), alone) << n_queries << " heads, blocks of " << block;
    }
  }
}

TEST(AttendSetsTest, IntegerTilesAreTheSameBytesOnEverySet) {
  std::mt19937 random(7);
  const AttentionShape shape{.type = KvType::kInt8, .head_dim = 96, .n_queries = 1};
  const auto keys = Normal(&random, 5 * 96);
  const auto values = Normal(&random, 5 * 96);
  Past reference(&kernels::ScalarKernels(), shape, 5);
  reference.PutAll(keys, values);
  for (const kernels::KernelSet* set : kernels::UsableSets(os::HostCpu())) {
    Past past(set, shape, 5);
    past.PutAll(keys, values);
    EXPECT_EQ(past.pages, reference.pages) << kernels::IsaName(set->isa);
  }
}

}  // namespace
}  // namespace tandem::ops
