#include "engine/model/binder.h"

#include <charconv>
#include <utility>

#include "engine/ops/rotary.h"
#include "engine/quant/codec.h"

namespace tandem::model {
namespace {

std::string Shape(const gguf::Tensor& tensor) {
  std::string text = "{";
  for (int i = 0; i < tensor.n_dims; ++i) {
    text += fmt::format("{}{}", i == 0 ? "" : ", ", tensor.dims[i]);
  }
  return text + "}";
}

Status BindQkv(Binder* binder, const Hyperparameters& h, int layer, LayerWeights* weights) {
  const int64_t fused_rows = h.q_dim() + 2 * h.kv_dim();
  const bool bias_needed = h.architecture == Architecture::kQwen2;
  if (binder->Has(BlockName(layer, "attn_qkv"))) {
    TANDEM_ASSIGN_OR_RETURN(const ops::Matrix fused,
                            binder->Matrix(BlockName(layer, "attn_qkv"), fused_rows, h.d_model));
    weights->qkv.blocks = {fused};
    if (bias_needed || binder->Has(BlockName(layer, "attn_qkv", "bias"))) {
      TANDEM_ASSIGN_OR_RETURN(weights->qkv_bias,
                              binder->Vector(BlockName(layer, "attn_qkv", "bias"), fused_rows));
    }
    return {};
  }
  const std::pair<const char*, int64_t> parts[] = {
      {"attn_q", h.q_dim()}, {"attn_k", h.kv_dim()}, {"attn_v", h.kv_dim()}};
  const bool has_bias = bias_needed || binder->Has(BlockName(layer, "attn_q", "bias"));
  for (const auto& [part, n_rows] : parts) {
    TANDEM_ASSIGN_OR_RETURN(const ops::Matrix matrix,
                            binder->Matrix(BlockName(layer, part), n_rows, h.d_model));
    weights->qkv.blocks.push_back(matrix);
    if (!has_bias) continue;
    TANDEM_ASSIGN_OR_RETURN(const std::vector<float> bias,
                            binder->Vector(BlockName(layer, part, "bias"), n_rows));
    weights->qkv_bias.insert(weights->qkv_bias.end(), bias.begin(), bias.end());
  }
  return {};
}

Status BindGateUp(Binder* binder, const Hyperparameters& h, int layer, LayerWeights* weights) {
  if (h.architecture == Architecture::kQwen2 || binder->Has(BlockName(layer, "ffn_gate"))) {
    for (const char* part : {"ffn_gate", "ffn_up"}) {
      TANDEM_ASSIGN_OR_RETURN(const ops::Matrix matrix,
                              binder->Matrix(BlockName(layer, part), h.d_ff, h.d_model));
      weights->gate_up.blocks.push_back(matrix);
    }
    return {};
  }
  TANDEM_ASSIGN_OR_RETURN(const ops::Matrix fused, binder->Matrix(BlockName(layer, "ffn_up"),
                                                                  2 * int64_t{h.d_ff}, h.d_model));
  weights->gate_up.blocks = {fused};
  return {};
}

Result<LayerWeights> BindLayer(Binder* binder, const Hyperparameters& h, int layer) {
  LayerWeights weights;
  TANDEM_ASSIGN_OR_RETURN(weights.attention_norm,
                          binder->Vector(BlockName(layer, "attn_norm"), h.d_model));
  TANDEM_RETURN_IF_ERROR(BindQkv(binder, h, layer, &weights));
  TANDEM_ASSIGN_OR_RETURN(const ops::Matrix output,
                          binder->Matrix(BlockName(layer, "attn_output"), h.d_model, h.q_dim()));
  weights.attention_output.blocks = {output};
  TANDEM_ASSIGN_OR_RETURN(weights.ffn_norm,
                          binder->Vector(BlockName(layer, "ffn_norm"), h.d_model));
  TANDEM_RETURN_IF_ERROR(BindGateUp(binder, h, layer, &weights));
  TANDEM_ASSIGN_OR_RETURN(const ops::Matrix down,
                          binder->Matrix(BlockName(layer, "ffn_down"), h.d_model, h.d_ff));
  weights.down.blocks = {down};
  return weights;
}

}  // namespace

std::string BlockName(int layer, std::string_view part, std::string_view kind) {
  return fmt::format("blk.{}.{}.{}", layer, part, kind);
}

Result<ops::Matrix> Binder::Matrix(const std::string& name, int64_t n_rows, int64_t n_cols) {
  TANDEM_ASSIGN_OR_RETURN(const gguf::Tensor* tensor, Take(name));
  if (tensor->n_dims != 2 || tensor->dims[0] != n_cols || tensor->dims[1] != n_rows) {
    return Err(ErrorCode::kCorrupt, "{}: tensor {} has shape {}; expected {{{}, {}}}", file_.name(),
               name, Shape(*tensor), n_cols, n_rows);
  }
  return ops::Matrix{.type = tensor->type,
                     .data = tensor->data,
                     .n_rows = n_rows,
                     .n_cols = n_cols,
                     .row_bytes = static_cast<size_t>(quant::RowBytes(tensor->type, n_cols))};
}

Result<std::vector<float>> Binder::Vector(const std::string& name, int64_t n) {
  TANDEM_ASSIGN_OR_RETURN(const gguf::Tensor* tensor, Take(name));
  if (tensor->n_dims != 1 || tensor->dims[0] != n) {
    return Err(ErrorCode::kCorrupt, "{}: tensor {} has shape {}; expected {{{}}}", file_.name(),
               name, Shape(*tensor), n);
  }
  const quant::TypeInfo& type = quant::GetType(tensor->type);
  if (type.block_elements != 1) {
    return Err(ErrorCode::kUnsupported, "{}: tensor {} is {}; expected F32, F16 or BF16",
               file_.name(), name, type.name);
  }
  std::vector<float> values(n);
  quant::DequantizeRow(tensor->type, tensor->data, values.data(), n);
  return values;
}

Status Binder::CheckAllTaken(int n_layers) const {
  for (const gguf::Tensor& tensor : file_.tensors()) {
    if (taken_.contains(tensor.name) || IsPrediction(tensor.name, n_layers)) continue;
    return Err(ErrorCode::kUnsupported,
               "{}: tensor {} has no place in this architecture; the file holds a variant that "
               "Tandem does not run",
               file_.name(), tensor.name);
  }
  return {};
}

Result<const gguf::Tensor*> Binder::Take(const std::string& name) {
  const gguf::Tensor* tensor = file_.Find(name);
  if (tensor == nullptr) {
    return Err(ErrorCode::kCorrupt, "{}: tensor {} is missing", file_.name(), name);
  }
  if (taken_.insert(name).second) taken_bytes_ += tensor->n_bytes;
  return tensor;
}

// A block beyond the main model's that says what it is.
bool Binder::IsPrediction(std::string_view name, int n_layers) const {
  if (name.starts_with("mtp")) return true;
  if (!name.starts_with("blk.")) return false;
  const std::string_view number = name.substr(4, name.substr(4).find('.'));
  int block = -1;
  std::from_chars(number.data(), number.data() + number.size(), block);
  // A package has this layer's matrices elsewhere, but its norms here.
  return block >= n_layers &&
         (Has(BlockName(block, "nextn.eh_proj")) || Has(BlockName(block, "nextn.hnorm")));
}

Status BindRotary(Binder* binder, const gguf::File& file, const Hyperparameters& h,
                  Weights* weights) {
  if (h.original_context_length == 0) {
    weights->short_frequencies = ops::InverseFrequencies(h.rotary_dim, h.rope_theta, {});
    weights->long_frequencies = weights->short_frequencies;
    return {};
  }
  for (const bool is_long : {false, true}) {
    const std::string name = is_long ? "rope_factors_long.weight" : "rope_factors_short.weight";
    TANDEM_ASSIGN_OR_RETURN(const std::vector<float> factors,
                            binder->Vector(name, h.rotary_dim / 2));
    for (const float factor : factors) {
      if (factor > 0 && factor < 1e9F) continue;  // false for a NaN
      return Err(ErrorCode::kCorrupt, "{}: tensor {} holds {}; every factor must be above 0",
                 file.name(), name, factor);
    }
    (is_long ? weights->long_frequencies : weights->short_frequencies) =
        ops::InverseFrequencies(h.rotary_dim, h.rope_theta, factors);
  }
  return {};
}

Result<MtpWeights> BindMtpNorms(Binder* binder, const Hyperparameters& h) {
  MtpWeights weights;
  const auto norm = [&](const char* part) {
    return binder->Vector(BlockName(h.n_layers, part), h.d_model);
  };
  TANDEM_ASSIGN_OR_RETURN(weights.token_norm, norm("nextn.enorm"));
  TANDEM_ASSIGN_OR_RETURN(weights.hidden_norm, norm("nextn.hnorm"));
  TANDEM_ASSIGN_OR_RETURN(weights.final_norm, norm("nextn.shared_head_norm"));
  return weights;
}

Result<BoundWeights> BindFile(const gguf::File& file, const Hyperparameters& h) {
  Binder binder(file);
  auto weights = std::make_unique<Weights>();
  TANDEM_ASSIGN_OR_RETURN(const ops::Matrix embedding,
                          binder.Matrix("token_embd.weight", h.vocab_size, h.d_model));
  weights->embedding.blocks = {embedding};
  for (int layer = 0; layer < h.n_layers; ++layer) {
    TANDEM_ASSIGN_OR_RETURN(LayerWeights bound, BindLayer(&binder, h, layer));
    weights->layers.push_back(std::move(bound));
  }
  if (h.n_mtp_layers > 0) {
    TANDEM_ASSIGN_OR_RETURN(weights->mtp, BindMtpNorms(&binder, h));
    TANDEM_ASSIGN_OR_RETURN(
        const ops::Matrix input,
        binder.Matrix(BlockName(h.n_layers, "nextn.eh_proj"), h.d_model, 2 * int64_t{h.d_model}));
    weights->mtp->input.blocks = {input};
    TANDEM_ASSIGN_OR_RETURN(weights->mtp->layer, BindLayer(&binder, h, h.n_layers));
  }
  TANDEM_ASSIGN_OR_RETURN(weights->output_norm, binder.Vector("output_norm.weight", h.d_model));
  // A tied head may have been quantised again as a tensor of its own.
  const bool tied = !binder.Has("output.weight");
  weights->head = weights->embedding;
  if (!tied) {
    TANDEM_ASSIGN_OR_RETURN(const ops::Matrix head,
                            binder.Matrix("output.weight", h.vocab_size, h.d_model));
    weights->head.blocks = {head};
  }
  TANDEM_RETURN_IF_ERROR(BindRotary(&binder, file, h, weights.get()));
  TANDEM_RETURN_IF_ERROR(binder.CheckAllTaken(h.n_cache_layers()));
  return BoundWeights{
      .weights = std::move(weights), .n_bytes = binder.taken_bytes(), .tied_head = tied};
}

}  // namespace tandem::model
