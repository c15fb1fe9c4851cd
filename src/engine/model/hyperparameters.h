// What a model file says about a model's shape, validated.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "engine/gguf/file.h"

namespace tandem::model {

enum class Architecture {
  kPhi3,   // Phi-3 and Phi-4-mini: no biases, gate and up fused, LongRoPE
  kQwen2,  // Qwen2 and MiMo: biases on q, k and v
};

// "phi3", "qwen2".
std::string_view ArchitectureName(Architecture architecture);

// Names are the papers'. Every value was checked: counts are positive, head counts divide, sizes
// are small enough that products of any three of them fit int64_t.
struct Hyperparameters {
  Architecture architecture = Architecture::kPhi3;
  std::string name;  // general.name, may be empty
  int n_layers = 0;
  // Layers of multi-token prediction behind them, 0 or 1. A file's second one is left out.
  int n_mtp_layers = 0;
  int n_heads = 0;
  int n_kv_heads = 0;  // divides n_heads
  int head_dim = 0;    // a multiple of 8
  int d_model = 0;
  int d_ff = 0;
  int vocab_size = 0;  // rows of the embedding; may exceed the tokenizer's vocabulary
  int rotary_dim = 0;  // even, at most head_dim
  double rope_theta = 10000.0;
  // LongRoPE: factors above this context come from the long set. 0: the model has one set.
  int original_context_length = 0;
  // Multiplies cos and sin of every rotated pair (arXiv:2402.13753, as Phi-4-mini uses it).
  double rope_attention_factor = 1.0;
  double rms_norm_eps = 1e-5;
  // The longest context that this engine computes as the model was trained: the file's
  // context_length, or its sliding window where that is shorter (windows are not implemented, and
  // below the window there is no difference).
  int context_length = 0;

  // Layers that keep keys and values; MTP layers come last.
  int n_cache_layers() const { return n_layers + n_mtp_layers; }
  int64_t q_dim() const { return static_cast<int64_t>(n_heads) * head_dim; }
  int64_t kv_dim() const { return static_cast<int64_t>(n_kv_heads) * head_dim; }
};

// Errors: kUnsupported for an architecture or a RoPE scaling that the engine does not have,
// kCorrupt for a value that is missing or makes no sense; the message names the key.
Result<Hyperparameters> ReadHyperparameters(const gguf::File& file);

}  // namespace tandem::model
