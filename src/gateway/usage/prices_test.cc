#include "gateway/usage/prices.h"

#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::gateway::usage {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// Midnight UTC of a day, as `date -d` says it.
constexpr int64_t k2025Sep29 = 1759104000'000;
constexpr int64_t k2026Jan01 = 1767225600'000;

PriceTable MustParse(std::string_view toml) {
  auto table = PriceTable::Parse(toml, "p.toml");
  EXPECT_TRUE(table.has_value()) << (table ? "" : table.error().message);
  return table.value_or(PriceTable());
}

std::string ErrorOf(std::string_view toml) {
  const auto table = PriceTable::Parse(toml, "p.toml");
  EXPECT_FALSE(table.has_value());
  if (table) return "";
  EXPECT_EQ(table.error().code, ErrorCode::kInvalidArgument);
  return table.error().message;
}

// ---- Money -----------------------------------------------------------------------------------

TEST(MoneyTest, TextHasAllDigitsThatCountAndTwoDecimals) {
  EXPECT_EQ(FormatUsd(0), "0.00");
  EXPECT_EQ(FormatUsd(280), "0.00000028");
  EXPECT_EQ(FormatUsd(12'500'000'000), "12.50");
  EXPECT_EQ(FormatUsd(12'345'678'901), "12.345678901");
  EXPECT_EQ(FormatUsd(-3 * kNanoPerUsd), "-3.00");
  EXPECT_EQ(FormatUsd(std::numeric_limits<NanoUsd>::min()), "-9223372036.854775808");
}

TEST(MoneyTest, SumsStopAtTheEndsOfTheRange) {
  constexpr NanoUsd kMax = std::numeric_limits<NanoUsd>::max();
  constexpr NanoUsd kMin = std::numeric_limits<NanoUsd>::min();
  EXPECT_EQ(SaturatingAdd(1, 2), 3);
  EXPECT_EQ(SaturatingAdd(kMax, 1), kMax);
  EXPECT_EQ(SaturatingAdd(kMin, -1), kMin);
}

// ---- Cost ------------------------------------------------------------------------------------

TEST(CostTest, TokensAreChargedByTheirKind) {
  Price price;
  price.input = 280'000'000;        // 0.28 USD
  price.cached_input = 28'000'000;  // 0.028 USD
  price.output = 560'000'000;
  // 900 x 280 + 100 x 28 + 50 x 560 nano-USD
  EXPECT_EQ(CostOf(price, {1000, 50, 100}), 252'000 + 2'800 + 28'000);
  price.cached_input.reset();
  EXPECT_EQ(CostOf(price, {1000, 50, 100}), 280'000 + 28'000);
  EXPECT_EQ(CostOf(price, {}), 0);
}

TEST(CostTest, FractionsAreRoundedToTheNearestNanoDollar) {
  Price price;
  price.input = 500'000;  // half a nano-dollar a token
  EXPECT_EQ(CostOf(price, {1, 0, 0}), 1);
  EXPECT_EQ(CostOf(price, {2, 0, 0}), 1);
  price.input = 499'999;
  EXPECT_EQ(CostOf(price, {1, 0, 0}), 0);
  EXPECT_EQ(CostOf(price, {1'000'000, 0, 0}), 499'999);
}

TEST(CostTest, SenselessCountsNeverGiveANegativeOrWrappedCost) {
  Price price;
  price.input = price.output = 1000 * kNanoPerUsd;
  EXPECT_EQ(CostOf(price, {-5, -7, 3}), 0);
  EXPECT_EQ(CostOf(price, {10, 0, 50}), CostOf(price, {10, 0, 10}));
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(CostOf(price, {kMax, kMax, 0}), CostOf(price, {100'000'000, 100'000'000, 0}));
  EXPECT_EQ(CostOf(price, {kMax, kMax, 0}), 200'000 * kNanoPerUsd);
}

// ---- The table -------------------------------------------------------------------------------

TEST(PriceTableTest, BuiltInPricesAreThoseOfTheContract) {
  const PriceTable table = PriceTable::Builtin();
  const struct {
    const char* model;
    double input, output, blended;
  } rows[] = {{"deepseek-v3.2", 0.28, 0.56, 0.42},
              {"gpt-4.1", 2.00, 8.00, 8.00},
              {"claude-sonnet-4.5", 3.00, 15.00, 15.00},
              {"gemini-2.5-flash", 0.35, 1.05, 2.50}};
  for (const auto& row : rows) {
    const Price* price = table.Find(row.model, Tier::kCloud, k2026Jan01);
    ASSERT_NE(price, nullptr) << row.model;
    EXPECT_DOUBLE_EQ(static_cast<double>(price->input) / kNanoPerUsd, row.input);
    EXPECT_DOUBLE_EQ(static_cast<double>(price->output) / kNanoPerUsd, row.output);
    EXPECT_DOUBLE_EQ(static_cast<double>(price->blended.value()) / kNanoPerUsd, row.blended);
    EXPECT_FALSE(price->source.empty());
  }
  for (const Tier tier : {Tier::kDeviceSmall, Tier::kDeviceLarge}) {
    const Price* price = table.Find("any-model", tier, k2026Jan01);
    ASSERT_NE(price, nullptr);
    EXPECT_EQ(CostOf(*price, {1000, 1000, 0}), 0);
  }
  EXPECT_EQ(table.Find("unheard-of", Tier::kCloud, k2026Jan01), nullptr);
}

TEST(PriceTableTest, PriceChangesAtMidnightUtcOfItsDay) {
  const PriceTable table = MustParse(R"(
    [[price]]
    model = "m"
    from = 2026-01-01
    input = 2
    output = 2
    [[price]]
    model = "m"
    from = 2025-09-29
    input = 1
    output = 1)");
  const auto input_at = [&](int64_t at_ms) -> std::optional<NanoUsd> {
    const Price* price = table.Find("m", Tier::kCloud, at_ms);
    if (price == nullptr) return std::nullopt;
    return price->input;
  };
  EXPECT_EQ(input_at(k2025Sep29 - 1), std::nullopt) << "no price was known yet";
  EXPECT_EQ(input_at(k2025Sep29), 1 * kNanoPerUsd);
  EXPECT_EQ(input_at(k2026Jan01 - 1), 1 * kNanoPerUsd);
  EXPECT_EQ(input_at(k2026Jan01), 2 * kNanoPerUsd);
  EXPECT_EQ(input_at(k2026Jan01 + 1), 2 * kNanoPerUsd);
}

TEST(PriceTableTest, ModelsOwnPriceComesBeforeItsTiersAndTiersAreApart) {
  const PriceTable table = MustParse(R"(
    [[price]]
    tier = "cloud"
    from = 2025-01-01
    input = 9
    output = 9
    [[price]]
    model = "m"
    from = 2025-09-29
    input = 1
    output = 1
    [[price]]
    model = "m"
    tier = "device"
    from = 2025-01-01
    input = 0.5
    output = 0.5)");
  EXPECT_EQ(table.Find("m", Tier::kCloud, k2026Jan01)->input, 1 * kNanoPerUsd);
  EXPECT_EQ(table.Find("m", Tier::kCloud, k2025Sep29 - 1)->input, 9 * kNanoPerUsd)
      << "its own does not hold yet";
  EXPECT_EQ(table.Find("other", Tier::kCloud, k2026Jan01)->input, 9 * kNanoPerUsd);
  EXPECT_EQ(table.Find("", Tier::kCloud, k2026Jan01)->input, 9 * kNanoPerUsd);
  EXPECT_EQ(table.Find("m", Tier::kDeviceSmall, k2026Jan01)->input, kNanoPerUsd / 2);
  EXPECT_EQ(table.Find("m", Tier::kDeviceLarge, k2026Jan01)->input, kNanoPerUsd / 2);
  EXPECT_EQ(table.Find("other", Tier::kDeviceLarge, k2026Jan01), nullptr);
  EXPECT_EQ(table.List().size(), 3u);
}

TEST(PriceTableTest, EveryMistakeIsNamedWithItsLineAndField) {
  const std::string_view good =
      "[[price]]\n"
      "model = \"m\"\n"
      "from = 2025-01-01\n"
      "input = 1\n"
      "output = 1\n";
  MustParse(good);
  const auto with = [&](std::string_view line, std::string_view instead) {
    std::string text(good);
    const size_t at = text.find(line);
    EXPECT_NE(at, std::string::npos);
    return text.replace(at, line.size(), instead);
  };
  const std::pair<std::string, std::string> rows[] = {
      {with("input = 1", "input = -1"),
       "p.toml:4:9: price[0].input: must be a number of 0 to 1000"},
      {with("input = 1", "input = nan"), "p.toml:4:9: price[0].input"},
      {with("input = 1", "input = 1001"), "p.toml:4:9: price[0].input"},
      {with("input = 1", "input = \"1\""), "p.toml:4:9: price[0].input"},
      {with("input = 1\n", ""), "p.toml:1:1: price[0].input: missing"},
      {with("output = 1", "output = true"), "p.toml:5:10: price[0].output"},
      {with("output = 1", "output = 1\ncached_input = []"), "p.toml:6:16: price[0].cached_input"},
      {with("output = 1", "output = 1\nblended = {}"), "p.toml:6:11: price[0].blended"},
      {with("2025-01-01", "\"2025-01-01\""), "p.toml:3:8: price[0].from: must be a date"},
      {with("2025-01-01", "2025-01-01T00:00:00Z"), "p.toml:3:8: price[0].from: must be a date"},
      {with("from = 2025-01-01\n", ""), "price[0].from: missing"},
      {with("2025-01-01", "2025-02-30"), "p.toml:3:"},
      {with("\"m\"", "7"), "p.toml:2:9: price[0].model: must be a text"},
      {with("\"m\"", "\"\""), "p.toml:2:9: price[0].model: must be a text"},
      {with("model = \"m\"\n", ""), "p.toml:1:1: price[0]: needs a model, a tier, or both"},
      {with("model = \"m\"", "tier = \"moon\""), "p.toml:2:8: price[0].tier: must be \"device\""},
      {with("output = 1", "outptu = 1"), "p.toml:5:1: price[0].outptu: unknown; the fields are"},
      {std::string(good) + std::string(good), "p.toml:8:8: price[1].from: another entry"},
      {"prices = 1\n", "p.toml:1:1: prices: unknown"},
      {"", "price: missing"},
      {"price = 1\n", "price: must be a list"},
      {"price = [1]\n", "price[0]: must be a table"},
      {"[[price]\n", "p.toml:1:"},
      {with("output", "out\xFFput"), "p.toml:5:"},
  };
  for (const auto& [text, message] : rows) EXPECT_THAT(ErrorOf(text), HasSubstr(message)) << text;
}

TEST(PriceTableTest, AllMistakesAreReportedTogether) {
  EXPECT_THAT(
      ErrorOf("[[price]]\nmodel = 1\nfrom = 1\ninput = 1\noutput = -1\n"),
      AllOf(HasSubstr("price[0].model"), HasSubstr("price[0].from"), HasSubstr("price[0].output")));
}

TEST(PriceTableTest, HugeAndDeepFilesAreRefused) {
  EXPECT_THAT(ErrorOf(std::string((size_t{1} << 20) + 1, '#')), HasSubstr("more than"));
  EXPECT_FALSE(PriceTable::Parse("price = " + std::string(100'000, '['), "p.toml").has_value());
  EXPECT_FALSE(PriceTable::Parse("[[~a]]", "p.toml").has_value());
}

// ---- A record's price ------------------------------------------------------------------------

UsageRecord RecordWith(std::vector<Attempt> attempts, int64_t at_ms = k2026Jan01) {
  UsageRecord record;
  record.started_at_ms = at_ms;
  for (Attempt& attempt : attempts) record.attempts.push_back({std::move(attempt), {}});
  return record;
}

Attempt AttemptOf(std::string model, Tier tier, Usage usage) {
  Attempt attempt;
  attempt.model = std::move(model);
  attempt.tier = tier;
  attempt.usage = usage;
  return attempt;
}

TEST(PriceRecordTest, EachAttemptHasItsOwnCostAndTheReferenceIsTheCloudAlone) {
  const PriceTable table = PriceTable::Builtin();
  UsageRecord record = RecordWith({AttemptOf("phi-4-mini", Tier::kDeviceSmall, {100, 40, 0}),
                                   AttemptOf("deepseek-v3.2", Tier::kCloud, {150, 60, 50})});
  record.usage = {100, 100, 0};
  PriceRecord(table, "deepseek-v3.2", &record);
  EXPECT_EQ(record.attempts[0].cost, 0);
  EXPECT_EQ(record.attempts[1].cost, 100 * 280 + 50 * 28 + 60 * 560);
  EXPECT_EQ(record.cost, 100 * 280 + 50 * 28 + 60 * 560);
  EXPECT_EQ(record.reference, 100 * 280 + 100 * 560);
  EXPECT_FALSE(record.unpriced);
}

TEST(PriceRecordTest, UnknownPriceIsSaidAndNotTakenForNothing) {
  const PriceTable table = PriceTable::Builtin();
  UsageRecord record = RecordWith({AttemptOf("mystery", Tier::kCloud, {10, 10, 0})});
  record.usage = {10, 10, 0};
  PriceRecord(table, "mystery", &record);
  EXPECT_EQ(record.attempts[0].cost, std::nullopt);
  EXPECT_EQ(record.cost, 0);
  EXPECT_EQ(record.reference, 0);
  EXPECT_TRUE(record.unpriced);

  // Nothing was used, so that nothing is missing.
  UsageRecord skipped = RecordWith({AttemptOf("mystery", Tier::kCloud, {})});
  PriceRecord(table, "mystery", &skipped);
  EXPECT_FALSE(skipped.unpriced);
}

TEST(PriceRecordTest, NoAnswerSavesNothingAndTwiceIsLikeOnce) {
  const PriceTable table = PriceTable::Builtin();
  UsageRecord record = RecordWith({AttemptOf("deepseek-v3.2", Tier::kCloud, {100, 0, 0})});
  record.usage = {100, 0, 0};
  PriceRecord(table, "deepseek-v3.2", &record);
  PriceRecord(table, "deepseek-v3.2", &record);
  EXPECT_EQ(record.cost, 28'000);
  EXPECT_EQ(record.reference, 0);
}

TEST(PriceRecordTest, PriceOfTheDayOfTheRequestCounts) {
  const PriceTable table = MustParse(R"(
    [[price]]
    model = "m"
    from = 2025-09-29
    input = 1
    output = 1
    [[price]]
    model = "m"
    from = 2026-01-01
    input = 2
    output = 2)");
  UsageRecord before = RecordWith({AttemptOf("m", Tier::kCloud, {1000, 0, 0})}, k2026Jan01 - 1);
  UsageRecord after = RecordWith({AttemptOf("m", Tier::kCloud, {1000, 0, 0})}, k2026Jan01);
  PriceRecord(table, "m", &before);
  PriceRecord(table, "m", &after);
  EXPECT_EQ(before.cost, 1'000'000);
  EXPECT_EQ(after.cost, 2'000'000);
}

}  // namespace
}  // namespace tandem::gateway::usage
