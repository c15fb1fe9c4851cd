#include "engine/session/degeneration.h"

#include <algorithm>
#include <vector>

#include <gtest/gtest.h>

namespace tandem::session {
namespace {

using Detector = TailPeriodDetector;

// The definition, by looking at the whole text: the shortest period with enough copies, or 0.
int PeriodByDefinition(const std::vector<int32_t>& tokens) {
  const auto n = static_cast<int>(tokens.size());
  for (int p = 1; p <= Detector::kMaxPeriod; ++p) {
    const int needed = std::max(Detector::kMinCopies * p, Detector::kMinTokens);
    if (n < needed) continue;
    bool repeats = true;
    for (int i = n - needed + p; i < n; ++i) repeats &= tokens[i] == tokens[i - p];
    if (repeats) return p;
  }
  return 0;
}

std::string Cycle(int period) { return "repeat a cycle of " + std::to_string(period); }

TEST(TailPeriodDetectorTest, EveryPeriodIsFoundAtExactlyTheFirstTokenThatMakesIt) {
  for (int period = 1; period <= Detector::kMaxPeriod; ++period) {
    Detector detector;
    // A beginning that is not part of the loop.
    for (int i = 0; i < 5; ++i) ASSERT_FALSE(detector.Push(1000 + i));
    const int needed = std::max(Detector::kMinCopies * period, Detector::kMinTokens);
    for (int i = 0; i < needed - 1; ++i) {
      ASSERT_FALSE(detector.Push(i % period)) << "period " << period << " after " << i + 1;
    }
    const auto found = detector.Push((needed - 1) % period);
    ASSERT_TRUE(found) << "period " << period;
    EXPECT_EQ(found->check, "tail_period");
    EXPECT_TRUE(found->figure.ends_with(Cycle(period))) << found->figure;
    EXPECT_NE(found->figure.find("last " + std::to_string(needed) + " tokens"), std::string::npos)
        << found->figure;
  }
}

TEST(TailPeriodDetectorTest, LongerCyclesAreNotReported) {
  Detector detector;
  for (int i = 0; i < 5 * (Detector::kMaxPeriod + 1); ++i) {
    ASSERT_FALSE(detector.Push(i % (Detector::kMaxPeriod + 1)));
  }
}

TEST(TailPeriodDetectorTest, OneDifferentTokenStartsTheCountAgain) {
  for (int period : {1, 7, 16, 30, 128}) {
    Detector detector;
    const int needed = std::max(Detector::kMinCopies * period, Detector::kMinTokens);
    for (int i = 0; i < needed - 1; ++i) ASSERT_FALSE(detector.Push(i % period));
    ASSERT_FALSE(detector.Push(-1));
    for (int i = 0; i < needed - 1; ++i) ASSERT_FALSE(detector.Push(i % period));
    EXPECT_TRUE(detector.Push((needed - 1) % period));
  }
}

TEST(TailPeriodDetectorTest, AgreesWithTheDefinitionOnEveryPrefixOfLoopyText) {
  // Few symbols and long runs, so that near misses of all kinds occur.
  uint32_t state = 1;
  const auto next = [&] { return (state = state * 1664525 + 1013904223) >> 16; };
  int n_found = 0;
  for (int text = 0; text < 60; ++text) {
    Detector detector;
    std::vector<int32_t> tokens;
    while (tokens.size() < 600) {
      // Repeat a piece of the past, or add something new.
      const size_t back = 1 + next() % 140;
      const size_t length = next() % 300;
      if (tokens.size() < back || next() % 4 == 0) {
        for (uint32_t i = next() % 20; i > 0; --i)
          tokens.push_back(static_cast<int32_t>(next() % 3));
      } else {
        for (size_t i = 0; i < length; ++i) tokens.push_back(tokens[tokens.size() - back]);
      }
    }
    std::vector<int32_t> prefix;
    for (int32_t id : tokens) {
      prefix.push_back(id);
      const auto found = detector.Push(id);
      const int expected = PeriodByDefinition(prefix);
      ASSERT_EQ(found.has_value(), expected != 0) << "text " << text << ", " << prefix.size();
      if (found) {
        ++n_found;
        ASSERT_TRUE(found->figure.ends_with(Cycle(expected))) << found->figure;
      }
    }
  }
  EXPECT_GT(n_found, 1000);
}

}  // namespace
}  // namespace tandem::session
