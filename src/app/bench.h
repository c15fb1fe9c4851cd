// What a model's steps cost on this machine: `tandem bench`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/engine.h"
#include "probe/machine_state.h"
#include "probe/probe.h"

namespace tandem::app {

// Sequences that decode side by side, each behind so many tokens.
struct DecodeLoad {
  int32_t n_sequences = 1;
  int32_t depth = 0;
};
// "4x512": four sequences behind 512 tokens each; "4": behind none. Errors: kInvalidArgument.
Result<DecodeLoad> ParseDecodeLoad(std::string_view text);

struct BenchOptions {
  std::filesystem::path model;
  // A context of 0 becomes the one that the loads need.
  engine::EngineOptions engine;
  std::vector<int32_t> prompts = {64, 512};  // tokens of prompts
  std::vector<DecodeLoad> decodes = {{1, 0}, {4, 0}, {8, 0}, {1, 512}};
  int32_t decode_steps = 16;  // of one repetition
  int repetitions = 5;
  // Called before each load and its repetitions, with what comes.
  std::function<void(std::string_view)> progress;
  std::stop_token stop;
  // Tests replace what measures the machine.
  std::function<Result<probe::MachineState>(int n_threads)> probe_state = probe::ProbeMachine;
  std::function<double()> probe_int8 = probe::Int8Peak;  // of one core
};

// The machine, with what its cores could do at best.
struct MachineReport {
  int n_threads = 0;
  std::string instruction_set;  // of our kernels; empty without a model
  probe::MachineState state;
  double int8_products_per_second = 0;  // all threads together; 0: not known
  std::string int8_instructions;
};

struct BenchFigure {
  bool is_prompt = false;
  int32_t n_tokens = 0;     // of a prompt
  int32_t n_sequences = 1;  // that decode
  int32_t depth = 0;
  std::vector<double> milliseconds;  // of each prompt, or of each step of decoding
  double tokens_per_second = 0;      // by the median
  double best_tokens_per_second = 0;
  // Of the read bandwidth and of the int8 products that the probes measured around it. Weights
  // only: what attention reads and multiplies is not counted.
  double bandwidth_share = 0;
  double int8_share = 0;             // 0 where the peak is not known
  std::vector<std::string> changes;  // of the machine meanwhile, as probe::Compare() says
};

struct BenchReport {
  engine::ModelInfo model;
  engine::MemoryPlan plan;
  MachineReport before;
  probe::MachineState after;
  double load_ms = 0;
  // Resident at most, mapped weights included, probes not.
  uint64_t peak_bytes = 0;
  std::vector<BenchFigure> figures;
};

// Cost: below a second. Errors: those of probe::ProbeMachine.
Result<MachineReport> ProbeMachine(const BenchOptions& options);

// Loads the model and takes every figure, with the machine probed around each.
// Errors: those of Engine::Load and of the probes; kResourceExhausted where the sequences of a load
// do not fit into the memory limit; kCancelled.
Result<BenchReport> Bench(const BenchOptions& options);

// Loads the model and measures what each line asks for, one line of JSON for each, so that a driver
// can take turns with other programs. The first line out is about the model.
//   {"prefill": 64, "depth": 0}                   {"ms": [...]}
//   {"decode": 8, "sequences": 4, "depth": 0}     {"ms": [...]}, a number for each step
//   {"machine": true, "others_s": 1.5}            the machine, and in "changes" what happened to it
//                                                 since it was asked before; others_s: seconds of
//                                                 CPU time that programs of the driver took
//                                                 meanwhile
// What cannot be done is answered by {"error": "..."}.
//   next  the next line; empty at the end
// Errors: those of Engine::Load and of `out`.
Status BenchCommands(const BenchOptions& options,
                     const std::function<std::optional<std::string>()>& next,
                     const std::function<Status(std::string_view)>& out);

// As JSON text, and as lines for people.
std::string ToJson(const MachineReport& report);
std::string ToJson(const BenchReport& report);
std::string ToText(const MachineReport& report);
std::string ToText(const BenchReport& report);

}  // namespace tandem::app
