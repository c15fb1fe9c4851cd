#include "gateway/router/canary.h"

#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gateway/router/statistics.h"

namespace tandem::gateway {
namespace {

using std::chrono::seconds;

// Simulated traffic: log-normal latencies, a share of errors; time moves 30 s between looks.
struct Traffic {
  double baseline_errors = 0.01;
  double canary_errors = 0.01;
  double slower = 1;       // the canary's latencies, as a factor
  double slower_tail = 1;  // the same for 4 % of its answers
  double engaged_baseline = 0;
  double engaged_canary = 0;
  int requests_a_look = 400;
};

class Simulation {
 public:
  Simulation(uint64_t seed, CanaryOptions options, Traffic traffic)
      : random_(seed), traffic_(traffic), canary_(std::move(options), clock_.SystemNow()) {}

  Canary& canary() { return canary_; }

  // Runs until it ends or `looks` are over.
  Canary::State Run(int looks) {
    for (int look = 0; look < looks && canary_.state() == Canary::State::kRunning; ++look) {
      for (int i = 0; i < traffic_.requests_a_look; ++i) canary_.Record(Request());
      clock_.Advance(seconds(30));
      for (const Canary::Change& change : canary_.Tick(clock_.SystemNow())) last_ = change;
    }
    return canary_.state();
  }
  const Canary::Change& last() const { return last_; }

 private:
  // In [0, 1). The standard distribution takes two logarithms a number in this library.
  double Uniform() { return static_cast<double>(random_() >> 11) * 0x1p-53; }
  // Of a log-normal distribution, from 2^16 quantiles of it: a simulation draws millions.
  double Latency() {
    static const std::vector<double> quantiles = [] {
      constexpr size_t kQuantiles = size_t{1} << 16;
      std::vector<double> values(kQuantiles);
      for (size_t i = 0; i < kQuantiles / 2; ++i) {
        const double z = NormalUpperQuantile((static_cast<double>(i) + 0.5) / kQuantiles);
        values[i] = std::exp(5.0 + 0.5 * z);
        values[kQuantiles - 1 - i] = std::exp(5.0 - 0.5 * z);
      }
      return values;
    }();
    return quantiles[random_() >> 48];
  }

  CanarySample Request() {
    CanarySample sample;
    sample.canary = canary_.Assigned("user-" + std::to_string(random_() % 100'000));
    sample.streamed = Uniform() < 0.7;
    sample.prompt_tokens = Uniform() < 0.8 ? 100 : 700;
    const double errors = sample.canary ? traffic_.canary_errors : traffic_.baseline_errors;
    sample.error = Uniform() < errors;
    // Long prompts take longer in both arms: what stratifying is for.
    sample.ttft_ms = (sample.prompt_tokens > 256 ? 3 : 1) * Latency();
    sample.ms_per_token = Latency() / 10;
    if (sample.canary) {
      sample.ttft_ms *= traffic_.slower;
      if (Uniform() < 0.04) sample.ttft_ms *= traffic_.slower_tail;
    }
    sample.engaged =
        Uniform() < (sample.canary ? traffic_.engaged_canary : traffic_.engaged_baseline);
    return sample;
  }

  std::mt19937_64 random_;
  Traffic traffic_;
  FakeClock clock_;
  Canary canary_;
  Canary::Change last_;
};

CanaryOptions Options() {
  CanaryOptions options;
  options.id = "c";
  options.steps = {0.05, 0.5, 1.0};
  return options;
}

// Share of simulated roll-outs that end in a state.
double ShareEnding(Canary::State state, const Traffic& traffic, int runs) {
  int hits = 0;
  for (int run = 0; run < runs; ++run) {
    CanaryOptions options = Options();
    options.id = "c" + std::to_string(run);
    hits += Simulation(static_cast<uint64_t>(run) + 1, options, traffic).Run(400) == state;
  }
  return hits / static_cast<double>(runs);
}

TEST(CanarySimulationTest, AnEqualCanaryIsPromotedAndSeldomRolledBack) {
  const Traffic equal;
  EXPECT_GE(ShareEnding(Canary::State::kPromoted, equal, 100), 0.93);
}

TEST(CanarySimulationTest, WorseOnesAreRolledBack) {
  EXPECT_GE(ShareEnding(Canary::State::kRolledBack, {.canary_errors = 0.05}, 30), 0.95);
  EXPECT_GE(ShareEnding(Canary::State::kRolledBack, {.slower = 1.4}, 30), 0.95);
  EXPECT_GE(ShareEnding(Canary::State::kRolledBack, {.slower_tail = 6}, 30), 0.90)
      << "the median is equal, the p99 is not";
  EXPECT_GE(ShareEnding(Canary::State::kRolledBack,
                        {.engaged_baseline = 0.30, .engaged_canary = 0.20}, 30),
            0.95);
}

TEST(CanarySimulationTest, ABetterOneIsPromoted) {
  EXPECT_GE(ShareEnding(Canary::State::kPromoted, {.canary_errors = 0.001, .slower = 0.5}, 30),
            0.95);
}

TEST(CanaryTest, TooFewSamplesAreHeldNeverPromoted) {
  Simulation simulation(1, Options(), {.requests_a_look = 1});
  EXPECT_EQ(simulation.Run(100'000), Canary::State::kHeld);
  EXPECT_THAT(simulation.last().reason, testing::HasSubstr("inconclusive"));
}

TEST(CanaryTest, FiveFailuresInARowAbortAtOnce) {
  FakeClock clock;
  Canary canary(Options(), clock.SystemNow());
  for (int i = 0; i < 4; ++i) canary.Record({.canary = true, .error = true});
  EXPECT_TRUE(canary.Tick(clock.SystemNow()).empty());
  canary.Record({.canary = true, .error = true});
  const auto changes = canary.Tick(clock.SystemNow());
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_EQ(changes[0].state, Canary::State::kRolledBack);
  EXPECT_EQ(canary.share(), 0);
}

TEST(CanaryTest, BaselineFailuresDoNotAbort) {
  FakeClock clock;
  Canary canary(Options(), clock.SystemNow());
  for (int i = 0; i < 50; ++i) canary.Record({.canary = false, .error = true});
  EXPECT_TRUE(canary.Tick(clock.SystemNow()).empty());
}

TEST(CanaryTest, ASubjectStaysInWhenTheShareGrows) {
  FakeClock clock;
  Canary canary(Options(), clock.SystemNow());
  std::vector<std::string> early;
  for (int i = 0; i < 2000; ++i) {
    const std::string subject = "user-" + std::to_string(i);
    if (canary.Assigned(subject)) early.push_back(subject);
  }
  EXPECT_NEAR(static_cast<double>(early.size()), 100, 35);
  canary.Promote(clock.SystemNow(), false, "ada");
  EXPECT_EQ(canary.share(), 0.5);
  for (const std::string& subject : early) EXPECT_TRUE(canary.Assigned(subject));
}

TEST(CanaryTest, PeopleDecide) {
  FakeClock clock;
  Canary canary(Options(), clock.SystemNow());
  EXPECT_EQ(canary.Hold("ada").state, Canary::State::kHeld);
  for (int i = 0; i < 9; ++i) canary.Record({.canary = true, .error = true});
  EXPECT_TRUE(canary.Tick(clock.SystemNow()).empty()) << "held means held";
  EXPECT_EQ(canary.Promote(clock.SystemNow(), false, "ada").share, 0.5);
  EXPECT_EQ(canary.Promote(clock.SystemNow(), true, "ada").state, Canary::State::kPromoted);
  EXPECT_EQ(canary.share(), 1);
  EXPECT_EQ(canary.RollBack("ada").reason, "rolled back by ada");
  EXPECT_FALSE(canary.Assigned("anyone"));
}

TEST(CanaryTest, GoesOnWhereItWasAfterARestart) {
  FakeClock clock;
  Canary before(Options(), clock.SystemNow());
  before.Promote(clock.SystemNow(), false, "ada");
  clock.Advance(seconds(100));
  Canary after(Options(), before.position());
  EXPECT_EQ(after.share(), 0.5);
  EXPECT_EQ(after.position(), before.position());
  CanaryOptions fewer = Options();
  fewer.steps = {0.3};
  EXPECT_EQ(Canary(fewer, before.position()).share(), 0.3);
}

// Every sample of two nodes, merged after a journey as bytes, gives what one node would have seen.
TEST(CanaryFiguresTest, MergedFiguresAreThoseOfOneNode) {
  std::mt19937_64 random(3);
  CanaryFigures nodes[2];
  CanaryFigures whole;
  for (int i = 0; i < 5000; ++i) {
    CanarySample sample{.canary = random() % 2 == 0,
                        .streamed = random() % 2 == 0,
                        .prompt_tokens = static_cast<int32_t>(random() % 8000),
                        .error = i > 4990 || random() % 50 == 0,
                        .degenerate = random() % 80 == 0,
                        .ttft_ms = static_cast<double>(random() % 100'000) / 7,
                        .ms_per_token = static_cast<double>(random() % 1000) / 9,
                        .total_ms = static_cast<double>(random() % 1'000'000),
                        .engaged = random() % 3 == 0};
    // The last failures are all of one node.
    nodes[i > 4990 ? 0 : random() % 2].Record(sample);
    whole.Record(sample);
  }
  nodes[1].Engage(true);
  whole.Engage(true);
  CanaryFigures merged;
  for (const CanaryFigures& node : nodes) {
    const auto decoded = CanaryFigures::Decode(node.Encode());
    ASSERT_TRUE(decoded) << decoded.error().message;
    merged.Merge(*decoded);
  }
  merged.failures_in_a_row = whole.failures_in_a_row;  // compared below
  EXPECT_EQ(merged.Encode().size(), whole.Encode().size());
  for (const bool canary : {false, true}) {
    EXPECT_EQ(merged.arm(canary).requests, whole.arm(canary).requests);
    EXPECT_EQ(merged.arm(canary).errors, whole.arm(canary).errors);
    EXPECT_EQ(merged.arm(canary).degenerate, whole.arm(canary).degenerate);
    EXPECT_EQ(merged.arm(canary).engaged, whole.arm(canary).engaged);
    for (const double q : {0.01, 0.5, 0.95, 0.99, 1.0}) {
      EXPECT_EQ(merged.arm(canary).AllTtftMs().Quantile(q),
                whole.arm(canary).AllTtftMs().Quantile(q));
      EXPECT_EQ(merged.arm(canary).total_ms.Quantile(q), whole.arm(canary).total_ms.Quantile(q));
    }
  }
}

TEST(CanaryFiguresTest, LongestRunOfFailuresOfANodeCounts) {
  CanaryFigures a;
  CanaryFigures b;
  for (int i = 0; i < 3; ++i) a.Record({.canary = true, .error = true});
  for (int i = 0; i < 4; ++i) b.Record({.canary = true, .error = true});
  a.Merge(b);
  EXPECT_EQ(a.failures_in_a_row, 4);
}

TEST(CanaryFiguresTest, BytesThatAreNoneAreRefused) {
  CanaryFigures figures;
  figures.Record({.canary = true, .ttft_ms = 3, .ms_per_token = 4});
  const std::string good = figures.Encode();
  ASSERT_TRUE(CanaryFigures::Decode(good));
  for (size_t n = 0; n < good.size(); ++n) {
    EXPECT_EQ(CanaryFigures::Decode(good.substr(0, n)).error().code, ErrorCode::kCorrupt) << n;
  }
  EXPECT_FALSE(CanaryFigures::Decode(good + "x"));
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 0xFF);
    (void)CanaryFigures::Decode(bad);  // whatever it says, it says it
  }
}

TEST(CanaryTest, OptionsAreChecked) {
  const auto param = [](auto change) {
    CanaryOptions options = Options();
    change(options);
    const Status status = Validate(options);
    return status ? "" : status.error().param;
  };
  EXPECT_EQ(param([](CanaryOptions&) {}), "");
  EXPECT_EQ(param([](CanaryOptions& o) { o.id = ""; }), "id");
  EXPECT_EQ(param([](CanaryOptions& o) { o.steps = {}; }), "steps");
  EXPECT_EQ(param([](CanaryOptions& o) { o.steps = {0.5, 0.5}; }), "steps");
  EXPECT_EQ(param([](CanaryOptions& o) { o.steps = {0.5, 1.5}; }), "steps");
  EXPECT_EQ(param([](CanaryOptions& o) { o.alpha = 0; }), "alpha");
  EXPECT_EQ(param([](CanaryOptions& o) { o.step_time = seconds(1); }), "step_time");
}

}  // namespace
}  // namespace tandem::gateway
