// The weights of a package: matrices from its tensors, vectors from the GGUF part inside it.
#include <set>
#include <utility>

#include "engine/model/binder.h"

namespace tandem::model {
namespace {

// Takes matrices out of a package by name.
class PackageBinder {
 public:
  explicit PackageBinder(const package::File& file) : file_(file) {}

  bool Has(const std::string& name) const { return file_.Find(name) != nullptr; }

  Result<ops::PackedMatrix> Strips(const std::string& name, int64_t n_rows, int64_t n_cols) {
    TANDEM_ASSIGN_OR_RETURN(const package::Tensor* tensor, Take(name, n_rows, n_cols));
    if (tensor->layout != package::Layout::kStrips) {
      return Err(ErrorCode::kCorrupt, "tensor {} stands in rows; expected strips", name);
    }
    return ops::PackedMatrix{
        .scheme = tensor->scheme, .data = tensor->data, .n_rows = n_rows, .n_cols = n_cols};
  }

  // Of either layout.
  Result<Linear> Table(const std::string& name, int64_t n_rows, int64_t n_cols) {
    TANDEM_ASSIGN_OR_RETURN(const package::Tensor* tensor, Take(name, n_rows, n_cols));
    Linear linear;
    if (tensor->layout == package::Layout::kStrips) {
      linear.strips = {
          {.scheme = tensor->scheme, .data = tensor->data, .n_rows = n_rows, .n_cols = n_cols}};
    } else {
      linear.blocks = {{.type = tensor->type,
                        .data = tensor->data,
                        .n_rows = n_rows,
                        .n_cols = n_cols,
                        .row_bytes = static_cast<size_t>(quant::RowBytes(tensor->type, n_cols))}};
    }
    return linear;
  }

  Result<Linear> One(const std::string& name, int64_t n_rows, int64_t n_cols) {
    TANDEM_ASSIGN_OR_RETURN(const ops::PackedMatrix matrix, Strips(name, n_rows, n_cols));
    return Linear{.blocks = {}, .strips = {matrix}, .fine = {}};
  }

  // What stands beside strips; none where the package has none.
  Result<ops::FinePlane> Fine(const std::string& name, const ops::PackedMatrix& strips) {
    if (!Has(name + ".fine")) return ops::FinePlane{};
    TANDEM_ASSIGN_OR_RETURN(const package::Tensor* rows,
                            Take(name + ".fine", strips.n_rows, strips.n_cols));
    TANDEM_ASSIGN_OR_RETURN(const package::Tensor* norms,
                            Take(name + ".fine_norm", 1, strips.n_rows));
    if (rows->layout != package::Layout::kFine || kernels::GetScheme(strips.scheme).bits != 4) {
      return Err(ErrorCode::kCorrupt, "tensor {}.fine is {} beside {}; expected fine beside int4",
                 name, rows->type_name(), kernels::GetScheme(strips.scheme).name);
    }
    if (norms->layout != package::Layout::kRows || norms->type != quant::Type::kF32) {
      return Err(ErrorCode::kCorrupt, "tensor {}.fine_norm is {}; expected F32 in rows", name,
                 norms->type_name());
    }
    return ops::FinePlane{.bits = rows->fine_bits,
                          .rows = rows->data,
                          .norms = reinterpret_cast<const float*>(norms->data)};
  }

  // `unused` names the tensors of a layer that is left out; empty: there is none.
  Status CheckAllTaken(std::string_view unused) const {
    for (const package::Tensor& tensor : file_.tensors()) {
      if (taken_.contains(tensor.name)) continue;
      if (!unused.empty() && tensor.name.starts_with(unused)) continue;
      return Err(ErrorCode::kCorrupt, "tensor {} has no place in this architecture", tensor.name);
    }
    return {};
  }

  uint64_t taken_bytes() const { return taken_bytes_; }

 private:
  Result<const package::Tensor*> Take(const std::string& name, int64_t n_rows, int64_t n_cols) {
    const package::Tensor* tensor = file_.Find(name);
    if (tensor == nullptr) {
      return Err(ErrorCode::kCorrupt, "tensor {} is missing", name);
    }
    if (tensor->n_rows != n_rows || tensor->n_cols != n_cols) {
      return Err(ErrorCode::kCorrupt, "tensor {} is {} x {}; expected {} x {}", name,
                 tensor->n_rows, tensor->n_cols, n_rows, n_cols);
    }
    if (taken_.insert(name).second) taken_bytes_ += tensor->n_bytes;
    return tensor;
  }

  const package::File& file_;
  std::set<std::string, std::less<>> taken_;
  uint64_t taken_bytes_ = 0;
};

// One matrix, or q, k and v where they differ in scheme.
Result<Linear> BindQkv(PackageBinder* matrices, const Hyperparameters& h, int layer) {
  if (matrices->Has(BlockName(layer, "attn_qkv"))) {
    return matrices->One(BlockName(layer, "attn_qkv"), h.q_dim() + 2 * h.kv_dim(), h.d_model);
  }
  Linear linear;
  const std::pair<const char*, int64_t> parts[] = {
      {"attn_q", h.q_dim()}, {"attn_k", h.kv_dim()}, {"attn_v", h.kv_dim()}};
  for (const auto& [part, n_rows] : parts) {
    const std::string name = BlockName(layer, part);
    TANDEM_ASSIGN_OR_RETURN(const ops::PackedMatrix matrix,
                            matrices->Strips(name, n_rows, h.d_model));
    if (!linear.strips.empty() && matrix.group() != linear.strips[0].group()) {
      return Err(ErrorCode::kCorrupt, "tensor {} has groups of {}; expected those of attn_q, {}",
                 name, matrix.group(), linear.strips[0].group());
    }
    linear.strips.push_back(matrix);
  }
  return linear;
}

Result<LayerWeights> BindLayer(PackageBinder* matrices, Binder* vectors, const Hyperparameters& h,
                               int layer) {
  LayerWeights weights;
  TANDEM_ASSIGN_OR_RETURN(weights.attention_norm,
                          vectors->Vector(BlockName(layer, "attn_norm"), h.d_model));
  TANDEM_ASSIGN_OR_RETURN(weights.qkv, BindQkv(matrices, h, layer));
  if (const std::string bias = BlockName(layer, "attn_qkv", "bias");
      h.architecture == Architecture::kQwen2 || vectors->Has(bias)) {
    TANDEM_ASSIGN_OR_RETURN(weights.qkv_bias, vectors->Vector(bias, h.q_dim() + 2 * h.kv_dim()));
  }
  TANDEM_ASSIGN_OR_RETURN(weights.attention_output,
                          matrices->One(BlockName(layer, "attn_output"), h.d_model, h.q_dim()));
  TANDEM_ASSIGN_OR_RETURN(weights.ffn_norm,
                          vectors->Vector(BlockName(layer, "ffn_norm"), h.d_model));
  TANDEM_ASSIGN_OR_RETURN(weights.gate_up, matrices->One(BlockName(layer, "ffn_gate_up"),
                                                         GateUpRows(h.d_ff), h.d_model));
  TANDEM_ASSIGN_OR_RETURN(weights.down,
                          matrices->One(BlockName(layer, "ffn_down"), h.d_model, h.d_ff));
  return weights;
}

}  // namespace

Result<BoundWeights> BindPackage(const package::File& file, const Hyperparameters& h) {
  PackageBinder matrices(file);
  Binder vectors(*file.model());
  auto weights = std::make_unique<Weights>();
  TANDEM_ASSIGN_OR_RETURN(weights->embedding,
                          matrices.Table("token_embd.weight", h.vocab_size, h.d_model));
  for (int layer = 0; layer < h.n_layers; ++layer) {
    TANDEM_ASSIGN_OR_RETURN(LayerWeights bound, BindLayer(&matrices, &vectors, h, layer));
    weights->layers.push_back(std::move(bound));
  }
  if (h.n_mtp_layers > 0) {
    TANDEM_ASSIGN_OR_RETURN(weights->mtp, BindMtpNorms(&vectors, h));
    TANDEM_ASSIGN_OR_RETURN(
        weights->mtp->input,
        matrices.One(BlockName(h.n_layers, "nextn.eh_proj"), h.d_model, 2 * int64_t{h.d_model}));
    TANDEM_ASSIGN_OR_RETURN(weights->mtp->layer, BindLayer(&matrices, &vectors, h, h.n_layers));
  }
  TANDEM_ASSIGN_OR_RETURN(weights->output_norm, vectors.Vector("output_norm.weight", h.d_model));
  const bool tied = !matrices.Has("output.weight");
  if (!tied) {
    TANDEM_ASSIGN_OR_RETURN(weights->head, matrices.One("output.weight", h.vocab_size, h.d_model));
    TANDEM_ASSIGN_OR_RETURN(weights->head.fine,
                            matrices.Fine("output.weight", weights->head.strips[0]));
  } else if (weights->embedding.packed()) {
    TANDEM_ASSIGN_OR_RETURN(weights->embedding.fine,
                            matrices.Fine("token_embd.weight", weights->embedding.strips[0]));
    weights->head = weights->embedding;
  } else {
    return Err(ErrorCode::kCorrupt,
               "tensor token_embd.weight is the head too, and stands in rows; expected strips");
  }
  TANDEM_RETURN_IF_ERROR(BindRotary(&vectors, *file.model(), h, weights.get()));
  const bool leaves_out_mtp =
      h.n_mtp_layers == 0 && vectors.Has(BlockName(h.n_layers, "nextn.hnorm"));
  TANDEM_RETURN_IF_ERROR(
      matrices.CheckAllTaken(leaves_out_mtp ? fmt::format("blk.{}.", h.n_layers) : ""));
  TANDEM_RETURN_IF_ERROR(vectors.CheckAllTaken(h.n_cache_layers()));
  return BoundWeights{.weights = std::move(weights),
                      .n_bytes = matrices.taken_bytes() + vectors.taken_bytes(),
                      .tied_head = tied};
}

}  // namespace tandem::model
