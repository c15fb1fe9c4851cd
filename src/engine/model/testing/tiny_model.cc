#include "engine/model/testing/tiny_model.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "engine/gguf/writer.h"
#include "engine/quant/codec.h"

namespace tandem::model {
namespace {

std::vector<std::byte> Encode(const TinyModel::Tensor& tensor) {
  const auto n = static_cast<int64_t>(tensor.values.size());
  std::vector<std::byte> bytes(quant::RowBytes(tensor.type, n));
  TANDEM_CHECK(quant::QuantizeRow(tensor.type, tensor.values.data(), bytes.data(), n).has_value());
  return bytes;
}

}  // namespace

TinyModel::TinyModel(const TinyOptions& options) : options_(options), random_(options.seed) {
  const TinyOptions& o = options_;
  const bool phi = o.architecture == Architecture::kPhi3;
  keys_.emplace_back("general.architecture", std::string(ArchitectureName(o.architecture)));
  keys_.emplace_back("general.name", "tiny");
  const int n_blocks = o.n_layers + (o.mtp ? 1 : 0);
  Set("block_count", static_cast<uint32_t>(n_blocks));
  if (o.mtp) Set("nextn_predict_layers", 1U);
  Set("context_length", static_cast<uint32_t>(o.context_length));
  Set("embedding_length", static_cast<uint32_t>(o.d_model));
  Set("feed_forward_length", static_cast<uint32_t>(o.d_ff));
  Set("attention.head_count", static_cast<uint32_t>(o.n_heads));
  Set("attention.head_count_kv", static_cast<uint32_t>(o.n_kv_heads));
  Set("attention.key_length", static_cast<uint32_t>(o.head_dim));
  Set("attention.value_length", static_cast<uint32_t>(o.head_dim));
  Set("attention.layer_norm_rms_epsilon", 1e-5F);
  Set("rope.dimension_count", static_cast<uint32_t>(o.rotary_dim));
  Set("rope.freq_base", 10000.0F);
  if (o.long_rope) {
    Set("rope.scaling.original_context_length", static_cast<uint32_t>(o.original_context_length));
    Set("rope.scaling.attn_factor", o.attention_factor);
    Tensor factors{"rope_factors_short.weight", quant::Type::kF32, {o.rotary_dim / 2}, {}};
    for (int i = 0; i < o.rotary_dim / 2; ++i) factors.values.push_back(1.0F + 0.1F * i);
    Add(factors);
    factors.name = "rope_factors_long.weight";
    for (float& factor : factors.values) factor *= 3.0F;
    Add(factors);
  }

  const int64_t q_dim = int64_t{o.n_heads} * o.head_dim;
  const int64_t kv_dim = int64_t{o.n_kv_heads} * o.head_dim;
  AddMatrix("token_embd.weight", o.vocab_size, o.d_model);
  for (int layer = 0; layer < n_blocks; ++layer) {
    const std::string block = fmt::format("blk.{}.", layer);
    if (layer == o.n_layers) {
      AddMatrix(block + "nextn.eh_proj.weight", o.d_model, 2 * int64_t{o.d_model});
      AddVector(block + "nextn.enorm.weight", o.d_model, 1.0F);
      AddVector(block + "nextn.hnorm.weight", o.d_model, 1.0F);
      AddVector(block + "nextn.shared_head_norm.weight", o.d_model, 1.0F);
    }
    AddVector(block + "attn_norm.weight", o.d_model, 1.0F);
    if (phi && !o.split) {
      AddMatrix(block + "attn_qkv.weight", q_dim + 2 * kv_dim, o.d_model);
    } else {
      AddMatrix(block + "attn_q.weight", q_dim, o.d_model);
      AddMatrix(block + "attn_k.weight", kv_dim, o.d_model);
      AddMatrix(block + "attn_v.weight", kv_dim, o.d_model);
    }
    if (!phi) {
      AddVector(block + "attn_q.bias", q_dim, 0.0F);
      AddVector(block + "attn_k.bias", kv_dim, 0.0F);
      AddVector(block + "attn_v.bias", kv_dim, 0.0F);
    }
    AddMatrix(block + "attn_output.weight", o.d_model, q_dim);
    AddVector(block + "ffn_norm.weight", o.d_model, 1.0F);
    if (phi && !o.split) {
      AddMatrix(block + "ffn_up.weight", 2 * int64_t{o.d_ff}, o.d_model);
    } else {
      AddMatrix(block + "ffn_gate.weight", o.d_ff, o.d_model);
      AddMatrix(block + "ffn_up.weight", o.d_ff, o.d_model);
    }
    AddMatrix(block + "ffn_down.weight", o.d_model, o.d_ff);
  }
  AddVector("output_norm.weight", o.d_model, 1.0F);
  if (!o.tied_head) AddMatrix("output.weight", o.vocab_size, o.d_model);
}

std::string TinyModel::FullKey(std::string_view key) const {
  if (key.starts_with("general.") || key.starts_with("tokenizer.")) return std::string(key);
  return fmt::format("{}.{}", ArchitectureName(options_.architecture), key);
}

void TinyModel::Set(std::string_view key, Value value) {
  Remove(key);
  keys_.emplace_back(FullKey(key), std::move(value));
}

void TinyModel::Remove(std::string_view key) {
  std::erase_if(keys_, [name = FullKey(key)](const auto& entry) { return entry.first == name; });
}

TinyModel::Tensor& TinyModel::At(std::string_view name) {
  const auto found = std::find_if(tensors_.begin(), tensors_.end(),
                                  [&](const Tensor& tensor) { return tensor.name == name; });
  TANDEM_CHECK(found != tensors_.end());
  return *found;
}

bool TinyModel::Has(std::string_view name) const {
  return std::any_of(tensors_.begin(), tensors_.end(),
                     [&](const Tensor& tensor) { return tensor.name == name; });
}

void TinyModel::RemoveTensor(std::string_view name) {
  std::erase_if(tensors_, [&](const Tensor& tensor) { return tensor.name == name; });
}

void TinyModel::AddMatrix(const std::string& name, int64_t n_rows, int64_t n_cols) {
  AddVector(name, n_rows * n_cols, 0.0F);
  Tensor& tensor = tensors_.back();
  tensor.type = options_.type;
  tensor.dims = {n_cols, n_rows};
  // Outputs as large as inputs; embeddings are as they are.
  if (name == "token_embd.weight") return;
  for (float& value : tensor.values) value *= 3.0F / std::sqrt(static_cast<float>(n_cols));
}

// Uniform in mean +- 0.5, from Knuth's MMIX linear congruential generator.
void TinyModel::AddVector(const std::string& name, int64_t n, float mean) {
  Tensor tensor{name, quant::Type::kF32, {n}, std::vector<float>(n)};
  for (float& value : tensor.values) {
    random_ = random_ * 6364136223846793005ULL + 1442695040888963407ULL;
    value = mean + static_cast<float>(static_cast<int32_t>(random_ >> 32)) * 0x1p-32F;
  }
  tensors_.push_back(std::move(tensor));
}

std::shared_ptr<const gguf::File> TinyModel::File() {
  gguf::Writer writer;
  for (const auto& [key, value] : keys_) {
    if (const auto* number = std::get_if<uint32_t>(&value)) {
      writer.SetNumber<uint32_t>(key, *number);
    } else if (const auto* real = std::get_if<float>(&value)) {
      writer.SetNumber<float>(key, *real);
    } else {
      writer.SetString(key, std::get<std::string>(value));
    }
  }
  std::vector<std::vector<std::byte>> encoded;
  for (const Tensor& tensor : tensors_) encoded.push_back(Encode(tensor));
  for (size_t i = 0; i < tensors_.size(); ++i) {
    writer.AddTensor(tensors_[i].name, tensors_[i].type, tensors_[i].dims,
                     std::span<const std::byte>(encoded[i]));
  }
  auto bytes = writer.FinishInMemory();
  TANDEM_CHECK(bytes.has_value());
  files_.push_back(std::move(*bytes));
  auto file = gguf::File::Parse(files_.back(), "tiny.gguf");
  TANDEM_CHECK(file.has_value());
  return *file;
}

std::vector<double> TinyModel::Decoded(std::string_view name) const {
  const auto found = std::find_if(tensors_.begin(), tensors_.end(),
                                  [&](const Tensor& tensor) { return tensor.name == name; });
  TANDEM_CHECK(found != tensors_.end());
  const std::vector<std::byte> bytes = Encode(*found);
  std::vector<float> values(found->values.size());
  quant::DequantizeRow(found->type, bytes.data(), values.data(),
                       static_cast<int64_t>(values.size()));
  return {values.begin(), values.end()};
}

}  // namespace tandem::model
