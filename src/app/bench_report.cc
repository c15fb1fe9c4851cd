// How `tandem bench` tells its figures, to programs and to people.
#include <boost/json.hpp>

#include "app/bench.h"
#include "app/byte_size.h"

namespace tandem::app {
namespace {

namespace json = boost::json;

json::object ToObject(const probe::MachineState& state) {
  return {{"read_bytes_per_second", state.read_bytes_per_second},
          {"core_to_core_ns", state.core_to_core_ns},
          {"stolen_s", state.cpu.stolen_s}};
}

json::object ToObject(const MachineReport& report) {
  json::object machine = ToObject(report.state);
  machine["threads"] = report.n_threads;
  machine["int8_products_per_second"] = report.int8_products_per_second;
  machine["int8_instructions"] = report.int8_instructions;
  if (!report.instruction_set.empty()) machine["instruction_set"] = report.instruction_set;
  return machine;
}

json::object ToObject(const BenchFigure& figure) {
  json::object object;
  if (figure.is_prompt) {
    object = {{"what", "prefill"}, {"tokens", figure.n_tokens}};
  } else {
    object = {{"what", "decode"}, {"sequences", figure.n_sequences}, {"depth", figure.depth}};
  }
  object["tokens_per_second"] = figure.tokens_per_second;
  object["best_tokens_per_second"] = figure.best_tokens_per_second;
  object["bandwidth_share"] = figure.bandwidth_share;
  if (figure.int8_share > 0) object["int8_share"] = figure.int8_share;
  object["ms"] = json::value_from(figure.milliseconds);
  object["changes"] = json::value_from(figure.changes);
  return object;
}

std::string StateText(const probe::MachineState& state) {
  std::string text = fmt::format("reads {:.1f} GB/s", state.read_bytes_per_second / 1e9);
  if (state.core_to_core_ns > 0) {
    text += fmt::format(", {:.0f} ns from core to core", state.core_to_core_ns);
  }
  return text;
}

std::string MachineText(const MachineReport& report) {
  std::string text = fmt::format("{} thread{}", report.n_threads, report.n_threads == 1 ? "" : "s");
  if (!report.instruction_set.empty()) text += fmt::format(" of {}", report.instruction_set);
  if (report.int8_products_per_second > 0) {
    text += fmt::format(", at most {:.0f} G int8 products/s ({})",
                        report.int8_products_per_second / 1e9, report.int8_instructions);
  }
  return text;
}

std::string Line(std::string_view label, std::string_view value) {
  return fmt::format("{:<8} {}\n", label, value);
}

std::string FigureText(const BenchFigure& figure) {
  const std::string what =
      figure.is_prompt ? fmt::format("prefill {}", figure.n_tokens)
                       : fmt::format("decode {} x {} deep", figure.n_sequences, figure.depth);
  std::string text =
      fmt::format("{:<22} {:>9.1f} {:>9.1f} {:>10.1f} %", what, figure.tokens_per_second,
                  figure.best_tokens_per_second, 100 * figure.bandwidth_share);
  text += figure.int8_share > 0 ? fmt::format(" {:>10.1f} %", 100 * figure.int8_share)
                                : fmt::format(" {:>12}", "-");
  for (const std::string& change : figure.changes) text += fmt::format("\n    ! {}", change);
  return text + "\n";
}

}  // namespace

std::string ToJson(const MachineReport& report) { return json::serialize(ToObject(report)); }

std::string ToJson(const BenchReport& report) {
  json::array figures;
  for (const BenchFigure& figure : report.figures) figures.push_back(ToObject(figure));
  const engine::MemoryPlan& plan = report.plan;
  return json::serialize(json::object{{"model", report.model.name},
                                      {"architecture", report.model.architecture},
                                      {"types", report.model.quantization},
                                      {"size_bytes", report.model.file_bytes},
                                      {"bits_per_weight", report.model.bits_per_weight()},
                                      {"bytes_per_token", report.model.bytes_per_token},
                                      {"products_per_token", report.model.products_per_token},
                                      {"load_ms", report.load_ms},
                                      {"memory",
                                       {{"context_tokens", plan.context_tokens},
                                        {"weights_bytes", plan.weights_bytes},
                                        {"kv_cache_bytes", plan.kv_cache_bytes},
                                        {"scratch_bytes", plan.scratch_bytes},
                                        {"reserve_bytes", plan.reserve_bytes},
                                        {"total_bytes", plan.total_bytes()},
                                        {"limit_bytes", plan.limit_bytes},
                                        {"peak_bytes", report.peak_bytes}}},
                                      {"machine", ToObject(report.before)},
                                      {"machine_after", ToObject(report.after)},
                                      {"figures", std::move(figures)}});
}

std::string ToText(const MachineReport& report) {
  return Line("machine", MachineText(report)) + Line("", StateText(report.state));
}

std::string ToText(const BenchReport& report) {
  const engine::ModelInfo& model = report.model;
  const engine::MemoryPlan& plan = report.plan;
  std::string text =
      Line("model",
           fmt::format("{} ({}, {})", model.name, model.architecture, model.quantization)) +
      Line("size", fmt::format("{}, {:.3f} bits a weight that a token reads, {} of them",
                               FormatByteSize(model.file_bytes), model.bits_per_weight(),
                               FormatByteSize(model.bytes_per_token))) +
      Line("machine", MachineText(report.before)) + Line("before", StateText(report.before.state)) +
      Line("after", StateText(report.after)) +
      Line(
          "memory",
          fmt::format("{} at most; planned {} with one sequence of {} tokens: weights {}, KV cache "
                      "{}, scratch {}, reserve {}",
                      FormatByteSize(report.peak_bytes), FormatByteSize(plan.total_bytes()),
                      plan.context_tokens, FormatByteSize(plan.weights_bytes),
                      FormatByteSize(plan.kv_cache_bytes), FormatByteSize(plan.scratch_bytes),
                      FormatByteSize(plan.reserve_bytes))) +
      Line("loading", fmt::format("{:.1f} ms", report.load_ms));
  text += fmt::format("\n{:<22} {:>9} {:>9} {:>12} {:>12}\n", "", "tokens/s", "best",
                      "of bandwidth", "of int8 peak");
  for (const BenchFigure& figure : report.figures) text += FigureText(figure);
  return text;
}

}  // namespace tandem::app
