#include <bit>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>
#include <boost/json.hpp>

#include "engine/quant/codec.h"

namespace tandem::quant {
namespace {

namespace json = boost::json;

std::vector<uint8_t> FromHexDigits(std::string_view digits) {
  std::vector<uint8_t> bytes;
  for (size_t i = 0; i + 1 < digits.size(); i += 2) {
    bytes.push_back(static_cast<uint8_t>(std::stoi(std::string(digits.substr(i, 2)), nullptr, 16)));
  }
  return bytes;
}

std::string_view StringOf(const json::object& object, std::string_view key) {
  return object.at(key).as_string();
}

// The oracle's blocks must decode to the oracle's floats, bit for bit.
TEST(DequantizeTest, DecodesEveryVectorBitForBit) {
  std::ifstream file(TANDEM_SOURCE_DIR "/testdata/quant_vectors.json");
  ASSERT_TRUE(file) << "testdata/quant_vectors.json is part of the source tree";
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const json::value document = json::parse(text);

  std::set<uint32_t> types_seen;
  for (const json::value& item : document.as_object().at("cases").as_array()) {
    const json::object& test = item.as_object();
    const auto id = test.at("ggml_type").to_number<uint32_t>();
    const std::string label =
        std::string(StringOf(test, "type")) + " " + std::string(StringOf(test, "label"));
    const TypeInfo* info = FindType(id);
    ASSERT_NE(info, nullptr) << label;
    types_seen.insert(id);

    const auto n = test.at("n").to_number<int64_t>();
    const std::vector<uint8_t> blocks = FromHexDigits(StringOf(test, "hex"));
    const std::vector<uint8_t> expected_bytes = FromHexDigits(StringOf(test, "values_f32_le_hex"));
    ASSERT_EQ(static_cast<int64_t>(blocks.size()), RowBytes(info->type, n)) << label;
    ASSERT_EQ(expected_bytes.size(), 4 * static_cast<size_t>(n)) << label;

    std::vector<float> actual(static_cast<size_t>(n));
    DequantizeRow(info->type, reinterpret_cast<const std::byte*>(blocks.data()), actual.data(), n);
    for (size_t i = 0; i < actual.size(); ++i) {
      uint32_t expected;
      std::memcpy(&expected, &expected_bytes[4 * i], 4);
      EXPECT_EQ(std::bit_cast<uint32_t>(actual[i]), expected)
          << label << " element " << i << ": " << actual[i] << " for "
          << std::bit_cast<float>(expected);
    }
  }
  EXPECT_EQ(types_seen.size(), 11U);  // a vector for each type that we decode
}

TEST(DequantizeTest, AnEmptyRowTouchesNothing) {
  DequantizeRow(Type::kQ4_K, nullptr, nullptr, 0);
  EXPECT_TRUE(QuantizeRow(Type::kQ4_K, nullptr, nullptr, 0).has_value());
}

TEST(DequantizeTest, HalfInfinityInAScaleComesOutAsSuch) {
  std::vector<std::byte> block(18);
  block[1] = std::byte{0x7C};  // d = +infinity, all levels -8
  std::vector<float> y(32);
  DequantizeRow(Type::kQ4_0, block.data(), y.data(), 32);
  EXPECT_EQ(std::bit_cast<uint32_t>(y[0]), 0xFF800000U);
}

TEST(DequantizeDeathTest, APartialBlockIsABug) {
  std::vector<std::byte> block(18);
  std::vector<float> y(32);
  EXPECT_DEATH(DequantizeRow(Type::kQ4_0, block.data(), y.data(), 31), "block_elements");
}

}  // namespace
}  // namespace tandem::quant
