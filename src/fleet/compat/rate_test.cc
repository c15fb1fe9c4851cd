#include "fleet/compat/rate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fleet/catalogue/catalogue.h"

namespace tandem::fleet {
namespace {

using ::testing::HasSubstr;

TEST(RateTest, IsBandwidthOverTheBytesOfAToken) {
  const MemoryNeeds needs{.weights_bytes = 2000000000, .kv_cache_bytes = 500000000};
  const ExpectedRate rate = RateFromBandwidth(needs, {.gb_s = 50, .basis = Basis::kRead});
  EXPECT_DOUBLE_EQ(rate.expected, 0.65 * 50 / 2.25);
  EXPECT_DOUBLE_EQ(rate.low, 0.5 * 50 / 2.5);
  EXPECT_DOUBLE_EQ(rate.high, 0.9 * 50 / 2);
  EXPECT_THAT(rate.how, HasSubstr("50.0 GB/s"));
  EXPECT_THAT(rate.how, HasSubstr("stated by its vendor"));
  EXPECT_THAT(RateFromBandwidth(needs, {50, Basis::kRecalled}).how, HasSubstr("not confirmed"));
}

// The figures that the contract holds a flagship phone to lie between low and high.
TEST(RateTest, TheContractsFiguresAreWithinTheRangeOfAFlagship) {
  const Soc* soc = DeviceDatabase::BuiltIn().Find("snapdragon_8_gen3").soc;
  const Bandwidth bandwidth{*soc->bandwidth_gb_s, soc->bandwidth_basis};
  for (const auto& [name, rate] : {std::pair("phi-4-mini", 34.2), std::pair("mimo-7b", 18.0)}) {
    const CatalogueEntry* model = Catalogue::BuiltIn().Find(name);
    const auto needs = NeedsOf(*model, model->variants.front(), 1024);
    ASSERT_TRUE(needs);
    const ExpectedRate expected = RateFromBandwidth(*needs, bandwidth);
    EXPECT_LT(expected.low, rate) << name;
    EXPECT_GT(expected.high, rate) << name;
    EXPECT_LT(expected.low, expected.expected);
    EXPECT_GT(expected.high, expected.expected);
  }
}

TEST(RateTest, ACertificateIsNoEstimate) {
  const Certificate certificate{.issued_by = "the laboratory"};
  const ExpectedRate rate = RateFromCertificate(
      {.device = "SM8650", .executor = "cpu", .context_tokens = 1024, .decode_milli = 21500},
      certificate);
  EXPECT_DOUBLE_EQ(rate.expected, 21.5);
  EXPECT_DOUBLE_EQ(rate.low, rate.high);
  EXPECT_THAT(rate.how, HasSubstr("measured on SM8650 by the laboratory"));
}

}  // namespace
}  // namespace tandem::fleet
