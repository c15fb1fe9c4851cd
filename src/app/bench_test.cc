#include "app/bench.h"

#include <deque>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <boost/json.hpp>

#include "engine/packing.h"
#include "os/testing/temp_dir.h"

namespace tandem::app {
namespace {

namespace json = boost::json;
using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

// A machine that reads 10 GB/s, then 20 GB/s, then 10 again, and so on.
struct FakeMachine {
  Result<probe::MachineState> Probe(int n_threads) {
    EXPECT_EQ(n_threads, 2);
    ++n_probes;
    probe::MachineState state;
    state.read_bytes_per_second = n_probes % 2 == 1 ? 10e9 : 20e9;
    state.core_to_core_ns = 32;
    state.cpu.idle_s = n_probes;
    return state;
  }
  int n_probes = 0;
};

class BenchTest : public testing::Test {
 protected:
  BenchTest() {
    options_.probe_state = [this](int n_threads) { return machine_.Probe(n_threads); };
    options_.probe_int8 = [] { return 100e9; };
    options_.model = dir_ / "demo.tandem";
    const auto packed =
        engine::Pack(std::filesystem::path(TANDEM_SOURCE_DIR) / "models/demo/tandem-demo-q4_0.gguf",
                     options_.model, {.n_threads = 1});
    EXPECT_TRUE(packed) << packed.error().message;
    options_.engine.n_threads = 2;
    options_.prompts = {24};
    options_.decodes = {{2, 8}};
    options_.decode_steps = 3;
    options_.repetitions = 2;
  }
  os::TempDir dir_;
  FakeMachine machine_;
  BenchOptions options_;
};

TEST(DecodeLoadTest, SequencesAndDepth) {
  const auto both = ParseDecodeLoad("4x512");
  ASSERT_TRUE(both);
  EXPECT_EQ(both->n_sequences, 4);
  EXPECT_EQ(both->depth, 512);
  const auto one = ParseDecodeLoad("8");
  ASSERT_TRUE(one);
  EXPECT_EQ(one->n_sequences, 8);
  EXPECT_EQ(one->depth, 0);
  for (const char* bad : {"", "x", "0", "-1", "4x", "x4", "4x-1", "4x5x6", "4 x 5", "four"}) {
    EXPECT_EQ(ParseDecodeLoad(bad).error().code, ErrorCode::kInvalidArgument) << bad;
  }
}

TEST_F(BenchTest, EveryLoadGetsAFigureWithTheMachineAroundIt) {
  std::vector<std::string> said;
  options_.progress = [&](std::string_view what) { said.emplace_back(what); };
  const auto report = Bench(options_);
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_THAT(said, SizeIs(2));
  ASSERT_THAT(report->figures, SizeIs(2));
  const BenchFigure& prompt = report->figures[0];
  EXPECT_TRUE(prompt.is_prompt);
  EXPECT_THAT(prompt.milliseconds, SizeIs(2));  // one a repetition
  const BenchFigure& decode = report->figures[1];
  EXPECT_THAT(decode.milliseconds, SizeIs(2 * 3));  // one a step
  for (const BenchFigure& figure : report->figures) {
    EXPECT_GT(figure.tokens_per_second, 0);
    EXPECT_GE(figure.best_tokens_per_second, figure.tokens_per_second);
    const double steps = figure.tokens_per_second / (figure.is_prompt ? 24 : 2);
    EXPECT_NEAR(figure.bandwidth_share,
                steps * static_cast<double>(report->model.bytes_per_token) / 15e9, 1e-9);
    EXPECT_THAT(figure.changes, ElementsAre(HasSubstr("read bandwidth")));
  }
  // Of two threads; every token of the prompt but the last does without the head.
  const auto& model = report->model;
  const double products =
      23.0 * static_cast<double>(model.products_per_token - model.head_products) +
      static_cast<double>(model.products_per_token);
  EXPECT_NEAR(prompt.int8_share, prompt.tokens_per_second / 24 * products / 200e9, 1e-9);
  EXPECT_NEAR(decode.int8_share,
              decode.tokens_per_second * static_cast<double>(model.products_per_token) / 200e9,
              1e-9);
  EXPECT_EQ(machine_.n_probes, 3);
  EXPECT_EQ(report->plan.context_tokens, 24);  // what the longest load needs
  EXPECT_GT(report->peak_bytes, report->plan.weights_bytes);
  EXPECT_EQ(report->before.state.cpu.idle_s, 1);
  EXPECT_EQ(report->after.cpu.idle_s, 3);
  EXPECT_FALSE(report->before.instruction_set.empty());

  const json::object object = json::parse(ToJson(*report)).as_object();
  EXPECT_THAT(object.at("figures").as_array(), SizeIs(2));
  EXPECT_EQ(object.at("memory").at("total_bytes"), report->plan.total_bytes());
  EXPECT_EQ(object.at("machine").at("threads"), 2);
  const std::string text = ToText(*report);
  EXPECT_THAT(text, HasSubstr("prefill 24 "));
  EXPECT_THAT(text, HasSubstr("decode 2 x 8 deep "));
}

TEST_F(BenchTest, WhatTheMemoryLimitDoesNotHoldIsRefused) {
  options_.engine.context_tokens = 24;
  const auto plan = engine::PlanMemory(options_.model, options_.engine);
  ASSERT_TRUE(plan);
  options_.engine.memory_limit_bytes = plan->total_bytes() + plan->kv_cache_bytes - 1;
  const auto report = Bench(options_);
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().code, ErrorCode::kResourceExhausted);
  EXPECT_THAT(report.error().message, HasSubstr("2 sequences"));
}

TEST_F(BenchTest, NonsenseAndInterruptionAreErrors) {
  BenchOptions nonsense = options_;
  nonsense.prompts = {0};
  EXPECT_EQ(Bench(nonsense).error().code, ErrorCode::kInvalidArgument);
  std::stop_source stop;
  stop.request_stop();
  options_.stop = stop.get_token();
  EXPECT_EQ(Bench(options_).error().code, ErrorCode::kCancelled);
}

TEST_F(BenchTest, CommandsAreAnsweredLineByLine) {
  options_.engine.context_tokens = 64;
  std::deque<std::string> commands = {R"({"prefill": 16})",
                                      R"({"prefill": 8, "depth": 16})",
                                      R"({"decode": 5, "sequences": 3, "depth": 4})",
                                      R"({"decode": 65})",
                                      "{",
                                      "[]",
                                      R"({"x": 1})",
                                      R"({"prefill": "many"})",
                                      R"({"prefill": 1, "depth": 1e99})",
                                      R"({"machine": true})",
                                      R"({"machine": true, "others_s": 1e9})"};
  std::vector<json::object> answers;
  const Status status = BenchCommands(
      options_,
      [&]() -> std::optional<std::string> {
        if (commands.empty()) return std::nullopt;
        std::string line = commands.front();
        commands.pop_front();
        return line;
      },
      [&](std::string_view line) -> Status {
        answers.push_back(json::parse(line).as_object());
        return {};
      });
  ASSERT_TRUE(status) << status.error().message;
  ASSERT_THAT(answers, SizeIs(12));
  EXPECT_TRUE(answers[0].contains("load_ms"));
  EXPECT_THAT(answers[1].at("ms").as_array(), SizeIs(1));
  EXPECT_THAT(answers[2].at("ms").as_array(), SizeIs(1));
  EXPECT_THAT(answers[3].at("ms").as_array(), SizeIs(5));
  for (size_t i = 4; i < 10; ++i) EXPECT_TRUE(answers[i].contains("error")) << i;
  EXPECT_EQ(answers[10].at("read_bytes_per_second").as_double(), 10e9);
  EXPECT_FALSE(answers[10].contains("changes"));
  EXPECT_THAT(answers[11].at("changes").as_array(), SizeIs(1));
}

TEST_F(BenchTest, CpuTimeThatTheDriverAccountsForIsNotOthers) {
  options_.engine.context_tokens = 64;
  int n_probes = 0;
  options_.probe_state = [&](int) -> Result<probe::MachineState> {
    ++n_probes;
    // Ten seconds of work in all between two probes, none of it this process's own.
    return probe::MachineState{.cpu = {.busy_s = 10.0 * n_probes}};
  };
  std::deque<std::string> commands = {R"({"machine": true})", R"({"machine": true})",
                                      R"({"machine": true, "others_s": 9.5})",
                                      R"({"machine": true, "others_s": 0})"};
  std::vector<double> shares;
  const Status status = BenchCommands(
      options_,
      [&]() -> std::optional<std::string> {
        if (commands.empty()) return std::nullopt;
        std::string line = commands.front();
        commands.pop_front();
        return line;
      },
      [&](std::string_view line) -> Status {
        const json::value answer = json::parse(line);
        if (answer.as_object().contains("others_share")) {
          shares.push_back(answer.at("others_share").as_double());
        }
        return {};
      });
  ASSERT_TRUE(status) << status.error().message;
  EXPECT_THAT(shares,
              ElementsAre(DoubleNear(1, 1e-9), DoubleNear(0.05, 1e-9), DoubleNear(1, 1e-9)));
}

TEST_F(BenchTest, MachineAlone) {
  const auto report = ProbeMachine(options_);
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->int8_products_per_second, 200e9);
  EXPECT_EQ(json::parse(ToJson(*report)).at("read_bytes_per_second").as_double(), 10e9);
  EXPECT_THAT(ToText(*report), HasSubstr("2 threads"));
  EXPECT_THAT(ToText(*report), HasSubstr("reads 10.0 GB/s, 32 ns from core to core"));
}

}  // namespace
}  // namespace tandem::app
