#include "engine/kernels/layout.h"

#include <cstring>
#include <random>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/quant/codec.h"
#include "engine/quant/half.h"

namespace tandem::kernels {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;

constexpr Scheme kAll[] = {Scheme::kInt4G128, Scheme::kInt4G32, Scheme::kInt8G128,
                           Scheme::kInt8G32};

struct Matrix {
  std::vector<int8_t> codes;
  std::vector<uint16_t> scales;
};

Matrix RandomMatrix(std::mt19937* generator, Scheme scheme, int64_t n_rows, int64_t n_cols) {
  const SchemeInfo& info = GetScheme(scheme);
  std::uniform_int_distribution<int> code(info.min_code, info.max_code);
  std::uniform_int_distribution<int> half(0, 0xFFFF);
  Matrix matrix;
  matrix.codes.resize(n_rows * n_cols);
  matrix.scales.resize(n_rows * ((n_cols + info.group - 1) / info.group));
  for (int8_t& value : matrix.codes) value = static_cast<int8_t>(code(*generator));
  for (uint16_t& value : matrix.scales) value = static_cast<uint16_t>(half(*generator));
  return matrix;
}

std::vector<std::byte> Strip(Scheme scheme, int64_t n_cols) {
  return std::vector<std::byte>(StripBytes(scheme, n_cols), std::byte{0xEE});
}

// The bytes that docs/formats/package-layout.md draws: packages hold them, so they never change.
TEST(LayoutTest, Int4CodesStandWhereThePageSays) {
  constexpr int64_t kCols = 200;
  Matrix matrix;
  matrix.codes.assign(16 * kCols, 0);
  matrix.scales.assign(16 * 2, 0);
  const auto set = [&](int row, int col, int code) {
    matrix.codes[row * kCols + col] = static_cast<int8_t>(code);
  };
  set(3, 8 * 5 + 2, 7);               // tile 0, vector 5, low
  set(3, 8 * 5 + 4 + 2, -8);          // the same byte, high
  set(15, 128 + 8 * 2 + 4 + 3, -1);   // tile 1, vector 2, high
  matrix.scales[2 * 3 + 1] = 0xBEEF;  // row 3, group 1
  auto strip = Strip(Scheme::kInt4G128, kCols);
  ASSERT_EQ(strip.size(), 64U + 2 * 1024);
  PackStrip(Scheme::kInt4G128, matrix.codes.data(), matrix.scales.data(), 16, kCols, strip.data());
  EXPECT_EQ(strip[64 + 64 * 5 + 4 * 3 + 2], std::byte{0x0F});
  EXPECT_EQ(strip[64 + 1024 + 64 * 2 + 4 * 15 + 3], std::byte{0x78});
  EXPECT_EQ(strip[64], std::byte{0x88});
  EXPECT_EQ(strip[32 + 2 * 3], std::byte{0xEF});
  EXPECT_EQ(strip[32 + 2 * 3 + 1], std::byte{0xBE});
}

TEST(LayoutTest, Int8CodesAndScalesOf32StandWhereThePageSays) {
  constexpr int64_t kCols = 130;
  Matrix matrix;
  matrix.codes.assign(2 * kCols, 0);
  matrix.scales.assign(2 * 5, 0);
  matrix.codes[1 * kCols + 4 * 31 + 1] = -128;  // tile 0, vector 31
  matrix.codes[1 * kCols + 129] = 127;          // tile 1, vector 0
  matrix.scales[5 * 1 + 4] = 0x1234;            // row 1, group 4
  auto strip = Strip(Scheme::kInt8G32, kCols);
  ASSERT_EQ(strip.size(), 256U + 2 * 2048);
  PackStrip(Scheme::kInt8G32, matrix.codes.data(), matrix.scales.data(), 2, kCols, strip.data());
  EXPECT_EQ(strip[256 + 64 * 31 + 4 + 1], std::byte{0x80});
  EXPECT_EQ(strip[256 + 2048 + 4 + 1], std::byte{0x7F});
  EXPECT_EQ(strip[4 * 32 + 2], std::byte{0x34});
  EXPECT_EQ(strip[4 * 32 + 3], std::byte{0x12});
}

TEST(LayoutTest, UnpackStripInvertsPackStripOnOddShapes) {
  std::mt19937 generator(1);
  for (const Scheme scheme : kAll) {
    for (const int n_rows : {1, 7, 16}) {
      for (const int64_t n_cols : {1, 31, 32, 33, 127, 128, 129, 384, 1000}) {
        const Matrix matrix = RandomMatrix(&generator, scheme, n_rows, n_cols);
        auto strip = Strip(scheme, n_cols);
        PackStrip(scheme, matrix.codes.data(), matrix.scales.data(), n_rows, n_cols, strip.data());
        Matrix back = {std::vector<int8_t>(matrix.codes.size()),
                       std::vector<uint16_t>(matrix.scales.size())};
        UnpackStrip(scheme, strip.data(), n_rows, n_cols, back.codes.data(), back.scales.data());
        EXPECT_EQ(back.codes, matrix.codes) << GetScheme(scheme).name << " of " << n_cols;
        EXPECT_EQ(back.scales, matrix.scales) << GetScheme(scheme).name << " of " << n_cols;
      }
    }
  }
}

TEST(LayoutTest, WhatTheMatrixLacksIsZeroAndNoByteIsLeftAsItWas) {
  std::mt19937 generator(2);
  for (const Scheme scheme : kAll) {
    const SchemeInfo& info = GetScheme(scheme);
    const Matrix matrix = RandomMatrix(&generator, scheme, 3, 33);
    auto strip = Strip(scheme, 33);
    auto other = std::vector<std::byte>(strip.size(), std::byte{0x11});
    PackStrip(scheme, matrix.codes.data(), matrix.scales.data(), 3, 33, strip.data());
    PackStrip(scheme, matrix.codes.data(), matrix.scales.data(), 3, 33, other.data());
    EXPECT_EQ(strip, other) << info.name;
    // All sixteen rows of all 128 columns.
    std::vector<int8_t> codes(16 * 128);
    std::vector<uint16_t> scales(16 * 128 / info.group);
    UnpackStrip(scheme, strip.data(), 16, 128, codes.data(), scales.data());
    for (int r = 0; r < 16; ++r) {
      const int first = r < 3 ? 33 : 0;
      const std::vector<int8_t> rest(codes.begin() + r * 128 + first,
                                     codes.begin() + (r + 1) * 128);
      EXPECT_THAT(rest, Each(0)) << info.name << " row " << r;
      for (int g = r < 3 ? 1 + 32 / info.group : 0; g < 128 / info.group; ++g) {
        EXPECT_EQ(scales[r * (128 / info.group) + g], 0) << info.name << " row " << r;
      }
    }
  }
}

// Every value of a file comes out of the strip as the codec decodes it.
TEST(LayoutTest, Q4_0AndQ8_0AreHeldExactly) {
  std::mt19937 generator(3);
  std::normal_distribution<float> normal;
  for (const quant::Type type : {quant::Type::kQ4_0, quant::Type::kQ8_0}) {
    const auto scheme = ExactScheme(type);
    ASSERT_TRUE(scheme);
    for (const int64_t n_cols : {32, 96, 160, 512}) {
      constexpr int kRows = 21;
      const int64_t row_bytes = quant::RowBytes(type, n_cols);
      std::vector<std::byte> rows(kRows * row_bytes);
      // Random bytes: every code, and scales that a quantiser would not choose; but no NaN.
      for (std::byte& byte : rows) byte = static_cast<std::byte>(generator() >> 24);
      const int block_bytes = quant::GetType(type).block_bytes;
      for (size_t block = 0; block < rows.size(); block += block_bytes) {
        const uint16_t half = quant::FloatToHalf(normal(generator));
        std::memcpy(rows.data() + block, &half, 2);
      }
      const int64_t strip_bytes = StripBytes(*scheme, n_cols);
      std::vector<std::byte> matrix(PackedBytes(*scheme, kRows, n_cols).value());
      ASSERT_EQ(static_cast<int64_t>(matrix.size()), 2 * strip_bytes);
      ASSERT_TRUE(PackStripExactly(type, rows.data(), row_bytes, 16, n_cols, matrix.data()));
      ASSERT_TRUE(PackStripExactly(type, rows.data() + 16 * row_bytes, row_bytes, kRows - 16,
                                   n_cols, matrix.data() + strip_bytes));
      std::vector<float> got(n_cols);
      std::vector<float> want(n_cols);
      for (int r = 0; r < kRows; ++r) {
        UnpackRow(*scheme, matrix.data(), r, n_cols, got.data());
        quant::DequantizeRow(type, rows.data() + r * row_bytes, want.data(), n_cols);
        EXPECT_EQ(got, want) << quant::GetType(type).name << " row " << r << " of " << n_cols;
      }
    }
  }
}

TEST(LayoutTest, OtherTypesHaveNoExactScheme) {
  for (const quant::Type type : {quant::Type::kQ4_K, quant::Type::kF16, quant::Type::kQ4_1}) {
    const auto scheme = ExactScheme(type);
    ASSERT_FALSE(scheme);
    EXPECT_EQ(scheme.error().code, ErrorCode::kUnsupported);
    EXPECT_THAT(scheme.error().message, HasSubstr(quant::GetType(type).name));
    std::byte nothing{};
    EXPECT_FALSE(PackStripExactly(type, &nothing, 0, 1, 256, &nothing));
  }
}

TEST(LayoutTest, SizesAreThoseOfThePage) {
  EXPECT_EQ(StripBytes(Scheme::kInt4G128, 3072), 25344);
  EXPECT_EQ(StripBytes(Scheme::kInt4G32, 3072), 27648);
  EXPECT_EQ(StripBytes(Scheme::kInt8G128, 3072), 49920);
  EXPECT_EQ(StripBytes(Scheme::kInt8G32, 3072), 52224);
  EXPECT_EQ(StripBytes(Scheme::kInt4G128, 100), 1088);
  EXPECT_EQ(StripBytes(Scheme::kInt4G32, 100), 1152);
  EXPECT_EQ(StripBytes(Scheme::kInt8G128, 100), 2112);
  EXPECT_EQ(StripBytes(Scheme::kInt8G32, 100), 2176);
  EXPECT_EQ(PackedBytes(Scheme::kInt4G128, 17, 3072).value(), 2 * 25344);
  // 4.125 bits a weight where the shape is whole.
  EXPECT_EQ(PackedBytes(Scheme::kInt4G128, 8192, 3072).value() * 8, 8192LL * 3072 * 33 / 8);
}

TEST(LayoutTest, DimensionsOfAFileAreCheckedBeforeTheyAreMultiplied) {
  EXPECT_TRUE(PackedBytes(Scheme::kInt8G32, kMaxDimension, kMaxDimension));
  EXPECT_GT(PackedBytes(Scheme::kInt8G32, kMaxDimension, kMaxDimension).value(), 0);
  for (const int64_t wrong : {int64_t{0}, int64_t{-1}, kMaxDimension + 1, INT64_MAX, INT64_MIN}) {
    for (const auto& bytes :
         {PackedBytes(Scheme::kInt4G128, wrong, 128), PackedBytes(Scheme::kInt4G128, 16, wrong)}) {
      ASSERT_FALSE(bytes) << wrong;
      EXPECT_EQ(bytes.error().code, ErrorCode::kInvalidArgument);
    }
  }
}

TEST(SchemeTest, NumbersAndNamesAreThoseOfFiles) {
  EXPECT_EQ(FindScheme(0), nullptr);
  EXPECT_EQ(FindScheme(5), nullptr);
  ASSERT_NE(FindScheme(1), nullptr);
  EXPECT_EQ(FindScheme(1)->scheme, Scheme::kInt4G128);
  EXPECT_EQ(FindScheme(2)->name, "int4g32");
  EXPECT_EQ(FindScheme(3)->name, "int8g128");
  EXPECT_EQ(FindScheme(4)->group, 32);
  for (const Scheme scheme : kAll) EXPECT_EQ(ParseScheme(GetScheme(scheme).name), scheme);
  const auto unknown = ParseScheme("int3");
  ASSERT_FALSE(unknown);
  EXPECT_THAT(unknown.error().message, HasSubstr("int4g128"));
}

}  // namespace
}  // namespace tandem::kernels
