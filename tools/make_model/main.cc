// tandem-make-model: a GGUF file of a real model's shape with random weights.
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <string>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "make_model/make_model.h"

namespace tandem::make_model {
namespace {

struct Arguments {
  std::string shape;
  std::string type = "q4_0";
  std::string tokenizer;
  uint64_t seed = 1;
  std::string out;
};

Status Run(const Arguments& arguments) {
  Options options;
  TANDEM_ASSIGN_OR_RETURN(options.shape, FindShape(arguments.shape));
  TANDEM_ASSIGN_OR_RETURN(options.mix, FindMix(arguments.type));
  if (!arguments.tokenizer.empty()) options.tokenizer_json = arguments.tokenizer;
  options.seed = arguments.seed;

  const bool terminal = ::isatty(STDERR_FILENO) == 1;
  const auto start = std::chrono::steady_clock::now();
  const auto seconds = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  uint64_t written = 0;
  double shown_at = -1;
  options.progress = [&](uint64_t done, uint64_t total) {
    written = done;
    if (!terminal || seconds() - shown_at < 0.2) return;
    shown_at = seconds();
    fmt::print(stderr, "\r{:3} %  {:.2f} of {:.2f} GB ", done * 100 / total,
               static_cast<double>(done) / 1e9, static_cast<double>(total) / 1e9);
  };
  const Status status = MakeModel(options, arguments.out);
  if (terminal) fmt::print(stderr, "\r\x1b[K");
  TANDEM_RETURN_IF_ERROR(status);
  fmt::print(stderr, "{}: {:.2f} GB of random weights in {:.1f} s\n", arguments.out,
             static_cast<double>(written) / 1e9, seconds());
  return {};
}

}  // namespace
}  // namespace tandem::make_model

int main(int argc, char** argv) {
  CLI::App app(
      "Writes a GGUF file with the shapes, names and keys of a real model and random weights, for "
      "measuring memory and speed. Weights are drawn as blocks of the chosen type, not quantised.");
  tandem::make_model::Arguments arguments;
  app.add_option("--shape", arguments.shape,
                 "phi-4-mini, mimo-7b, mid-phi3, tiny-phi3 or tiny-qwen2")
      ->required();
  app.add_option("--type", arguments.type,
                 "f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 iq4_nl q4_k_s q4_k_m q5_k_s q6_k; types below 8 "
                 "bits have a Q6_K head, q4_k_m also some Q5_K and Q6_K layers")
      ->capture_default_str();
  app.add_option("--tokenizer", arguments.tokenizer,
                 "tokenizer.json to embed (default: a vocabulary of the 256 bytes)");
  app.add_option("--seed", arguments.seed, "of the weights")->capture_default_str();
  app.add_option("--out", arguments.out, "the file to write")->required();
  CLI11_PARSE(app, argc, argv);

  if (const tandem::Status status = tandem::make_model::Run(arguments); !status) {
    fmt::print(stderr, "tandem-make-model: {}\n", status.error().message);
    return 1;
  }
  return 0;
}
