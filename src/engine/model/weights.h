// A model's weights, bound to their places in the forward step.
#pragma once

#include <optional>
#include <vector>

#include "engine/kernels/fine_plane.h"
#include "engine/ops/matmul.h"
#include "engine/ops/packed_matmul.h"
#include "engine/ops/two_planes.h"

namespace tandem::model {

// The weights of one linear layer: the rows of one matrix, or of several that read the same input.
// One of the two is filled: `blocks` are views of a model file, multiplied in float; `strips` are
// views of a package, multiplied in integers.
struct Linear {
  std::vector<ops::Matrix> blocks;
  std::vector<ops::PackedMatrix> strips;  // all with the same group
  ops::FinePlane fine;                    // beside strips[0] alone, of a head in two planes

  bool packed() const { return !strips.empty(); }
  // What a step streams: without the fine plane.
  uint64_t bytes() const {
    uint64_t sum = 0;
    for (const ops::Matrix& part : blocks) sum += part.bytes();
    for (const ops::PackedMatrix& part : strips) sum += part.bytes();
    return sum;
  }
  // Multiplications for one token.
  uint64_t products() const {
    int64_t sum = 0;
    for (const ops::Matrix& part : blocks) sum += part.n_rows * part.n_cols;
    for (const ops::PackedMatrix& part : strips) sum += part.n_rows * part.n_cols;
    return static_cast<uint64_t>(sum);
  }
  uint64_t fine_bytes() const {
    if (fine.empty()) return 0;
    const auto row_bytes =
        static_cast<uint64_t>(kernels::FineRowBytes(fine.bits, strips[0].n_cols));
    return static_cast<uint64_t>(strips[0].n_rows) * (row_bytes + sizeof(float));
  }
};

// Matrices are views of the file; vectors are copies in f32.
struct LayerWeights {
  std::vector<float> attention_norm;  // [d_model]
  Linear qkv;                         // [q_dim + 2 kv_dim, d_model] rows of q, then k, then v
  std::vector<float> qkv_bias;        // [q_dim + 2 kv_dim], or empty
  Linear attention_output;            // [d_model, q_dim]
  std::vector<float> ffn_norm;        // [d_model]
  // Blocks: [2 d_ff, d_model], rows of gate, then up. Strips: as ops::GatedMatMul wants them.
  Linear gate_up;
  Linear down;  // [d_model, d_ff]
};

// A layer of multi-token prediction: a way in, from a token and the hidden state of the position
// before it, a layer like the others, and a norm before the head, which is the model's.
struct MtpWeights {
  std::vector<float> token_norm;   // [d_model]
  std::vector<float> hidden_norm;  // [d_model]
  Linear input;  // [d_model, 2 d_model] columns of the token, then of the hidden state
  LayerWeights layer;
  std::vector<float> final_norm;  // [d_model]
};

struct Weights {
  Linear embedding;                  // [vocab_size, d_model], one part
  std::vector<LayerWeights> layers;  // [n_layers]
  std::optional<MtpWeights> mtp;     // of a model that has one; keys and values behind the layers'
  std::vector<float> output_norm;    // [d_model]
  Linear head;                       // [vocab_size, d_model]; the embedding where it is tied
  // Rotary frequencies [rotary_dim / 2] of caches up to the original context, and beyond it (equal
  // where the model has one set).
  std::vector<double> short_frequencies;
  std::vector<double> long_frequencies;
};

}  // namespace tandem::model
