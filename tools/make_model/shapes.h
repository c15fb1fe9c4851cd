// The shapes of the models that Tandem serves, and which tensors, of which types, their GGUF files
// hold.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/quant/types.h"

namespace tandem::make_model {

// Names are the papers'.
struct Shape {
  std::string_view name;
  bool phi3 = false;  // else qwen2
  int n_layers = 0;
  int d_model = 0;
  int d_ff = 0;
  int n_heads = 0;
  int n_kv_heads = 0;
  int head_dim = 0;
  int rotary_dim = 0;
  int vocab_size = 0;
  int context_length = 0;
  float rope_theta = 0;

  std::string_view architecture() const { return phi3 ? "phi3" : "qwen2"; }
};

// "phi-4-mini", "mimo-7b" as published; "mid-phi3" with 127 M parameters; "tiny-phi3", "tiny-qwen2"
// with the same parts in a few hundred kilobytes. Errors: kInvalidArgument, naming the choices.
Result<Shape> FindShape(std::string_view name);

// A way to quantise a whole model, named as llama.cpp does.
struct Mix {
  std::string_view name;
  quant::Type body;
  quant::Type head;        // output.weight, or token_embd.weight where it is tied to it
  uint32_t file_type = 0;  // general.file_type
  bool more_bits = false;  // Q4_K_M: some layers' attention values and ffn_down get Q5_K, Q6_K
};

// f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 iq4_nl q4_k_s q4_k_m q5_k_s q6_k. Errors: kInvalidArgument.
Result<Mix> FindMix(std::string_view name);

enum class Fill {
  kWeight,     // normal, mean 0, of `deviation`
  kNorm,       // normal around 1, of `deviation`
  kRopeShort,  // LongRoPE's factors as published
  kRopeLong,
};

struct TensorPlan {
  std::string name;
  quant::Type type = quant::Type::kF32;
  std::vector<int64_t> dims;  // dims[0] varies fastest
  Fill fill = Fill::kWeight;
  float deviation = 0;
};

// Every tensor of the model's file, with `vocab_size` rows in the embedding.
// Deviations keep activations near 1: 1 / sqrt(inputs) for a matrix, less by sqrt(2 n_layers) for
// the two that write to the residual stream.
std::vector<TensorPlan> PlanTensors(const Shape& shape, const Mix& mix, int vocab_size);

// Phi-4-mini's LongRoPE factors for short or long contexts, 48 of them.
std::vector<float> RopeFactors(bool long_context);

}  // namespace tandem::make_model
