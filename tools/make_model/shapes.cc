#include "make_model/shapes.h"

#include <array>
#include <cmath>

#include <fmt/format.h>

namespace tandem::make_model {
namespace {

using quant::Type;

constexpr std::array kShapes = {
    Shape{.name = "phi-4-mini",
          .phi3 = true,
          .n_layers = 32,
          .d_model = 3072,
          .d_ff = 8192,
          .n_heads = 24,
          .n_kv_heads = 8,
          .head_dim = 128,
          .rotary_dim = 96,
          .vocab_size = 200064,
          .context_length = 131072,
          .rope_theta = 10000},
    Shape{.name = "mimo-7b",
          .phi3 = false,
          .n_layers = 36,
          .d_model = 4096,
          .d_ff = 11008,
          .n_heads = 32,
          .n_kv_heads = 8,
          .head_dim = 128,
          .rotary_dim = 128,
          .vocab_size = 151680,
          .context_length = 32768,
          .rope_theta = 640000},
    Shape{.name = "mid-phi3",
          .phi3 = true,
          .n_layers = 8,
          .d_model = 1024,
          .d_ff = 2816,
          .n_heads = 8,
          .n_kv_heads = 4,
          .head_dim = 128,
          .rotary_dim = 96,
          .vocab_size = 32064,
          .context_length = 131072,
          .rope_theta = 10000},
    Shape{.name = "tiny-phi3",
          .phi3 = true,
          .n_layers = 2,
          .d_model = 256,
          .d_ff = 512,
          .n_heads = 2,
          .n_kv_heads = 1,
          .head_dim = 128,
          .rotary_dim = 96,
          .vocab_size = 512,
          .context_length = 131072,
          .rope_theta = 10000},
    Shape{.name = "tiny-qwen2",
          .phi3 = false,
          .n_layers = 2,
          .d_model = 256,
          .d_ff = 512,
          .n_heads = 2,
          .n_kv_heads = 1,
          .head_dim = 128,
          .rotary_dim = 128,
          .vocab_size = 512,
          .context_length = 32768,
          .rope_theta = 640000},
};

constexpr std::array kMixes = {
    Mix{"f32", Type::kF32, Type::kF32, 0},       Mix{"f16", Type::kF16, Type::kF16, 1},
    Mix{"bf16", Type::kBF16, Type::kBF16, 32},   Mix{"q8_0", Type::kQ8_0, Type::kQ8_0, 7},
    Mix{"q4_0", Type::kQ4_0, Type::kQ6_K, 2},    Mix{"q4_1", Type::kQ4_1, Type::kQ6_K, 3},
    Mix{"q5_0", Type::kQ5_0, Type::kQ6_K, 8},    Mix{"iq4_nl", Type::kIQ4_NL, Type::kQ6_K, 25},
    Mix{"q4_k_s", Type::kQ4_K, Type::kQ6_K, 14}, Mix{"q4_k_m", Type::kQ4_K, Type::kQ6_K, 15, true},
    Mix{"q5_k_s", Type::kQ5_K, Type::kQ6_K, 16}, Mix{"q6_k", Type::kQ6_K, Type::kQ6_K, 18},
};

template <typename Table>
auto FindNamed(const Table& table, std::string_view what, std::string_view name)
    -> Result<typename Table::value_type> {
  std::string choices;
  for (const auto& row : table) {
    if (row.name == name) return row;
    choices += fmt::format(" {}", row.name);
  }
  return Err(ErrorCode::kInvalidArgument, "no {} '{}'; known:{}", what, name, choices);
}

// llama.cpp's choice of layers that suffer most from few bits: the first and last eighth, and every
// third between.
bool UseMoreBits(int layer, int n_layers) {
  return layer < n_layers / 8 || layer >= 7 * n_layers / 8 || (layer - n_layers / 8) % 3 == 2;
}

class Planner {
 public:
  Planner(const Shape& shape, const Mix& mix, int vocab_size)
      : shape_(shape), mix_(mix), vocab_size_(vocab_size) {}

  std::vector<TensorPlan> Plan() {
    if (!shape_.phi3) Matrix("output.weight", mix_.head, shape_.d_model, vocab_size_);
    Vector("output_norm.weight", shape_.d_model, Fill::kNorm);
    if (shape_.phi3) {
      Vector("rope_factors_long.weight", shape_.rotary_dim / 2, Fill::kRopeLong);
      Vector("rope_factors_short.weight", shape_.rotary_dim / 2, Fill::kRopeShort);
    }
    Matrix("token_embd.weight", shape_.phi3 ? mix_.head : mix_.body, shape_.d_model, vocab_size_);
    for (int layer = 0; layer < shape_.n_layers; ++layer) {
      if (shape_.phi3) {
        Phi3Layer(layer);
      } else {
        Qwen2Layer(layer);
      }
    }
    return std::move(out_);
  }

 private:
  void Phi3Layer(int layer) {
    const std::string block = fmt::format("blk.{}.", layer);
    const int q_dim = shape_.n_heads * shape_.head_dim;
    const int kv_dim = shape_.n_kv_heads * shape_.head_dim;
    Vector(block + "attn_norm.weight", shape_.d_model, Fill::kNorm);
    Matrix(block + "attn_output.weight", mix_.body, q_dim, shape_.d_model, residual_factor());
    Matrix(block + "attn_qkv.weight", mix_.more_bits ? Type::kQ5_K : mix_.body, shape_.d_model,
           q_dim + 2 * kv_dim);
    Matrix(block + "ffn_down.weight", FfnDownType(layer), shape_.d_ff, shape_.d_model,
           residual_factor());
    Vector(block + "ffn_norm.weight", shape_.d_model, Fill::kNorm);
    Matrix(block + "ffn_up.weight", mix_.body, shape_.d_model, 2 * shape_.d_ff);
  }

  void Qwen2Layer(int layer) {
    const std::string block = fmt::format("blk.{}.", layer);
    const int q_dim = shape_.n_heads * shape_.head_dim;
    const int kv_dim = shape_.n_kv_heads * shape_.head_dim;
    Vector(block + "attn_k.bias", kv_dim, Fill::kWeight);
    Matrix(block + "attn_k.weight", mix_.body, shape_.d_model, kv_dim);
    Vector(block + "attn_norm.weight", shape_.d_model, Fill::kNorm);
    Matrix(block + "attn_output.weight", mix_.body, q_dim, shape_.d_model, residual_factor());
    Vector(block + "attn_q.bias", q_dim, Fill::kWeight);
    Matrix(block + "attn_q.weight", mix_.body, shape_.d_model, q_dim);
    Vector(block + "attn_v.bias", kv_dim, Fill::kWeight);
    Matrix(block + "attn_v.weight", FfnDownType(layer), shape_.d_model, kv_dim);
    Matrix(block + "ffn_down.weight", FfnDownType(layer), shape_.d_ff, shape_.d_model,
           residual_factor());
    Matrix(block + "ffn_gate.weight", mix_.body, shape_.d_model, shape_.d_ff);
    Vector(block + "ffn_norm.weight", shape_.d_model, Fill::kNorm);
    Matrix(block + "ffn_up.weight", mix_.body, shape_.d_model, shape_.d_ff);
  }

  // Also that of attn_v.
  Type FfnDownType(int layer) const {
    return mix_.more_bits && UseMoreBits(layer, shape_.n_layers) ? Type::kQ6_K : mix_.body;
  }

  float residual_factor() const { return 1 / std::sqrt(2 * static_cast<float>(shape_.n_layers)); }

  void Matrix(std::string name, Type type, int n_inputs, int n_outputs, float factor = 1) {
    out_.push_back({.name = std::move(name),
                    .type = type,
                    .dims = {n_inputs, n_outputs},
                    .fill = Fill::kWeight,
                    .deviation = factor / std::sqrt(static_cast<float>(n_inputs))});
  }

  void Vector(std::string name, int n, Fill fill) {
    out_.push_back({.name = std::move(name),
                    .type = Type::kF32,
                    .dims = {n},
                    .fill = fill,
                    .deviation = 0.1F});
  }

  const Shape& shape_;
  const Mix& mix_;
  const int vocab_size_;
  std::vector<TensorPlan> out_;
};

}  // namespace

Result<Shape> FindShape(std::string_view name) { return FindNamed(kShapes, "shape", name); }

Result<Mix> FindMix(std::string_view name) { return FindNamed(kMixes, "type", name); }

std::vector<TensorPlan> PlanTensors(const Shape& shape, const Mix& mix, int vocab_size) {
  return Planner(shape, mix, vocab_size).Plan();
}

// Source: rope_scaling in Phi-4-mini-instruct's config.json.
std::vector<float> RopeFactors(bool long_context) {
  if (!long_context) return std::vector<float>(48, 1.0F);
  return {1.0F,         1.118320672F, 1.250641126F, 1.398617824F, 1.564103225F, 1.74916897F,
          1.956131817F, 2.187582649F, 2.446418898F, 2.735880826F, 3.059592084F, 3.421605075F,
          3.826451687F, 4.279200023F, 4.785517845F, 5.351743533F, 5.984965424F, 6.693110555F,
          7.485043894F, 8.370679318F, 9.36110372F,  10.4687158F,  11.70738129F, 13.09260651F,
          14.64173252F, 16.37415215F, 18.31155283F, 20.47818807F, 22.90118105F, 25.61086418F,
          28.64115884F, 32.03F,       32.1F,        32.13F,       32.23F,       32.6F,
          32.61F,       32.64F,       32.66F,       32.7F,        32.71F,       32.93F,
          32.97F,       33.28F,       33.49F,       33.5F,        44.16F,       47.77F};
}

}  // namespace tandem::make_model
