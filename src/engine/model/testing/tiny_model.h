// A small random model as a GGUF file in memory, for tests; every key and tensor can be changed
// before the bytes are made.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "engine/gguf/file.h"
#include "engine/model/hyperparameters.h"
#include "engine/quant/types.h"

namespace tandem::model {

struct TinyOptions {
  Architecture architecture = Architecture::kPhi3;
  quant::Type type = quant::Type::kF32;  // of matrices
  bool split = false;                    // phi3: q, k, v and gate, up as tensors of their own
  bool tied_head = true;
  bool long_rope = false;
  bool mtp = false;  // qwen2: a layer of multi-token prediction behind the others
  int n_layers = 2;
  int n_heads = 6;
  int n_kv_heads = 2;
  int head_dim = 16;
  int d_model = 64;
  int d_ff = 96;
  int vocab_size = 50;
  int rotary_dim = 12;
  int context_length = 256;
  int original_context_length = 128;  // with long_rope
  float attention_factor = 1.19F;     // with long_rope
  unsigned seed = 1;
};

class TinyModel {
 public:
  using Value = std::variant<uint32_t, float, std::string>;
  struct Tensor {
    std::string name;
    quant::Type type = quant::Type::kF32;
    std::vector<int64_t> dims;  // dims[0] varies fastest
    std::vector<float> values;
  };

  explicit TinyModel(const TinyOptions& options);

  // "attention.head_count" for this architecture's key; names with "general." stay.
  void Set(std::string_view key, Value value);
  void Remove(std::string_view key);
  Tensor& At(std::string_view name);
  bool Has(std::string_view name) const;
  void RemoveTensor(std::string_view name);
  void Add(Tensor tensor) { tensors_.push_back(std::move(tensor)); }
  const std::vector<Tensor>& tensors() const { return tensors_; }
  const TinyOptions& options() const { return options_; }

  // The file, parsed from bytes that live as long as this object and are made anew by each call.
  std::shared_ptr<const gguf::File> File();

  // A tensor's values as a reader of the file gets them: quantised and back.
  std::vector<double> Decoded(std::string_view name) const;

 private:
  std::string FullKey(std::string_view key) const;
  void AddMatrix(const std::string& name, int64_t n_rows, int64_t n_cols);
  void AddVector(const std::string& name, int64_t n, float mean);

  TinyOptions options_;
  std::vector<std::pair<std::string, Value>> keys_;
  std::vector<Tensor> tensors_;
  uint64_t random_ = 0;
  std::vector<std::vector<std::byte>> files_;
};

// Logits [token_ids, vocab_size] of one sequence, computed in double precision straight from the
// papers: no cache, no tiles, no fused tensors, nothing shared with the engine.
std::vector<double> ReferenceLogits(const TinyModel& model, const std::vector<int32_t>& token_ids,
                                    bool long_factors);
// The same of the multi-token prediction layer: after each token, what it says comes next.
std::vector<double> ReferenceMtpLogits(const TinyModel& model,
                                       const std::vector<int32_t>& token_ids);

}  // namespace tandem::model
