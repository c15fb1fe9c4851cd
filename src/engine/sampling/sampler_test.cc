#include "engine/sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <random>

#include <gtest/gtest.h>

#include "engine/sampling/philox.h"

namespace tandem::sampling {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

std::shared_ptr<const TokenMask> Everything(int32_t n) {
  return std::make_shared<const TokenMask>(n, std::span<const int32_t>{});
}

std::vector<float> Logs(std::vector<double> probabilities) {
  std::vector<float> logits;
  for (double p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
  return logits;
}

Sampler Make(SamplingOptions options, int32_t n, std::vector<int32_t> prompt = {}) {
  auto sampler = Sampler::Create(std::move(options), Everything(n), prompt);
  EXPECT_TRUE(sampler) << sampler.error().message;
  return std::move(sampler).value();
}

int32_t SampleOnce(const Sampler& sampler, const std::vector<float>& logits) {
  SamplerScratch scratch;
  const auto id = sampler.Sample(logits, &scratch);
  EXPECT_TRUE(id) << id.error().message;
  return id.value_or(-1);
}

// Draws from the same logits again and again, as if each accepted token changed nothing.
std::vector<int> Histogram(const SamplingOptions& options, const std::vector<float>& logits,
                           int n_draws) {
  Sampler sampler = Make(options, static_cast<int32_t>(logits.size()));
  SamplerScratch scratch;
  std::vector<int> counts(logits.size());
  for (int i = 0; i < n_draws; ++i) {
    const auto id = sampler.Sample(logits, &scratch);
    EXPECT_TRUE(id);
    ++counts[static_cast<size_t>(*id)];
    sampler.Accept(*id);
  }
  return counts;
}

// Expected probabilities must not be 0 where counts are not; returns infinity there.
double ChiSquare(const std::vector<int>& counts, const std::vector<double>& probabilities) {
  double n = 0;
  for (int count : counts) n += count;
  double sum = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    const double expected = n * probabilities[i];
    if (expected == 0 && counts[i] == 0) continue;
    if (expected == 0) return std::numeric_limits<double>::infinity();
    sum += (counts[i] - expected) * (counts[i] - expected) / expected;
  }
  return sum;
}

constexpr int kDraws = 50'000;
// Upper 0.1 % points of the chi-square distribution by degrees of freedom.
const std::map<int, double> kCritical = {
    {1, 10.83}, {2, 13.82}, {3, 16.27}, {4, 18.47}, {5, 20.52}};

TEST(SamplerTest, TemperatureZeroTakesTheLargestAndTheLowestOfEquals) {
  const SamplingOptions greedy{.temperature = 0};
  EXPECT_EQ(SampleOnce(Make(greedy, 4), {0.1F, 0.9F, -3.0F, 0.8F}), 1);
  EXPECT_EQ(SampleOnce(Make(greedy, 4), {0.1F, 0.7F, 0.7F, 0.7F}), 1);
  EXPECT_EQ(SampleOnce(Make(greedy, 3), {-5.0F, -4.0F, -4.0F}), 1);
}

TEST(SamplerTest, PlainSamplingFollowsTheModelsDistribution) {
  const std::vector<double> p = {0.4, 0.05, 0.3, 0.05, 0.15, 0.05};
  EXPECT_LT(ChiSquare(Histogram({.seed = 1}, Logs(p), kDraws), p), kCritical.at(5));
  // The statistic sees a distribution that is a little off.
  const std::vector<double> off = {0.38, 0.07, 0.3, 0.05, 0.15, 0.05};
  EXPECT_GT(ChiSquare(Histogram({.seed = 1}, Logs(p), kDraws), off), kCritical.at(5));
}

TEST(SamplerTest, TemperatureRaisesProbabilitiesToItsInverse) {
  // Temperature 0.5 squares and renormalises: 16, 4, 1 of 21.
  const std::vector<double> p = {4.0 / 7, 2.0 / 7, 1.0 / 7};
  const std::vector<double> squared = {16.0 / 21, 4.0 / 21, 1.0 / 21};
  EXPECT_LT(ChiSquare(Histogram({.temperature = 0.5F, .seed = 2}, Logs(p), kDraws), squared),
            kCritical.at(2));
  // Temperature 2 takes the square root: 2, sqrt 2, 1 of 4.414...
  const double sum = 3 + std::sqrt(2.0);
  const std::vector<double> root = {2 / sum, std::sqrt(2.0) / sum, 1 / sum};
  EXPECT_LT(ChiSquare(Histogram({.temperature = 2.0F, .seed = 3}, Logs(p), kDraws), root),
            kCritical.at(2));
}

TEST(SamplerTest, TopKKeepsTheKBestAndRenormalises) {
  const std::vector<double> p = {0.1, 0.4, 0.2, 0.3};
  EXPECT_LT(
      ChiSquare(Histogram({.top_k = 2, .seed = 4}, Logs(p), kDraws), {0, 4.0 / 7, 0, 3.0 / 7}),
      kCritical.at(1));
  EXPECT_EQ(Histogram({.top_k = 1, .seed = 4}, Logs(p), 100)[1], 100);
  // More than there are: all.
  EXPECT_LT(ChiSquare(Histogram({.top_k = 1000, .seed = 4}, Logs(p), kDraws), p), kCritical.at(3));
}

TEST(SamplerTest, TopKTiesKeepTheLowestIds) {
  const std::vector<int> counts =
      Histogram({.top_k = 2, .seed = 5}, {1.0F, 1.0F, 1.0F, 1.0F}, 1000);
  EXPECT_GT(counts[0], 0);
  EXPECT_GT(counts[1], 0);
  EXPECT_EQ(counts[2] + counts[3], 0);
}

TEST(SamplerTest, TopPKeepsTheFewestThatReachIt) {
  const std::vector<double> p = {0.1, 0.4, 0.2, 0.3};
  // 0.4 + 0.3 < 0.75 <= 0.4 + 0.3 + 0.2
  EXPECT_LT(ChiSquare(Histogram({.top_p = 0.75F, .seed = 6}, Logs(p), kDraws),
                      {0, 4.0 / 9, 2.0 / 9, 3.0 / 9}),
            kCritical.at(2));
  EXPECT_LT(
      ChiSquare(Histogram({.top_p = 0.65F, .seed = 6}, Logs(p), kDraws), {0, 4.0 / 7, 0, 3.0 / 7}),
      kCritical.at(1));
}

TEST(SamplerTest, TopPZeroKeepsTheBestOne) {
  EXPECT_EQ(Histogram({.top_p = 0.0F, .seed = 7}, {0.0F, 0.0F, 1.0F, 1.0F}, 200)[2], 200);
}

TEST(SamplerTest, TopPReachedExactlyStopsThere) {
  EXPECT_EQ(Histogram({.top_p = 0.5F, .seed = 7}, {1.0F, 1.0F}, 200)[0], 200);
}

TEST(SamplerTest, TopPJustBelowOneKeepsEverythingThatMatters) {
  const std::vector<double> p = {0.25, 0.25, 0.25, 0.25};
  EXPECT_LT(ChiSquare(Histogram({.top_p = 0.99999F, .seed = 8}, Logs(p), kDraws), p),
            kCritical.at(3));
}

TEST(SamplerTest, TopPIsOverWhatTopKLeft) {
  // Of {0.4, 0.3, 0.2} the first has 0.444: with top_p 0.5 two stay. Over everything 0.4 + 0.3
  // would be needed as well; with top_p 0.42 only the first stays here, but two would over
  // everything.
  const std::vector<double> p = {0.1, 0.4, 0.2, 0.3};
  EXPECT_EQ(Histogram({.top_k = 3, .top_p = 0.42F, .seed = 9}, Logs(p), 300)[1], 300);
  EXPECT_LT(Histogram({.top_p = 0.42F, .seed = 9}, Logs(p), 300)[1], 300);
}

TEST(SamplerTest, MinPKeepsThoseNearTheBest) {
  const std::vector<double> p = {0.5, 0.26, 0.14, 0.1};
  // At least half of 0.5: the first two, with and without another cut before.
  for (int32_t top_k : {0, 3}) {
    EXPECT_LT(ChiSquare(Histogram({.top_k = top_k, .min_p = 0.5F, .seed = 10}, Logs(p), kDraws),
                        {0.5 / 0.76, 0.26 / 0.76, 0, 0}),
              kCritical.at(1));
  }
  EXPECT_EQ(Histogram({.min_p = 1.0F, .seed = 10}, Logs(p), 100)[0], 100);
}

TEST(SamplerTest, MinPLooksAtTheDistributionAfterTheTemperature) {
  // Temperature 0.5 makes the ratio 0.26 / 0.5 = 0.52 into 0.27.
  EXPECT_EQ(Histogram({.temperature = 0.5F, .min_p = 0.5F, .seed = 10},
                      Logs({0.5, 0.26, 0.14, 0.1}), 200)[0],
            200);
}

TEST(SamplerTest, FlatDistributionOverALargeVocabularyIsCutByTopP) {
  // 10,000 equal tokens: top_p 0.5 keeps ids 0 to 4,999, far beyond the first selection.
  const std::vector<float> logits(10'000, 0.5F);
  Sampler sampler = Make({.top_p = 0.5F, .seed = 11}, 10'000);
  SamplerScratch scratch;
  int32_t largest = 0;
  for (int i = 0; i < 2000; ++i) {
    const auto id = sampler.Sample(logits, &scratch);
    ASSERT_TRUE(id);
    largest = std::max(largest, *id);
    sampler.Accept(*id);
  }
  EXPECT_LT(largest, 5001);
  EXPECT_GT(largest, 4900);
}

TEST(SamplerTest, SameSeedSameTokensAndAnotherSeedOthers) {
  const std::vector<float> logits = Logs({0.1, 0.2, 0.3, 0.15, 0.25});
  const auto draw = [&](uint64_t seed) {
    Sampler sampler = Make({.top_p = 0.95F, .seed = seed}, 5);
    SamplerScratch scratch;
    std::vector<int32_t> ids;
    for (int i = 0; i < 64; ++i) {
      ids.push_back(*sampler.Sample(logits, &scratch));
      EXPECT_EQ(*sampler.Sample(logits, &scratch), ids.back());  // repeatable until accepted
      sampler.Accept(ids.back());
    }
    return ids;
  };
  EXPECT_EQ(draw(5), draw(5));
  EXPECT_NE(draw(5), draw(6));
}

TEST(SamplerTest, DrawIsTheDocumentedOne) {
  // Survivors by ascending id laid out over [0, 1): 0.2, 0.3, 0.5.
  const std::vector<float> logits = Logs({0.2, 0.3, 0.5});
  Sampler sampler = Make({.seed = 12345}, 3);
  for (uint64_t i = 0; i < 100; ++i) {
    const double u = UniformDraw(12345, i);
    const int32_t expected = u < 0.2 ? 0 : u < 0.5 ? 1 : 2;
    EXPECT_EQ(SampleOnce(sampler, logits), expected);
    sampler.Accept(expected);
  }
}

TEST(SamplerTest, DrawLaysSurvivorsOutByIdNotByProbability) {
  // top_k 2 leaves 0.3 (id 1) and 0.5 (id 2): id 1 comes first, although id 2 is more probable.
  const std::vector<float> logits = Logs({0.2, 0.3, 0.5});
  Sampler sampler = Make({.top_k = 2, .seed = 99}, 3);
  for (uint64_t i = 0; i < 100; ++i) {
    const int32_t expected = UniformDraw(99, i) < 0.375 ? 1 : 2;
    EXPECT_EQ(SampleOnce(sampler, logits), expected);
    sampler.Accept(expected);
  }
}

TEST(SamplerTest, ScratchOfAnotherSamplerDoesNotMatter) {
  const std::vector<float> logits = Logs({0.1, 0.2, 0.3, 0.15, 0.25});
  SamplerScratch scratch;
  const Sampler narrow = Make({.top_p = 0.3F, .seed = 3}, 5);
  const Sampler wide = Make({.top_k = 5, .seed = 4}, 5);
  const int32_t alone = SampleOnce(narrow, logits);
  ASSERT_TRUE(wide.Sample(std::vector<float>(5, 9.0F), &scratch));
  EXPECT_EQ(narrow.Sample(logits, &scratch), alone);
}

TEST(SamplerTest, RepetitionPenaltyDividesPositiveAndMultipliesNegativeLogits) {
  const SamplingOptions options{.temperature = 0, .repetition_penalty = 2.0F};
  // Token 0 is in the prompt: 3 becomes 1.5, below token 1.
  EXPECT_EQ(SampleOnce(Make(options, 3, {0}), {3.0F, 1.6F, 0.0F}), 1);
  EXPECT_EQ(SampleOnce(Make(options, 3, {0}), {3.0F, 1.4F, 0.0F}), 0);
  // Negative: -1 becomes -2.
  EXPECT_EQ(SampleOnce(Make(options, 2, {0}), {-1.0F, -1.9F}), 1);
  EXPECT_EQ(SampleOnce(Make(options, 2, {0}), {-1.0F, -2.1F}), 0);
  // Once, however often the token stands there; and for the answer as for the prompt.
  EXPECT_EQ(SampleOnce(Make(options, 2, {0, 0, 0}), {3.0F, 1.4F}), 0);
  Sampler sampler = Make(options, 3);
  EXPECT_EQ(SampleOnce(sampler, {3.0F, 1.6F, 0.0F}), 0);
  sampler.Accept(0);
  EXPECT_EQ(SampleOnce(sampler, {3.0F, 1.6F, 0.0F}), 1);
}

TEST(SamplerTest, FrequencyCountsAndPresenceDoesNot) {
  Sampler frequency = Make({.temperature = 0, .frequency_penalty = 0.5F}, 2);
  Sampler presence = Make({.temperature = 0, .presence_penalty = 0.5F}, 2);
  const std::vector<float> logits = {2.0F, 0.75F};
  for (Sampler* sampler : {&frequency, &presence}) {
    EXPECT_EQ(SampleOnce(*sampler, logits), 0);
    sampler->Accept(0);
    sampler->Accept(0);
    EXPECT_EQ(SampleOnce(*sampler, logits), 0);  // 1.0 and 1.5 against 0.75
    sampler->Accept(0);
  }
  EXPECT_EQ(SampleOnce(frequency, logits), 1);  // 0.5
  EXPECT_EQ(SampleOnce(presence, logits), 0);   // still 1.5
  EXPECT_EQ(SampleOnce(presence, {2.0F, 1.6F}), 1);
}

TEST(SamplerTest, FrequencyAndPresenceIgnoreThePrompt) {
  EXPECT_EQ(SampleOnce(Make({.temperature = 0, .presence_penalty = 2, .frequency_penalty = 2}, 2,
                            {0, 0, 0}),
                       {1.0F, 0.9F}),
            0);
}

TEST(SamplerTest, PenaltyWindowForgetsWhatIsOlder) {
  Sampler sampler =
      Make({.temperature = 0, .frequency_penalty = 1.0F, .penalty_window = 2}, 4, {3, 3, 3});
  const std::vector<float> logits = {1.0F, 0.9F, -5.0F, -5.0F};
  sampler.Accept(0);
  EXPECT_EQ(SampleOnce(sampler, logits), 1);  // window {3, 0}
  sampler.Accept(2);
  EXPECT_EQ(SampleOnce(sampler, logits), 1);  // {0, 2}
  sampler.Accept(2);
  EXPECT_EQ(SampleOnce(sampler, logits), 0);  // {2, 2}

  // One of two occurrences leaves: {0, 0} costs 2, {0, 2} costs 1.
  Sampler counting = Make({.temperature = 0, .frequency_penalty = 1.0F, .penalty_window = 2}, 3);
  counting.Accept(0);
  counting.Accept(0);
  EXPECT_EQ(SampleOnce(counting, {1.5F, 0.0F, -5.0F}), 1);
  counting.Accept(2);
  EXPECT_EQ(SampleOnce(counting, {1.5F, 0.0F, -5.0F}), 0);

  // The repetition penalty's window spans the border of prompt and answer.
  Sampler repetition =
      Make({.temperature = 0, .repetition_penalty = 2.0F, .penalty_window = 2}, 3, {1, 0});
  const std::vector<float> others = {3.0F, 2.0F, 0.0F};
  EXPECT_EQ(SampleOnce(repetition, others), 0);  // both are penalised: 1.5 against 1
  repetition.Accept(2);
  EXPECT_EQ(SampleOnce(repetition, others), 1);  // {0, 2}: 1.5 against 2
}

TEST(SamplerTest, LogitBiasIsAddedBeforeThePenalties) {
  const std::vector<float> logits = {1.0F, 0.0F, 0.5F};
  EXPECT_EQ(SampleOnce(Make({.temperature = 0, .logit_bias = {{1, 1.5F}}}, 3), logits), 1);
  EXPECT_EQ(SampleOnce(Make({.temperature = 0, .logit_bias = {{0, -100.0F}}}, 3), logits), 2);
  EXPECT_EQ(SampleOnce(Make({.temperature = 0, .logit_bias = {{1, 0.6F}, {1, 0.6F}}}, 3), logits),
            1);
  // (1 + 2) / 3 = 1 < 1.5; the other order would give 1 / 3 + 2 = 2.3.
  EXPECT_EQ(
      SampleOnce(
          Make({.temperature = 0, .repetition_penalty = 3.0F, .logit_bias = {{0, 2.0F}}}, 2, {0}),
          {1.0F, 1.5F}),
      1);
}

TEST(SamplerTest, IdsThatTheMaskExcludesNeverComeOut) {
  const std::vector<int32_t> unused = {1, 3, 99, -5};
  const auto mask = std::make_shared<const TokenMask>(5, unused);
  const std::vector<float> logits = {0.0F, 50.0F, 0.0F, kNan,
                                     0.0F, 90.0F, kInf};  // 7 rows, 5 tokens
  SamplerScratch scratch;
  std::map<int32_t, int> seen;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    for (const SamplingOptions& options :
         {SamplingOptions{.seed = seed}, SamplingOptions{.top_k = 4, .seed = seed},
          SamplingOptions{.top_p = 0.999F, .seed = seed}, SamplingOptions{.temperature = 0}}) {
      const auto sampler = Sampler::Create(options, mask, {});
      ASSERT_TRUE(sampler);
      const auto id = sampler->Sample(logits, &scratch);
      ASSERT_TRUE(id) << id.error().message;
      ++seen[*id];
    }
  }
  EXPECT_EQ(seen.size(), 3U);
  EXPECT_TRUE(seen.contains(0) && seen.contains(2) && seen.contains(4));
  // Not even a bias brings them back.
  const auto sampler = Sampler::Create({.temperature = 0, .logit_bias = {{1, 100.0F}}}, mask, {});
  ASSERT_TRUE(sampler);
  EXPECT_EQ(sampler->Sample(logits, &scratch), 0);
}

TEST(SamplerTest, MaskThatExcludesEverythingIsAnError) {
  const std::vector<int32_t> unused = {0, 1};
  const auto sampler = Sampler::Create({}, std::make_shared<const TokenMask>(2, unused), {});
  ASSERT_FALSE(sampler);
  EXPECT_EQ(sampler.error().code, ErrorCode::kInvalidArgument);
}

TEST(SamplerTest, LogitThatIsNotFiniteIsATypedError) {
  for (float bad : {kNan, kInf, -kInf}) {
    for (float temperature : {0.0F, 1.0F}) {
      SamplerScratch scratch;
      const auto id =
          Make({.temperature = temperature}, 3).Sample(std::vector{0.0F, 1.0F, bad}, &scratch);
      ASSERT_FALSE(id);
      EXPECT_EQ(id.error().code, ErrorCode::kInternal);
      EXPECT_NE(id.error().message.find("token 2"), std::string::npos) << id.error().message;
    }
  }
}

TEST(SamplerTest, ExtremeLogitsAndOptionsStayDefined) {
  const float max = std::numeric_limits<float>::max();
  const std::vector<float> logits = {max, -max, max, 0.0F};
  const SamplingOptions extreme{.temperature = 0.01F,
                                .top_p = 0.9F,
                                .repetition_penalty = 0.01F,
                                .presence_penalty = -2,
                                .frequency_penalty = -2,
                                .logit_bias = {{0, 100.0F}}};
  Sampler sampler = Make(extreme, 4, {0, 1, 2, 3});
  for (int i = 0; i < 20; ++i) {
    const int32_t id = SampleOnce(sampler, logits);
    EXPECT_TRUE(id == 0 || id == 2) << id;
    sampler.Accept(id);
  }
}

TEST(SamplerTest, TinyTemperatureIsGreedyAmongTies) {
  const std::vector<int> counts =
      Histogram({.temperature = 1e-44F, .seed = 13}, {1.0F, 1.5F, 1.5F, -1e30F}, 1000);
  EXPECT_EQ(counts[0] + counts[3], 0);
  EXPECT_GT(counts[1], 400);
  EXPECT_GT(counts[2], 400);
}

TEST(SamplerTest, PromptIdsOutsideTheVocabularyAreHarmless) {
  const SamplingOptions options{.temperature = 0, .repetition_penalty = 2};
  EXPECT_EQ(SampleOnce(Make(options, 2, {-7, 1'000'000, 0}), {1.0F, 0.9F}), 1);
}

TEST(SamplerTest, DecidingLogitsDecide) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0.0F, 3.0F);
  SamplerScratch scratch;
  for (const SamplingOptions& options :
       {SamplingOptions{.temperature = 0}, SamplingOptions{.temperature = 0.7F, .top_k = 1},
        SamplingOptions{.top_k = 20, .seed = 3},
        SamplingOptions{.temperature = 1.5F, .top_k = 7, .top_p = 0.8F, .min_p = 0.1F}}) {
    const Sampler sampler = Make(options, 500);
    const int n = sampler.n_deciding();
    EXPECT_EQ(n, options.temperature == 0 ? 1 : options.top_k);
    for (int round = 0; round < 50; ++round) {
      std::vector<float> logits(500);
      for (float& logit : logits) logit = normal(random);
      std::vector<float> sorted = logits;
      std::ranges::sort(sorted, std::greater());
      std::vector<float> blurred = logits;
      for (float& logit : blurred) {
        if (logit < sorted[n - 1]) logit = sorted[n - 1] - 0.001F - 0.1F * std::fabs(logit);
      }
      EXPECT_EQ(sampler.Sample(blurred, &scratch).value(),
                sampler.Sample(logits, &scratch).value());
    }
  }
}

TEST(SamplerTest, AllLogitsDecideWhereAnyTokenMayCome) {
  EXPECT_EQ(Make({}, 5).n_deciding(), 0);
  EXPECT_EQ(Make({.top_p = 0.5F}, 5).n_deciding(), 0);
  EXPECT_EQ(Make({.temperature = 0, .repetition_penalty = 1.1F}, 5).n_deciding(), 0);
  EXPECT_EQ(Make({.temperature = 0, .presence_penalty = -1}, 5).n_deciding(), 0);
  EXPECT_EQ(Make({.temperature = 0, .logit_bias = {{3, 5.0F}}}, 5).n_deciding(), 0);
}

TEST(SamplerTest, SamplingAmongAFewGivesOnlyThoseInTheirProportion) {
  const std::vector<float> logits = Logs({0.5, 0.1, 0.3, 0.05, 0.05});
  const std::vector<int32_t> few = {1, 3, 4};
  SamplerScratch scratch;
  EXPECT_EQ(Make({.temperature = 0}, 5).SampleAmong(logits, few, &scratch), 1);
  // Penalties and bias count as ever.
  EXPECT_EQ(Make({.temperature = 0, .logit_bias = {{1, -50.0F}, {4, 1.0F}}}, 5)
                .SampleAmong(logits, few, &scratch),
            4);
  std::map<int32_t, int> counts;
  Sampler sampler = Make({.top_k = 3, .seed = 1}, 5);
  for (int i = 0; i < 4000; ++i) {
    ++counts[sampler.SampleAmong(logits, few, &scratch).value()];
    sampler.Accept(0);
  }
  EXPECT_EQ(counts[0] + counts[2], 0);
  EXPECT_NEAR(counts[1], 2000, 150);
  EXPECT_NEAR(counts[3], 1000, 150);
  EXPECT_EQ(sampler.SampleAmong({{0.0F, kNan, 0.0F, 0.0F, 0.0F}}, few, &scratch).error().code,
            ErrorCode::kInternal);
}

TEST(TokenMaskTest, OrderAndRepetitionOfUnusedIdsDoNotMatter) {
  const std::vector<int32_t> unused = {3, 1, 3, -1, 5};
  const TokenMask mask(5, unused);
  EXPECT_EQ(mask.unused().size(), 2U);
  for (int32_t id = -1; id <= 5; ++id) {
    EXPECT_EQ(mask.Allows(id), id == 0 || id == 2 || id == 4) << id;
  }
}

TEST(SamplingOptionsTest, ValueOutOfRangeNamesTheField) {
  const std::vector<std::pair<std::string, SamplingOptions>> cases = {
      {"temperature", {.temperature = -1}},
      {"temperature", {.temperature = kNan}},
      {"temperature", {.temperature = kInf}},
      {"temperature", {.temperature = 101}},
      {"top_p", {.top_p = 1.1F}},
      {"top_p", {.top_p = kNan}},
      {"min_p", {.min_p = -0.1F}},
      {"top_k", {.top_k = -1}},
      {"repetition_penalty", {.repetition_penalty = 0}},
      {"presence_penalty", {.presence_penalty = 2.5F}},
      {"frequency_penalty", {.frequency_penalty = -2.5F}},
      {"penalty_window", {.penalty_window = -1}},
      {"logit_bias", {.logit_bias = {{10, 1.0F}}}},
      {"logit_bias", {.logit_bias = {{-1, 1.0F}}}},
      {"logit_bias", {.logit_bias = {{1, 101.0F}}}},
      {"logit_bias", {.logit_bias = {{1, kNan}}}},
  };
  for (const auto& [field, options] : cases) {
    const Status status = Validate(options, 10);
    ASSERT_FALSE(status) << field;
    EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(status.error().param, field);
    EXPECT_NE(status.error().message.find(field), std::string::npos);
  }
  EXPECT_TRUE(Validate({}, 10));
  EXPECT_TRUE(Validate({.temperature = 1e-30F}, 10));
  EXPECT_TRUE(
      Validate({.temperature = 0, .top_p = 0, .min_p = 1, .logit_bias = {{9, -100.0F}}}, 10));
}

}  // namespace
}  // namespace tandem::sampling
