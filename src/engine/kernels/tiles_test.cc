// The tile kernels of every set that this machine has, against the rule in activations.h and
// kernel_set.h as a few plain loops over unpacked codes: bit for bit.
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "engine/kernels/activations.h"
#include "engine/kernels/kernels.h"
#include "engine/kernels/testing/emulated_avx512vnni.h"
#include "engine/quant/half.h"

namespace tandem::kernels {
namespace {

constexpr Scheme kAll[] = {Scheme::kInt4G128, Scheme::kInt4G32, Scheme::kInt8G128,
                           Scheme::kInt8G32};
constexpr float kUntouched = 123.0F;

// Storage that starts at a multiple of 64 bytes.
class Aligned {
 public:
  explicit Aligned(int64_t bytes) : storage_(bytes / 64 + 1) {}
  std::byte* data() { return storage_[0].bytes; }
  const std::byte* data() const { return storage_[0].bytes; }

 private:
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<Line> storage_;
};

struct Weights {
  Scheme scheme;
  int64_t n_rows;
  int64_t n_cols;
  std::vector<int8_t> codes;
  std::vector<uint16_t> scales;
  Aligned packed;

  int64_t groups() const {
    const int group = GetScheme(scheme).group;
    return (n_cols + group - 1) / group;
  }
};

// Every code, the extremes often, so that sums come near what 16 bits hold.
Weights RandomWeights(std::mt19937* generator, Scheme scheme, int64_t n_rows, int64_t n_cols) {
  const SchemeInfo& info = GetScheme(scheme);
  Weights weights = {scheme, n_rows, n_cols, {}, {}, Aligned(0)};
  weights.codes.resize(n_rows * n_cols);
  weights.scales.resize(n_rows * weights.groups());
  std::uniform_int_distribution<int> code(info.min_code, info.max_code);
  std::normal_distribution<float> normal;
  const bool extreme = (*generator)() % 3 == 0;
  for (int8_t& value : weights.codes) {
    const bool high = (*generator)() % 8 != 0;
    value =
        static_cast<int8_t>(extreme ? (high ? info.max_code : info.min_code) : code(*generator));
  }
  for (uint16_t& scale : weights.scales) scale = quant::FloatToHalf(normal(*generator) / 64);
  const int64_t strip_bytes = StripBytes(scheme, n_cols);
  weights.packed = Aligned(PackedBytes(scheme, n_rows, n_cols).value());
  for (int64_t row = 0; row < n_rows; row += kStripRows) {
    const auto n = static_cast<int>(std::min<int64_t>(kStripRows, n_rows - row));
    PackStrip(scheme, weights.codes.data() + row * n_cols,
              weights.scales.data() + row * weights.groups(), n, n_cols,
              weights.packed.data() + row / kStripRows * strip_bytes);
  }
  return weights;
}

std::vector<float> RandomTokens(std::mt19937* generator, int64_t n) {
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  const bool extreme = (*generator)() % 3 == 0;
  for (float& value : values) value = extreme ? 1.0F : normal(*generator);
  return values;
}

// A token as the rule quantises it.
struct Token {
  std::vector<int> codes;     // [n_cols]
  std::vector<float> scales;  // by group

  Token(const float* x, int64_t n_cols, int group) : codes(n_cols) {
    for (int64_t begin = 0; begin < n_cols; begin += group) {
      const int64_t end = std::min<int64_t>(begin + group, n_cols);
      float largest = 0;
      bool finite = true;
      for (int64_t i = begin; i < end; ++i) {
        finite = finite && std::isfinite(x[i]);
        largest = std::max(largest, std::fabs(x[i]));
      }
      const bool zero = finite && largest < 1e-30F;
      scales.push_back(!finite ? NAN : zero ? 0.0F : largest / 127.0F);
      for (int64_t i = begin; finite && !zero && i < end; ++i) {
        codes[i] = static_cast<int>(std::lrint(x[i] * (127.0F / largest)));
      }
    }
  }
};

float Expected(const Weights& weights, int64_t row, const Token& token) {
  const int group = GetScheme(weights.scheme).group;
  float acc = 0;
  for (int64_t g = 0; g < weights.groups(); ++g) {
    int64_t product = 0;
    for (int64_t i = g * group; i < std::min(weights.n_cols, (g + 1) * group); ++i) {
      product += int64_t{weights.codes[row * weights.n_cols + i]} * token.codes[i];
    }
    const float scale = quant::HalfToFloat(weights.scales[row * weights.groups() + g]);
    acc = std::fma(static_cast<float>(product), scale * token.scales[g], acc);
  }
  return acc;
}

struct NamedTiles {
  std::string name;
  const TileSet* tiles;
};

std::vector<NamedTiles> AllTiles() {
  std::vector<NamedTiles> all = {{"avx512vnni_emulated", &kTilesEmulatedAvx512Vnni}};
  for (const KernelSet* set : UsableSets(os::HostCpu())) {
    all.push_back({std::string(IsaName(set->isa)), set->tiles});
  }
  return all;
}

class TilesTest : public ::testing::TestWithParam<NamedTiles> {
 protected:
  const TileSet& tiles() const { return *GetParam().tiles; }

  Aligned Quantize(const std::vector<float>& x, int64_t n_tokens, int64_t n_cols, int group) const {
    Aligned blocks(ActivationBytes(tiles(), n_tokens, n_cols, group));
    QuantizeTokens(tiles(), x.data(), n_cols, nullptr, 0, 0, n_tokens, n_tokens, n_cols, group,
                   blocks.data());
    return blocks;
  }
};

INSTANTIATE_TEST_SUITE_P(Sets, TilesTest, ::testing::ValuesIn(AllTiles()),
                         [](const auto& instance) { return instance.param.name; });

TEST_P(TilesTest, EveryShapeAndNumberOfTokensGivesTheBitsOfTheRule) {
  constexpr int64_t kMostTokens = 31;
  std::mt19937 generator(1);
  for (const Scheme scheme : kAll) {
    const SchemeInfo& info = GetScheme(scheme);
    for (const int64_t n_rows : {1, 9, 37}) {
      // One column, one short of a group, a tile and a bit, more tiles than a panel run has.
      for (const int64_t n_cols : {1, 31, 32, 129, 300, 1100}) {
        const Weights weights = RandomWeights(&generator, scheme, n_rows, n_cols);
        const std::vector<float> x = RandomTokens(&generator, kMostTokens * n_cols);
        std::vector<float> want;  // [kMostTokens, n_rows]
        for (int64_t t = 0; t < kMostTokens; ++t) {
          const Token token(x.data() + t * n_cols, n_cols, info.group);
          for (int64_t r = 0; r < n_rows; ++r) want.push_back(Expected(weights, r, token));
        }
        for (const int64_t n_tokens : {1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 24, 31}) {
          const Aligned blocks = Quantize(x, n_tokens, n_cols, info.group);
          const int64_t y_stride = n_rows + 3;
          std::vector<float> y(n_tokens * y_stride, kUntouched);
          MultiplyStrips(tiles(), scheme, weights.packed.data(), n_rows, n_cols, blocks.data(),
                         n_tokens, y.data(), y_stride);
          for (int64_t i = 0; i < n_tokens * y_stride; ++i) {
            const int64_t t = i / y_stride;
            const int64_t r = i % y_stride;
            ASSERT_EQ(y[i], r < n_rows ? want[t * n_rows + r] : kUntouched)
                << info.name << " " << n_rows << " x " << n_cols << ", token " << t << " of "
                << n_tokens << ", row " << r;
          }
        }
      }
    }
  }
}

// All codes and all activations at the ends of their ranges: the widest sums that there are.
TEST_P(TilesTest, LargestProductsDoNotOverflow) {
  constexpr int64_t kCols = 256;
  for (const Scheme scheme : kAll) {
    const SchemeInfo& info = GetScheme(scheme);
    for (const int code : {info.min_code, info.max_code}) {
      for (const float sign : {1.0F, -1.0F}) {
        Weights weights = {scheme, 16, kCols, {}, {}, Aligned(StripBytes(scheme, kCols))};
        weights.codes.assign(16 * kCols, static_cast<int8_t>(code));
        weights.scales.assign(16 * weights.groups(), quant::FloatToHalf(1.0F));
        PackStrip(scheme, weights.codes.data(), weights.scales.data(), 16, kCols,
                  weights.packed.data());
        for (const int64_t n_tokens : {1, 2, 4, 9}) {
          const std::vector<float> x(n_tokens * kCols, sign * 127.0F);
          const Aligned blocks = Quantize(x, n_tokens, kCols, info.group);
          std::vector<float> y(n_tokens * 16);
          MultiplyStrips(tiles(), scheme, weights.packed.data(), 16, kCols, blocks.data(), n_tokens,
                         y.data(), 16);
          for (const float value : y) {
            ASSERT_EQ(value, sign * 127.0F * static_cast<float>(code) * kCols) << info.name;
          }
        }
      }
    }
  }
}

// Rows cut into calls strip by strip, as threads do.
TEST_P(TilesTest, StripsAloneGiveTheBitsOfAllTogether) {
  std::mt19937 generator(2);
  constexpr int64_t kRows = 90;  // more strips than a kernel takes side by side
  constexpr int64_t kCols = 400;
  for (const Scheme scheme : kAll) {
    const Weights weights = RandomWeights(&generator, scheme, kRows, kCols);
    for (const int64_t n_tokens : {1, 6, 11}) {
      const std::vector<float> x = RandomTokens(&generator, n_tokens * kCols);
      const Aligned blocks = Quantize(x, n_tokens, kCols, GetScheme(scheme).group);
      std::vector<float> together(n_tokens * kRows);
      std::vector<float> apart(n_tokens * kRows);
      MultiplyStrips(tiles(), scheme, weights.packed.data(), kRows, kCols, blocks.data(), n_tokens,
                     together.data(), kRows);
      for (int64_t row = 0; row < kRows; row += kStripRows) {
        MultiplyStrips(tiles(), scheme,
                       weights.packed.data() + row / kStripRows * StripBytes(scheme, kCols),
                       std::min<int64_t>(kStripRows, kRows - row), kCols, blocks.data(), n_tokens,
                       apart.data() + row, kRows);
      }
      EXPECT_EQ(together, apart) << GetScheme(scheme).name << ", " << n_tokens << " tokens";
    }
  }
}

// What a kernel reads of a block, taken apart again.
struct Slot {
  std::vector<int> codes;
  std::vector<float> scales;
  std::vector<int> sums;
  std::vector<std::pair<int, int>> offsets;  // by span
};

Slot ReadSlot(const std::byte* block, int64_t n_tiles, int group, int block_tokens, int slot) {
  Slot out;
  const int64_t n_groups = n_tiles * kTileCols / group;
  const std::byte* scales = block + n_tiles * kTileCols * block_tokens;
  const std::byte* sums = scales + n_groups * block_tokens * 4;
  const std::byte* offsets = sums + n_groups * block_tokens * 4;
  for (int64_t i = 0; i < n_tiles * kTileCols; ++i) {
    out.codes.push_back(static_cast<int8_t>(block[(i / 4 * block_tokens + slot) * 4 + i % 4]));
  }
  for (int64_t g = 0; g < n_groups; ++g) {
    float scale;
    int32_t sum;
    std::memcpy(&scale, scales + (g * block_tokens + slot) * 4, 4);
    std::memcpy(&sum, sums + (g * block_tokens + slot) * 4, 4);
    out.scales.push_back(scale);
    out.sums.push_back(sum);
  }
  for (int64_t s = 0; s < n_tiles * kTileCols / std::min(group, 64); ++s) {
    int16_t pair[2];
    std::memcpy(pair, offsets + (s * block_tokens + slot) * 4, 4);
    out.offsets.emplace_back(pair[0], pair[1]);
  }
  return out;
}

TEST_P(TilesTest, QuantizedTokensFollowTheRuleInEverySlot) {
  std::mt19937 generator(3);
  for (const int group : {32, 128}) {
    for (const int64_t n_cols : {1, 33, 128, 200, 515}) {
      for (const int block_tokens : {1, 3, 8}) {
        const int64_t n_tiles = TileCount(n_cols);
        Aligned block(n_tiles * block_tokens * 192);  // the most a tile of a token can take
        for (int slot = 0; slot < block_tokens; ++slot) {
          std::vector<float> x = RandomTokens(&generator, n_cols);
          if (slot == 1) std::fill_n(x.begin(), std::min<int64_t>(n_cols, group), 1e-31F);
          tiles().quantize(x.data(), n_cols, group, block_tokens, slot, block.data());
          const Slot got = ReadSlot(block.data(), n_tiles, group, block_tokens, slot);
          Token want(x.data(), n_cols, group);
          want.codes.resize(n_tiles * kTileCols, 0);
          want.scales.resize(n_tiles * kTileCols / group, 0.0F);
          ASSERT_EQ(got.codes, want.codes) << n_cols << " columns, slot " << slot;
          ASSERT_EQ(got.scales, want.scales) << n_cols << " columns, slot " << slot;
          for (size_t g = 0; g < got.sums.size(); ++g) {
            int sum = 0;
            for (int i = 0; i < group; ++i) sum += want.codes[g * group + i];
            ASSERT_EQ(got.sums[g], sum);
          }
          const int span = std::min(group, 64);
          for (size_t s = 0; s < got.offsets.size(); ++s) {
            int sums[2] = {};
            for (int i = 0; i < span; ++i) sums[i % 4 / 2] += want.codes[s * span + i];
            ASSERT_EQ(got.offsets[s], std::pair(-8 * sums[0], -8 * sums[1]));
          }
        }
      }
    }
  }
}

TEST_P(TilesTest, CodesAreRoundedToNearestTiesToEven) {
  // 127 / 127 = 1, so that codes are the values themselves.
  std::vector<float> x(32, 0.0F);
  x[0] = -127.0F;
  x[1] = 0.5F;
  x[2] = 1.5F;
  x[3] = -2.5F;
  x[4] = 2.4999F;
  x[5] = 126.5F;
  Aligned block(1024);
  tiles().quantize(x.data(), 32, 32, 1, 0, block.data());
  const Slot got = ReadSlot(block.data(), 1, 32, 1, 0);
  EXPECT_EQ(std::vector<int>(got.codes.begin(), got.codes.begin() + 6),
            (std::vector<int>{-127, 0, 2, -2, 2, 126}));
  EXPECT_EQ(got.scales[0], 1.0F);
}

TEST_P(TilesTest, InfinityOrNaNMakesResultsNaNOnlyWhereItIsRead) {
  std::mt19937 generator(4);
  constexpr int64_t kCols = 256;
  for (const float bad :
       {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
        std::numeric_limits<float>::quiet_NaN()}) {
    for (const Scheme scheme : kAll) {
      const Weights weights = RandomWeights(&generator, scheme, 16, kCols);
      std::vector<float> x = RandomTokens(&generator, 2 * kCols);
      x[kCols + 77] = bad;
      const Aligned blocks = Quantize(x, 2, kCols, GetScheme(scheme).group);
      float y[32];
      MultiplyStrips(tiles(), scheme, weights.packed.data(), 16, kCols, blocks.data(), 2, y, 16);
      for (int r = 0; r < 16; ++r) {
        EXPECT_TRUE(std::isfinite(y[r]));
        EXPECT_TRUE(std::isnan(y[16 + r])) << bad << " " << GetScheme(scheme).name;
      }
    }
  }
}

TEST_P(TilesTest, FusedNormGivesTheBitsOfNormThenQuantise) {
  std::mt19937 generator(5);
  for (const int64_t n_cols : {1, 7, 8, 9, 16, 31, 100, 128, 333}) {
    for (const int group : {32, 128}) {
      const std::vector<float> x = RandomTokens(&generator, n_cols);
      const std::vector<float> weight = RandomTokens(&generator, n_cols);
      const double eps = 1e-5;
      float lanes[16] = {};
      double exact = 0;
      for (int64_t i = 0; i < n_cols; ++i) {
        lanes[i % 16] = std::fma(x[i], x[i], lanes[i % 16]);
        exact += double{x[i]} * x[i];
      }
      for (int half = 8; half > 0; half /= 2) {
        for (int l = 0; l < half; ++l) lanes[l] += lanes[l + half];
      }
      // All terms are positive: n / 16 + 4 roundings of the sum at most.
      ASSERT_NEAR(lanes[0], exact, (static_cast<double>(n_cols) / 16 + 5) * 0x1p-24 * exact);
      const auto scale =
          static_cast<float>(1.0 / std::sqrt(double{lanes[0]} / static_cast<double>(n_cols) + eps));
      std::vector<float> normal(n_cols);
      for (int64_t i = 0; i < n_cols; ++i) {
        const float scaled = x[i] * scale;
        normal[i] = scaled * weight[i];
      }
      // Codes, scales, sums, offsets.
      const int64_t bytes =
          TileCount(n_cols) * 3 * (kTileCols + kTileCols / group * 8 + (group == 32 ? 16 : 8));
      Aligned fused(bytes);
      Aligned plain(bytes);
      tiles().norm_quantize(x.data(), weight.data(), eps, n_cols, group, 3, 1, fused.data());
      tiles().quantize(normal.data(), n_cols, group, 3, 1, plain.data());
      EXPECT_EQ(std::memcmp(fused.data(), plain.data(), bytes), 0) << n_cols << ", " << group;
    }
  }
}

TEST_P(TilesTest, ThreadsMayQuantiseABatchInParts) {
  std::mt19937 generator(6);
  constexpr int64_t kCols = 160;
  for (const int64_t n_tokens : {5, 11}) {
    const std::vector<float> x = RandomTokens(&generator, n_tokens * kCols);
    const std::vector<float> weight = RandomTokens(&generator, kCols);
    const int64_t bytes = ActivationBytes(tiles(), n_tokens, kCols, 128);
    Aligned whole(bytes);
    Aligned parts(bytes);
    QuantizeTokens(tiles(), x.data(), kCols, weight.data(), 1e-6, 0, n_tokens, n_tokens, kCols, 128,
                   whole.data());
    QuantizeTokens(tiles(), x.data(), kCols, weight.data(), 1e-6, 3, n_tokens, n_tokens, kCols, 128,
                   parts.data());
    EXPECT_NE(std::memcmp(whole.data(), parts.data(), bytes), 0);
    QuantizeTokens(tiles(), x.data(), kCols, weight.data(), 1e-6, 0, 3, n_tokens, kCols, 128,
                   parts.data());
    EXPECT_EQ(std::memcmp(whole.data(), parts.data(), bytes), 0);
  }
}

TEST_P(TilesTest, BlocksHoldTheBatchAndNoMoreThanTheirKernelNeeds) {
  const int sizes[] = {1, 2, 3, 4, 6, 6, 8, 8};
  for (int n = 1; n <= 8; ++n) EXPECT_EQ(BlockTokens(tiles(), n), sizes[n - 1]);
  EXPECT_EQ(BlockTokens(tiles(), 9), tiles().panel_tokens);
  EXPECT_EQ(ActivationBytes(tiles(), 5, 129, 32) % 64, 0);
  EXPECT_EQ(ActivationBytes(tiles(), 1, 128, 128), 128 + 64);
  EXPECT_EQ(ActivationBytes(tiles(), 1, 512, 32), 4 * (128 + 32 + 16));
}

// What the arithmetic costs in accuracy: half a step of the activations' codes, and the roundings
// of the sum.
TEST_P(TilesTest, ResultIsWithinTheErrorOfRoundedActivations) {
  std::mt19937 generator(7);
  constexpr int64_t kCols = 700;
  for (const Scheme scheme : kAll) {
    const int group = GetScheme(scheme).group;
    const Weights weights = RandomWeights(&generator, scheme, 16, kCols);
    const std::vector<float> x = RandomTokens(&generator, kCols);
    const Aligned blocks = Quantize(x, 1, kCols, group);
    float y[16];
    MultiplyStrips(tiles(), scheme, weights.packed.data(), 16, kCols, blocks.data(), 1, y, 16);
    for (int r = 0; r < 16; ++r) {
      double exact = 0;
      double bound = 0;
      for (int64_t begin = 0; begin < kCols; begin += group) {
        float largest = 0;
        const int64_t end = std::min<int64_t>(begin + group, kCols);
        for (int64_t i = begin; i < end; ++i) largest = std::max(largest, std::fabs(x[i]));
        const double scale =
            quant::HalfToFloat(weights.scales[r * weights.groups() + begin / group]);
        for (int64_t i = begin; i < end; ++i) {
          const double weight = scale * weights.codes[r * kCols + i];
          exact += weight * x[i];
          // Half a step, and float roundings of scales and sums, far below it.
          bound += std::fabs(weight) * largest * (0.5 / 127 + 50 * 0x1p-24);
        }
      }
      EXPECT_NEAR(y[r], exact, bound) << GetScheme(scheme).name;
    }
  }
}

}  // namespace
}  // namespace tandem::kernels
