// Against testdata/rope_vectors.json: frequencies, angles and rotated heads of Phi-4-mini (partial
// rotary, LongRoPE) and MiMo-7B, computed in float64 from the published configurations.
#include "engine/ops/rotary.h"

#include <cmath>
#include <fstream>
#include <sstream>
#include <string>

#include <gtest/gtest.h>
#include <boost/json.hpp>

namespace tandem::ops {
namespace {

namespace json = boost::json;

const json::object& Vectors() {
  static const json::object vectors = [] {
    std::ifstream file(TANDEM_SOURCE_DIR "/testdata/rope_vectors.json");
    std::stringstream text;
    text << file.rdbuf();
    return json::parse(text.str()).as_object();
  }();
  return vectors;
}

template <typename T>
std::vector<T> Numbers(const json::value& array) {
  std::vector<T> numbers;
  for (const json::value& number : array.as_array()) numbers.push_back(number.to_number<T>());
  return numbers;
}

struct Set {
  std::vector<double> frequencies;
  std::vector<double> expected;
  double scale = 1.0;
  const json::array* angles = nullptr;
  const json::object* head = nullptr;
};

Set PhiSet(bool is_long) {
  const json::object& phi = Vectors().at("phi4_mini").as_object();
  return {
      InverseFrequencies(phi.at("rotary_dim").to_number<int>(), phi.at("theta").to_number<double>(),
                         Numbers<float>(phi.at(is_long ? "long_factor" : "short_factor"))),
      Numbers<double>(phi.at(is_long ? "inv_freq_long" : "inv_freq_short")),
      phi.at("attention_scaling").to_number<double>(),
      &phi.at(is_long ? "scaled_cos_sin_long" : "scaled_cos_sin_short").as_array(),
      &phi.at(is_long ? "rotated_head_example_long" : "rotated_head_example").as_object()};
}

Set MimoSet() {
  const json::object& mimo = Vectors().at("mimo_7b").as_object();
  return {InverseFrequencies(mimo.at("rotary_dim").to_number<int>(),
                             mimo.at("theta").to_number<double>(), {}),
          Numbers<double>(mimo.at("inv_freq")), 1.0, &mimo.at("cos_sin").as_array(),
          &mimo.at("rotated_head_example").as_object()};
}

class RotaryTest : public ::testing::TestWithParam<const char*> {
 protected:
  Set Load() const {
    const std::string name = GetParam();
    return name == "Mimo" ? MimoSet() : PhiSet(name == "PhiLong");
  }
};

INSTANTIATE_TEST_SUITE_P(Models, RotaryTest, ::testing::Values("PhiShort", "PhiLong", "Mimo"),
                         [](const auto& instance) { return std::string(instance.param); });

TEST_P(RotaryTest, InverseFrequenciesAreThePublishedOnes) {
  const Set set = Load();
  ASSERT_EQ(set.frequencies.size(), set.expected.size());
  for (size_t i = 0; i < set.expected.size(); ++i) {
    // The factors are float32 in a model file, so that far off and no further.
    EXPECT_NEAR(set.frequencies[i], set.expected[i], 0x1p-24 * 1.01 * set.expected[i]);
  }
}

TEST_P(RotaryTest, CosAndSinCarryTheAttentionFactor) {
  const Set set = Load();
  const size_t n = set.frequencies.size();
  std::vector<float> cos(n);
  std::vector<float> sin(n);
  ASSERT_FALSE(set.angles->empty());
  for (const json::value& value : *set.angles) {
    const json::object& angle = value.as_object();
    const auto position = angle.at("pos").to_number<int64_t>();
    CosSin(position, set.frequencies, set.scale, cos.data(), sin.data());
    const auto pair = angle.at("pair").to_number<size_t>();
    // The result's rounding, and the factor's times the angle.
    const double tolerance = 2 * 0x1p-24 * (1 + std::fabs(angle.at("angle").to_number<double>()));
    EXPECT_NEAR(cos[pair], angle.at("cos").to_number<double>(), tolerance) << position;
    EXPECT_NEAR(sin[pair], angle.at("sin").to_number<double>(), tolerance) << position;
  }
}

TEST_P(RotaryTest, HeadIsRotatedInHalvesAndItsRestPasses) {
  const Set set = Load();
  const size_t n = set.frequencies.size();
  const auto expected = Numbers<double>(set.head->at("output"));
  std::vector<float> head(expected.size());
  for (size_t j = 0; j < head.size(); ++j) head[j] = static_cast<float>(j + 1) / 128.0F;
  std::vector<float> cos(n);
  std::vector<float> sin(n);
  const auto position = set.head->at("pos").to_number<int64_t>();
  CosSin(position, set.frequencies, set.scale, cos.data(), sin.data());
  Rotate(head.data(), static_cast<int>(n), cos.data(), sin.data());
  for (size_t j = 0; j < head.size(); ++j) {
    // Roundings of two products and a sum of magnitude below 2.4; for the long set, the factors'
    // rounding times the largest angle (5000 radians at pair 0, whose factor is exactly 1).
    EXPECT_NEAR(head[j], expected[j], 4 * 0x1p-24 * 2.4 + 0x1p-24 * 2.4 * 3700) << j;
    if (j >= 2 * n) {
      EXPECT_EQ(head[j], static_cast<float>(j + 1) / 128.0F);
    }
  }
}

}  // namespace
}  // namespace tandem::ops
