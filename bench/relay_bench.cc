// What the relay adds to a piece of text on its way, and to an answer: `./dev bench Relay`.
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "gateway/relay/relay.h"
#include "gateway/relay/text_detectors.h"

namespace tandem::gateway::relay {
namespace {

// Prose of words that recur as they do in English: a few very often, most seldom.
std::vector<std::string> Words(size_t n) {
  std::vector<std::string> words;
  uint64_t state = 7;
  for (size_t i = 0; i < n; ++i) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    const auto random = static_cast<uint32_t>(state >> 33);
    const uint32_t range = 1U << (random % 12 + 1);
    words.push_back(" word" + std::to_string((random >> 8) % range));
    if (random % 11 == 0) words.back() += ".";
  }
  return words;
}

// Keeps its sink, so that a benchmark can push pieces through.
class HandProvider final : public Provider {
 public:
  class Handle final : public Generation {
   public:
    void Cancel() override {}
  };
  std::string_view model() const override { return "m"; }
  Tier tier() const override { return Tier::kCloud; }
  std::unique_ptr<Generation> Start(GenerateRequest, EventSink to) override {
    sink = std::move(to);
    return std::make_unique<Handle>();
  }
  EventSink sink;
};

void BM_RelayPiece(benchmark::State& state) {
  const std::vector<std::string> words = Words(4096);
  RealClock clock;
  ThreadTimers timers;
  auto provider = std::make_shared<HandProvider>();
  size_t n_bytes = 0;
  Relay relay({{.provider = provider, .timeouts = {std::chrono::seconds(60)}}},
              {.deadline = std::chrono::minutes(60),
               .detect_repetition = state.range(0) != 0,
               .clock = &clock,
               .timers = &timers},
              nullptr);
  auto generation = relay.Start({}, [&](GenerateEvent event) {
    if (const auto* piece = std::get_if<TextDelta>(&event)) n_bytes += piece->text.size();
  });
  size_t i = 0;
  for (auto _ : state) provider->sink(TextDelta{words[i++ % words.size()], {}});
  benchmark::DoNotOptimize(n_bytes);
  provider->sink(Finished{});
}
BENCHMARK(BM_RelayPiece)->ArgName("detect")->Arg(0)->Arg(1);

void BM_RelayAnswerOfOnePiece(benchmark::State& state) {
  RealClock clock;
  ThreadTimers timers;
  auto provider = std::make_shared<HandProvider>();
  GenerateRequest request{.messages = {{.role = "user", .content = std::string(500, 'x')}}};
  for (auto _ : state) {
    std::vector<Candidate> candidates(
        2, {.provider = provider, .timeouts = {std::chrono::seconds(60)}});
    Relay relay(std::move(candidates),
                {.deadline = std::chrono::minutes(1), .clock = &clock, .timers = &timers}, nullptr);
    auto generation = relay.Start(request, [](const GenerateEvent&) {});
    EventSink sink = std::move(provider->sink);
    sink(TextDelta{"Hello", {}});
    sink(Finished{});
  }
}
BENCHMARK(BM_RelayAnswerOfOnePiece);

void BM_RelayDetector(benchmark::State& state) {
  const std::vector<std::string> words = Words(4096);
  RepetitionDetector detector;
  size_t i = 0;
  for (auto _ : state) benchmark::DoNotOptimize(detector.Push(words[i++ % words.size()]));
}
BENCHMARK(BM_RelayDetector);

}  // namespace
}  // namespace tandem::gateway::relay
