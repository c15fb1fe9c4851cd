#include "app/bench.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <utility>

#include <boost/json.hpp>

#include "os/cpu.h"
#include "os/memory.h"

namespace tandem::app {
namespace {

namespace json = boost::json;

constexpr int32_t kMaxSteps = 4096;

double MillisecondsSince(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin)
      .count();
}

int ThreadCount(const engine::EngineOptions& options) {
  return options.n_threads > 0 ? options.n_threads : os::UsableCpuCount();
}

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

Status Validate(const BenchOptions& options) {
  const auto positive = [](int32_t n) { return n >= 1; };
  if (options.repetitions < 1 || options.decode_steps < 1 || options.decode_steps > kMaxSteps ||
      !std::ranges::all_of(options.prompts, positive)) {
    return Err(
        ErrorCode::kInvalidArgument,
        "repetitions, tokens of prompts and steps of decoding (at most {}) must be 1 or more",
        kMaxSteps);
  }
  return {};
}

// Steps are measured one by one, so nothing guesses ahead.
engine::EngineOptions StepOptions(const BenchOptions& options) {
  engine::EngineOptions engine = options.engine;
  engine.speculation = engine::SpeculationMode::kOff;
  return engine;
}

// The smallest context that all loads fit into.
int32_t ContextFor(const BenchOptions& options) {
  int32_t tokens = 1;
  for (int32_t prompt : options.prompts) tokens = std::max(tokens, prompt);
  for (const DecodeLoad& load : options.decodes) {
    tokens = std::max(tokens, load.depth + options.decode_steps);
  }
  return tokens;
}

// Takes the figures of one loaded model.
class Runner {
 public:
  Runner(const BenchOptions& options, const MachineReport& machine, BenchReport* report)
      : options_(options), machine_(machine), last_(machine.state), report_(report) {}

  Status Prompt(engine::StepTimer& timer, int32_t n_tokens) {
    BenchFigure figure{.is_prompt = true, .n_tokens = n_tokens};
    const auto& model = report_->model;
    const double products =
        static_cast<double>(model.products_per_token - model.head_products) * n_tokens +
        static_cast<double>(model.head_products);
    return Take(fmt::format("prompt of {} tokens", n_tokens), std::move(figure), n_tokens, products,
                [&](std::vector<double>* milliseconds) -> Status {
                  TANDEM_ASSIGN_OR_RETURN(const double ms, timer.Prefill(n_tokens, 0));
                  milliseconds->push_back(ms);
                  return {};
                });
  }

  Status Decode(engine::StepTimer& timer, const DecodeLoad& load) {
    BenchFigure figure{.n_sequences = load.n_sequences, .depth = load.depth};
    const double products =
        static_cast<double>(report_->model.products_per_token) * load.n_sequences;
    return Take(fmt::format("decoding {} x {} tokens deep", load.n_sequences, load.depth),
                std::move(figure), load.n_sequences, products,
                [&](std::vector<double>* milliseconds) -> Status {
                  TANDEM_ASSIGN_OR_RETURN(
                      const std::vector<double> steps,
                      timer.Decode(load.n_sequences, load.depth, options_.decode_steps));
                  milliseconds->insert(milliseconds->end(), steps.begin(), steps.end());
                  return {};
                });
  }

  const probe::MachineState& last() const { return last_; }

 private:
  // `once` appends the milliseconds of runs of n_tokens tokens and so many products each.
  template <typename Once>
  Status Take(const std::string& what, BenchFigure figure, int32_t n_tokens, double products,
              Once once) {
    if (options_.progress) options_.progress(what);
    // The first one touches memory for the first time and computes what lies before.
    std::vector<double> warm_up;
    TANDEM_RETURN_IF_ERROR(once(&warm_up));
    for (int i = 0; i < options_.repetitions; ++i) {
      if (options_.stop.stop_requested()) return Err(ErrorCode::kCancelled, "interrupted");
      TANDEM_RETURN_IF_ERROR(once(&figure.milliseconds));
    }
    TANDEM_ASSIGN_OR_RETURN(const os::MemoryStatus memory, os::ReadMemoryStatus());
    report_->peak_bytes = std::max(report_->peak_bytes, memory.process_peak_bytes);
    TANDEM_ASSIGN_OR_RETURN(const probe::MachineState now,
                            options_.probe_state(machine_.n_threads));
    os::ResetPeakMemory();
    figure.changes = probe::Compare(last_, now).changes;
    const double seconds = Median(figure.milliseconds) / 1000;
    figure.tokens_per_second = n_tokens / seconds;
    figure.best_tokens_per_second = 1000 * n_tokens / std::ranges::min(figure.milliseconds);
    const double bandwidth = (last_.read_bytes_per_second + now.read_bytes_per_second) / 2;
    figure.bandwidth_share =
        static_cast<double>(report_->model.bytes_per_token) / seconds / bandwidth;
    if (machine_.int8_products_per_second > 0) {
      figure.int8_share = products / seconds / machine_.int8_products_per_second;
    }
    last_ = now;
    report_->figures.push_back(std::move(figure));
    return {};
  }

  const BenchOptions& options_;
  const MachineReport& machine_;
  probe::MachineState last_;
  BenchReport* const report_;
};

// Sequences beyond the first are not in the plan.
Status CheckSequences(const BenchOptions& options, const engine::MemoryPlan& plan) {
  int32_t most = 1;
  for (const DecodeLoad& load : options.decodes) most = std::max(most, load.n_sequences);
  const uint64_t wanted =
      plan.total_bytes() + plan.kv_cache_bytes * static_cast<uint64_t>(most - 1);
  if (wanted <= plan.limit_bytes) return {};
  return Err(ErrorCode::kResourceExhausted,
             "{} sequences of {} tokens need {} bytes and the memory limit is {}: measure fewer, "
             "or raise it",
             most, plan.context_tokens, wanted, plan.limit_bytes);
}

// Answers the lines of BenchCommands().
class CommandReader {
 public:
  CommandReader(engine::StepTimer* timer, const BenchOptions& options)
      : timer_(timer), options_(options) {}

  std::string Answer(std::string_view line) {
    auto answer = Measure(line);
    if (!answer) return json::serialize(json::object{{"error", answer.error().message}});
    return json::serialize(*answer);
  }

 private:
  Result<json::object> Measure(std::string_view line) {
    boost::system::error_code error;
    const json::value value = json::parse(line, error);
    if (!error && value.is_object()) {
      const json::object& command = value.get_object();
      if (command.contains("prefill")) {
        TANDEM_ASSIGN_OR_RETURN(const double ms, timer_->Prefill(Count(command, "prefill", 0),
                                                                 Count(command, "depth", 0)));
        return json::object{{"ms", json::array{ms}}};
      }
      if (command.contains("decode")) {
        const int32_t n_steps = std::min(Count(command, "decode", 0), kMaxSteps);
        TANDEM_ASSIGN_OR_RETURN(
            const std::vector<double> ms,
            timer_->Decode(Count(command, "sequences", 1), Count(command, "depth", 0), n_steps));
        return json::object{{"ms", json::value_from(ms)}};
      }
      if (command.contains("machine")) return ReadMachine(command);
    }
    return Err(ErrorCode::kInvalidArgument,
               R"(not understood; write {{"prefill": 64}}, {{"decode": 8, "sequences": 4}} or )"
               R"({{"machine": true}})");
  }

  // -1, which nothing accepts, for what is no count.
  static int32_t Count(const json::object& command, std::string_view name, int32_t otherwise) {
    const json::value* const found = command.if_contains(name);
    if (found == nullptr) return otherwise;
    const int64_t* const n = found->if_int64();
    return n != nullptr && *n >= 0 && *n <= 1'000'000'000 ? static_cast<int32_t>(*n) : -1;
  }

  Result<json::object> ReadMachine(const json::object& command) {
    TANDEM_ASSIGN_OR_RETURN(probe::MachineState now,
                            options_.probe_state(ThreadCount(options_.engine)));
    if (const json::value* const others = command.if_contains("others_s");
        others != nullptr && others->is_number()) {
      others_s_ += others->to_number<double>();
    }
    now.cpu.process_s += others_s_;
    json::object answer{{"read_bytes_per_second", now.read_bytes_per_second},
                        {"core_to_core_ns", now.core_to_core_ns}};
    if (last_) {
      const probe::Disturbance seen = probe::Compare(*last_, now);
      answer["stolen_share"] = seen.stolen_share;
      answer["others_share"] = seen.others_share;
      answer["changes"] = json::value_from(seen.changes);
    }
    last_ = now;
    return answer;
  }

  engine::StepTimer* const timer_;
  const BenchOptions& options_;
  double others_s_ = 0;
  std::optional<probe::MachineState> last_;
};

}  // namespace

Result<DecodeLoad> ParseDecodeLoad(std::string_view text) {
  const size_t cross = std::min(text.find('x'), text.size());
  const auto parse = [](std::string_view digits, int32_t* value) {
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), *value);
    return error == std::errc{} && end == digits.data() + digits.size() && *value >= 0;
  };
  DecodeLoad load;
  const bool valid = parse(text.substr(0, cross), &load.n_sequences) && load.n_sequences >= 1 &&
                     (cross == text.size() || parse(text.substr(cross + 1), &load.depth));
  if (!valid) {
    return Err(ErrorCode::kInvalidArgument,
               "'{}' is no load; write SEQUENCES or SEQUENCESxDEPTH, such as 4x512", text);
  }
  return load;
}

Result<MachineReport> ProbeMachine(const BenchOptions& options) {
  MachineReport report;
  report.n_threads = ThreadCount(options.engine);
  report.int8_products_per_second = options.probe_int8() * report.n_threads;
  report.int8_instructions = probe::Int8PeakInstructions();
  TANDEM_ASSIGN_OR_RETURN(report.state, options.probe_state(report.n_threads));
  return report;
}

Result<BenchReport> Bench(const BenchOptions& options) {
  TANDEM_RETURN_IF_ERROR(Validate(options));
  engine::EngineOptions engine_options = StepOptions(options);
  if (engine_options.context_tokens == 0) engine_options.context_tokens = ContextFor(options);
  BenchReport report;
  TANDEM_ASSIGN_OR_RETURN(report.plan, engine::PlanMemory(options.model, engine_options));
  TANDEM_RETURN_IF_ERROR(CheckSequences(options, report.plan));
  TANDEM_ASSIGN_OR_RETURN(report.before, ProbeMachine(options));
  os::ResetPeakMemory();
  const auto begin = std::chrono::steady_clock::now();
  TANDEM_ASSIGN_OR_RETURN(const auto engine, engine::Engine::Load(options.model, engine_options));
  report.load_ms = MillisecondsSince(begin);
  report.model = engine->info();
  report.before.instruction_set = engine->instruction_set();
  Runner runner(options, report.before, &report);
  TANDEM_RETURN_IF_ERROR(engine->TimeSteps([&](engine::StepTimer& timer) -> Status {
    for (int32_t prompt : options.prompts) TANDEM_RETURN_IF_ERROR(runner.Prompt(timer, prompt));
    for (const DecodeLoad& load : options.decodes) {
      TANDEM_RETURN_IF_ERROR(runner.Decode(timer, load));
    }
    return {};
  }));
  report.after = runner.last();
  return report;
}

Status BenchCommands(const BenchOptions& options,
                     const std::function<std::optional<std::string>()>& next,
                     const std::function<Status(std::string_view)>& out) {
  const auto begin = std::chrono::steady_clock::now();
  TANDEM_ASSIGN_OR_RETURN(const auto engine,
                          engine::Engine::Load(options.model, StepOptions(options)));
  TANDEM_RETURN_IF_ERROR(
      out(json::serialize(json::object{{"load_ms", MillisecondsSince(begin)},
                                       {"context_tokens", engine->context_tokens()},
                                       {"instruction_set", engine->instruction_set()},
                                       {"bits_per_weight", engine->info().bits_per_weight()},
                                       {"bytes_per_token", engine->info().bytes_per_token},
                                       {"size_bytes", engine->info().file_bytes}})));
  return engine->TimeSteps([&](engine::StepTimer& timer) -> Status {
    CommandReader reader(&timer, options);
    while (const auto line = next()) TANDEM_RETURN_IF_ERROR(out(reader.Answer(*line)));
    return {};
  });
}

}  // namespace tandem::app
