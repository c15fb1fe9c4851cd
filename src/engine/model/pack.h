// From a model file to a package: which matrices a package holds, how they are coded, and the
// model's keys, vectors and tokenizer beside them. docs/package.md has the names.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <stop_token>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/model/model.h"
#include "engine/ops/thread_pool.h"
#include "engine/package/writer.h"

namespace tandem::model {

// How the values of linear layers are coded. Q4_0 and Q8_0 are kept exactly wherever the scheme is
// the one that holds them.
enum class PackScheme {
  kAuto,  // about the bits of the source: Q4_0, Q8_0 exactly; other types of 4 bits int4g32; the
          // rest int8; a head beyond 4 bits in two planes of 8 or 7 bits together
  kInt4,  // int4g128, and int4g32 for the head: 4.2 bits a weight
  kInt4Planes,  // int4g128, and a head of 7 bits in two planes, of which a token reads 4
  kInt4G128,    // one scheme for all
  kInt4G32,
  kInt8G128,
  kInt8G32,
};

// "auto", "int4", "int4g128", ... Errors: kInvalidArgument, naming the choices.
Result<PackScheme> ParsePackScheme(std::string_view name);

struct PackOptions {
  PackScheme scheme = PackScheme::kAuto;
  // Gets the bytes written so far and their total.
  std::function<void(uint64_t done_bytes, uint64_t total_bytes)> progress;
  std::stop_token stop;
};

struct PackReport {
  std::vector<package::Tensor> tensors;
  uint64_t n_bytes = 0;
  // Of the matrices, and of those without a separate embedding table and fine planes: what a token
  // reads.
  double bits_per_weight = 0;
  double bits_per_read_weight = 0;
};

// Writes a model as a package: the same bytes for the same file and scheme, whatever the number of
// threads. `path` appears whole or not at all.
//
// Codes are chosen by package::QuantizeRow; the error of a column counts as much as the square of
// the weight of the RMSNorm that feeds it, for that is how large its activations are on average.
//   model    loaded from `file`, a GGUF file
// Errors: kInvalidArgument for a model that comes from a package; kCorrupt for weights that are not
// finite, naming the tensor and row; those of package::Writer::Finish; those of the vocabulary but
// kNotFound: a file without a tokenizer makes a package without one.
// Thread: the pool's caller. Cost: reads the file once, twice where a search is needed at some 60
// million weights a second and thread; takes little memory beside the mapped file.
Result<PackReport> Pack(const gguf::File& file, const Model& model, ops::ThreadPool& pool,
                        const std::filesystem::path& path, const PackOptions& options);
// The same into memory, for small models.
Result<std::vector<std::byte>> PackInMemory(const gguf::File& file, const Model& model,
                                            ops::ThreadPool& pool, PackScheme scheme);

// What Model::weights_bytes() of that package will be. `model` is of a GGUF file.
uint64_t PackedWeightsBytes(const Model& model, PackScheme scheme);

}  // namespace tandem::model
