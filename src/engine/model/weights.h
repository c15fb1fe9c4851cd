// A model's weights, bound to their places in the forward step.
#pragma once

#include <vector>

#include "engine/ops/matmul.h"

namespace tandem::model {

// Matrices are views of the file; vectors are copies in f32.
struct LayerWeights {
  std::vector<float> attention_norm;  // [d_model]
  // Rows of q, then k, then v: one fused matrix or three.
  std::vector<ops::Matrix> qkv;  // [q_dim + 2 kv_dim, d_model]
  std::vector<float> qkv_bias;   // [q_dim + 2 kv_dim], or empty
  ops::Matrix attention_output;  // [d_model, q_dim]
  std::vector<float> ffn_norm;   // [d_model]
  // Rows of gate, then up: one fused matrix or two.
  std::vector<ops::Matrix> gate_up;  // [2 d_ff, d_model]
  ops::Matrix down;                  // [d_model, d_ff]
};

struct Weights {
  ops::Matrix embedding;  // [vocab_size, d_model]
  std::vector<LayerWeights> layers;
  std::vector<float> output_norm;  // [d_model]
  ops::Matrix head;                // [vocab_size, d_model]; the embedding where it is tied
  // Rotary frequencies [rotary_dim / 2] of caches up to the original context, and beyond it (equal
  // where the model has one set).
  std::vector<double> short_frequencies;
  std::vector<double> long_frequencies;
};

}  // namespace tandem::model
