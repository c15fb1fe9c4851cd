// Takes a file's tensors to their places in a model, each checked. Internal to this room.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/gguf/file.h"
#include "engine/model/hyperparameters.h"
#include "engine/model/weights.h"
#include "engine/package/file.h"

namespace tandem::model {

// "blk.3.attn_q.weight"
std::string BlockName(int layer, std::string_view part, std::string_view kind = "weight");

// Takes tensors out of a GGUF file by name, each checked against the shape that its place needs.
// Errors of the functions: kCorrupt for a tensor that is missing or of another shape, kUnsupported
// for a type that its place cannot have; the message names file and tensor.
class Binder {
 public:
  explicit Binder(const gguf::File& file) : file_(file) {}

  bool Has(const std::string& name) const { return file_.Find(name) != nullptr; }
  // A matrix that makes n_rows outputs of n_cols inputs: dims {n_cols, n_rows}.
  Result<ops::Matrix> Matrix(const std::string& name, int64_t n_rows, int64_t n_cols);
  // A vector, in f32.
  Result<std::vector<float>> Vector(const std::string& name, int64_t n);
  // A tensor that no place needs would be left out of the computation: the file then holds another
  // model than its architecture says. Multi-token prediction may be left out.
  Status CheckAllTaken(int n_layers) const;

  uint64_t taken_bytes() const { return taken_bytes_; }

 private:
  Result<const gguf::Tensor*> Take(const std::string& name);
  bool IsPrediction(std::string_view name, int n_layers) const;

  const gguf::File& file_;
  std::set<std::string, std::less<>> taken_;
  uint64_t taken_bytes_ = 0;
};

// What a file's weights are, bound.
struct BoundWeights {
  std::unique_ptr<Weights> weights;
  uint64_t n_bytes = 0;  // of all tensors that a step may touch
  bool tied_head = false;
};

Result<BoundWeights> BindFile(const gguf::File& file, const Hyperparameters& h);
Result<BoundWeights> BindPackage(const package::File& file, const Hyperparameters& h);

// The rotary frequencies, from the factors that the model has as tensors.
Status BindRotary(Binder* binder, const gguf::File& file, const Hyperparameters& h,
                  Weights* weights);

// The norms of the multi-token prediction layer.
Result<MtpWeights> BindMtpNorms(Binder* binder, const Hyperparameters& h);

// The packed gate_up has whole strips of each: its rows for this d_ff.
constexpr int64_t GateUpRows(int64_t d_ff) {
  return 2 * kernels::StripCount(d_ff) * kernels::kStripRows;
}

}  // namespace tandem::model
