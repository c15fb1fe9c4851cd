#include "engine/kernels/fine_plane.h"

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "engine/kernels/activations.h"
#include "engine/kernels/kernels.h"
#include "engine/quant/half.h"

namespace tandem::kernels {
namespace {

constexpr Scheme kCoarse[] = {Scheme::kInt4G128, Scheme::kInt4G32};

// Storage that starts at a multiple of 64 bytes.
class Aligned {
 public:
  explicit Aligned(int64_t bytes) : storage_(bytes / 64 + 1) {}
  std::byte* data() { return storage_[0].bytes; }

 private:
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<Line> storage_;
};

std::vector<int8_t> RandomCodes(std::mt19937* generator, int bits, int64_t n) {
  std::uniform_int_distribution<int> code(-(1 << (bits - 1)), (1 << (bits - 1)) - 1);
  std::vector<int8_t> codes(n);
  for (int8_t& value : codes) value = static_cast<int8_t>(code(*generator));
  return codes;
}

TEST(FinePlaneTest, RowsComeBackAsTheyWere) {
  std::mt19937 generator(1);
  for (int bits = kMinFineBits; bits <= kMaxFineBits; ++bits) {
    for (const int64_t n_cols : {1, 31, 64, 127, 128, 129, 300}) {
      const std::vector<int8_t> codes = RandomCodes(&generator, bits, n_cols);
      std::vector<std::byte> row(FineRowBytes(bits, n_cols) + 1, std::byte{0x5A});
      PackFineRow(bits, codes, row.data());
      std::vector<int8_t> back(n_cols);
      UnpackFineRow(bits, row.data(), back);
      EXPECT_EQ(back, codes) << bits << " bits, " << n_cols;
      EXPECT_EQ(row.back(), std::byte{0x5A});
    }
  }
}

// What docs/formats/package-layout.md draws, byte by byte.
TEST(FinePlaneTest, BitsStandWhereTheDocumentSays) {
  std::vector<int8_t> codes(128, 0);
  codes[0] = -8;
  codes[32] = 7;
  codes[95] = 3;
  std::byte row[64];
  PackFineRow(4, codes, row);
  EXPECT_EQ(static_cast<int>(row[0]), 0xF0);   // columns 0 and 32
  EXPECT_EQ(static_cast<int>(row[63]), 0x8B);  // columns 95 and 127
  EXPECT_EQ(static_cast<int>(row[62]), 0x88);

  codes[0] = -4;
  codes[32] = 3;
  codes[95] = 1;
  PackFineRow(3, codes, row);
  EXPECT_EQ(static_cast<int>(row[0]), 0b00'00'11'00);  // columns 96, 64, 32, 0: fine + 4 is 4 4 7 0
  EXPECT_EQ(static_cast<int>(row[31]), 0b00'01'00'00);  // columns 127, 95, 63, 31
  EXPECT_EQ(static_cast<int>(row[32]), 0xFE);           // third bits of columns 0..7
  EXPECT_EQ(static_cast<int>(row[36]), 0xFF);           // 32..39
}

TEST(FinePlaneTest, SizesFollowFromBitsAndTiles) {
  EXPECT_EQ(FineRowBytes(4, 3072), 1536);
  EXPECT_EQ(FineRowBytes(3, 3072), 1152);
  EXPECT_EQ(FineRowBytes(3, 129), 96);
  EXPECT_EQ(FinePlaneBytes(4, 10, 128), 640);
  EXPECT_EQ(FinePlaneBytes(3, kMaxDimension, kMaxDimension),
            kMaxDimension * (kMaxDimension / 128 * 48));
  for (const int bits : {0, 2, 5}) {
    EXPECT_EQ(FinePlaneBytes(bits, 10, 128).error().code, ErrorCode::kInvalidArgument);
  }
  for (const int64_t bad : {int64_t{0}, int64_t{-1}, kMaxDimension + 1}) {
    EXPECT_EQ(FinePlaneBytes(4, bad, 128).error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(FinePlaneBytes(4, 10, bad).error().code, ErrorCode::kInvalidArgument);
  }
}

// A matrix in two planes and its weights.
struct Planes {
  Scheme scheme;
  int bits;
  int64_t n_rows;
  int64_t n_cols;
  std::vector<int8_t> codes;
  std::vector<int8_t> fine_codes;
  std::vector<uint16_t> scales;
  Aligned strips;
  std::vector<std::byte> fine;

  Planes(std::mt19937* generator, Scheme coarse, int fine_bits, int64_t rows, int64_t cols)
      : scheme(coarse),
        bits(fine_bits),
        n_rows(rows),
        n_cols(cols),
        codes(RandomCodes(generator, 4, rows * cols)),
        fine_codes(RandomCodes(generator, fine_bits, rows * cols)),
        strips(StripCount(rows) * StripBytes(coarse, cols)),
        fine(FinePlaneBytes(fine_bits, rows, cols).value()) {
    std::normal_distribution<float> normal;
    scales.resize(rows * groups());
    for (uint16_t& scale : scales) scale = quant::FloatToHalf(normal(*generator) / 64);
    for (int64_t row = 0; row < rows; ++row) {
      PackFineRow(bits, std::span(fine_codes).subspan(row * cols, cols),
                  fine.data() + row * FineRowBytes(bits, cols));
      if (row % kStripRows != 0) continue;
      PackStrip(scheme, codes.data() + row * cols, scales.data() + row * groups(),
                static_cast<int>(std::min<int64_t>(kStripRows, rows - row)), cols,
                strips.data() + row / kStripRows * StripBytes(scheme, cols));
    }
  }

  int group() const { return GetScheme(scheme).group; }
  int64_t groups() const { return (n_cols + group() - 1) / group(); }
  double weight(int64_t row, int64_t c) const {
    return double{quant::HalfToFloat(scales[row * groups() + c / group()])} *
           (codes[row * n_cols + c] + std::ldexp(fine_codes[row * n_cols + c], -bits));
  }
  const std::byte* row_scales(int64_t row) {
    return strips.data() + row / kStripRows * StripBytes(scheme, n_cols) + row % kStripRows * 2;
  }
};

TEST(FinePlaneTest, RowInPlanesIsExactlyItsWeights) {
  std::mt19937 generator(2);
  for (const Scheme scheme : kCoarse) {
    for (int bits = kMinFineBits; bits <= kMaxFineBits; ++bits) {
      Planes planes(&generator, scheme, bits, 37, 300);
      std::vector<float> row(300);
      for (const int64_t r : {0, 17, 36}) {
        UnpackRowInPlanes(scheme, planes.strips.data(), bits, planes.fine.data(), r, 300,
                          row.data());
        for (int64_t c = 0; c < 300; ++c) ASSERT_EQ(row[c], planes.weight(r, c)) << r << " " << c;
      }
    }
  }
}

class FineDotTest : public ::testing::TestWithParam<const KernelSet*> {
 protected:
  const TileSet& tiles() const { return *GetParam()->tiles; }
};

INSTANTIATE_TEST_SUITE_P(Sets, FineDotTest, ::testing::ValuesIn(UsableSets(os::HostCpu())),
                         [](const auto& instance) {
                           return std::string(IsaName(instance.param->isa));
                         });

// The rule in kernel_set.h as plain loops.
TEST_P(FineDotTest, GivesTheBitsOfTheRuleForEveryTokenOfABatch) {
  std::mt19937 generator(3);
  std::normal_distribution<float> normal;
  for (const Scheme scheme : kCoarse) {
    for (int bits = kMinFineBits; bits <= kMaxFineBits; ++bits) {
      for (const int64_t n_cols : {1, 33, 128, 300, 1100}) {
        Planes planes(&generator, scheme, bits, 19, n_cols);
        const int group = planes.group();
        const int64_t n_tiles = TileCount(n_cols);
        for (const int64_t n_tokens : {1, 3, 11}) {
          std::vector<float> x(n_tokens * n_cols);
          for (float& value : x) value = normal(generator);
          Aligned activations(ActivationBytes(tiles(), n_tokens, n_cols, group));
          QuantizeTokens(tiles(), x.data(), n_cols, nullptr, 0, 0, n_tokens, n_tokens, n_cols,
                         group, activations.data());
          for (int64_t t = 0; t < n_tokens; ++t) {
            Aligned block(ActivationBytes(tiles(), 1, n_cols, group));
            CopyToken(tiles(), activations.data(), t, n_tokens, n_cols, group, block.data());
            // The token alone, quantised.
            Aligned alone(ActivationBytes(tiles(), 1, n_cols, group));
            tiles().quantize(x.data() + t * n_cols, n_cols, group, 1, 0, alone.data());
            const int64_t kept = n_tiles * (kTileCols + kTileCols / group * 4);
            ASSERT_EQ(std::memcmp(block.data(), alone.data(), kept), 0);
            const auto* token = reinterpret_cast<const int8_t*>(block.data());
            std::vector<float> x_scales(n_tiles * kTileCols / group);
            std::memcpy(x_scales.data(), block.data() + n_tiles * kTileCols, 4 * x_scales.size());
            double squares = 0;
            for (int64_t c = 0; c < n_cols; ++c) {
              squares += std::pow(static_cast<double>(token[c]) * x_scales[c / group], 2);
            }
            ASSERT_NEAR(TokenNorm(block.data(), n_cols, group), std::sqrt(squares),
                        1e-12 * std::sqrt(squares));
            for (const int64_t row : {0, 5, 18}) {
              float acc[8] = {};
              for (int64_t g = 0; g < planes.groups(); ++g) {
                int sums[8] = {};
                for (int64_t c = g * group; c < std::min(n_cols, (g + 1) * group); ++c) {
                  sums[c / 4 % 8] += planes.fine_codes[row * n_cols + c] * token[c];
                }
                const float scale =
                    std::ldexp(quant::HalfToFloat(planes.scales[row * planes.groups() + g]),
                               -bits) *
                    x_scales[g];
                for (int l = 0; l < 8; ++l) {
                  acc[l] = std::fma(static_cast<float>(sums[l]), scale, acc[l]);
                }
              }
              const float want =
                  ((acc[0] + acc[4]) + (acc[2] + acc[6])) + ((acc[1] + acc[5]) + (acc[3] + acc[7]));
              ASSERT_EQ(
                  tiles().fine_dot(planes.fine.data() + row * FineRowBytes(bits, n_cols),
                                   planes.row_scales(row), bits, group, n_tiles, block.data()),
                  want)
                  << n_cols << " columns, token " << t << " of " << n_tokens << ", row " << row;
            }
          }
        }
      }
    }
  }
}

TEST(FinePlaneTest, NormOfATokenThatIsNotFiniteIsNaN) {
  const TileSet& tiles = kTilesScalar;
  std::vector<float> x(128, 1.0F);
  x[5] = INFINITY;
  Aligned block(ActivationBytes(tiles, 1, 128, 128));
  tiles.quantize(x.data(), 128, 128, 1, 0, block.data());
  EXPECT_TRUE(std::isnan(TokenNorm(block.data(), 128, 128)));
}

}  // namespace
}  // namespace tandem::kernels
