// What a model can be had as: its shape, its variants, and what follows from the two: the size of a
// package and the memory that a device needs for it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json/value.hpp>

#include "base/error.h"
#include "fleet/catalogue/certificate.h"

namespace tandem::fleet {

// The numbers of a decoder that decide its memory and speed. Names are the papers'.
struct ModelShape {
  int32_t n_layers = 0;
  int32_t n_heads = 0;
  int32_t n_kv_heads = 0;
  int32_t head_dim = 0;
  int32_t d_model = 0;
  int32_t d_ff = 0;  // of a gated feed-forward: three matrices
  int32_t vocab_size = 0;
  int32_t context_length = 0;    // tokens that the model was made for
  bool tied_embeddings = false;  // the input embedding is the head's matrix

  // Weights of the linear layers; of one matrix of the vocabulary; of all.
  uint64_t n_linear_parameters() const;
  uint64_t n_vocabulary_parameters() const;
  uint64_t n_parameters() const;
};

// Where a variant's steps are computed.
enum class Accelerator { kCpu, kGpu, kNpu };
std::string_view AcceleratorName(Accelerator accelerator);  // "cpu", "gpu", "npu"
std::optional<Accelerator> ParseAccelerator(std::string_view name);

// One way in which a model can be had: weights coded in one way, for some platforms and one kind of
// executor.
struct Variant {
  std::string name;          // "int4", "int4-npu": unique within its model
  std::string quantization;  // what clients ask for: "int4"
  std::vector<std::string> quantization_aliases = {};  // "int4_gqa"
  std::string scheme = {};  // how the weights are coded: docs/package.md; a GGUF type for a GGUF
  std::vector<std::string> platforms = {};  // "android_arm64", "linux_x86_64", ...
  Accelerator accelerator = Accelerator::kCpu;
  // Of the package, where it is known; else it is computed from the shape.
  std::optional<uint64_t> size_bytes = {};
  std::string manifest_digest = {};  // SHA-256 of the signed manifest; empty: there is none
  std::optional<Certificate> certificate = {};

  // "int4" and "int4_gqa" alike; case counts.
  bool IsQuantization(std::string_view wanted) const;
  // "android_arm64", or "android" for any of that system's.
  bool RunsOn(std::string_view platform) const;
};

// Bytes that a model takes while it generates, each from its shape.
struct MemoryNeeds {
  uint64_t package_bytes = 0;   // the file
  uint64_t weights_bytes = 0;   // of them, read for every token: all but a separate embedding
  uint64_t kv_cache_bytes = 0;  // of one session at the asked context, in 8 bits
  uint64_t scratch_bytes = 0;   // activations of a step, logits
  uint64_t reserve_bytes = 0;   // what has to stay free for the application and the system
  int32_t context_tokens = 0;
  uint32_t floor_gb = 0;  // what the model asks of a device in any case
  uint64_t total_bytes() const {
    return weights_bytes + kv_cache_bytes + scratch_bytes + reserve_bytes;
  }
  // What is asked of a device: total_bytes() rounded up to whole GB (10^9), since what devices
  // report as free varies by hundreds of MB, and not below floor_gb.
  uint32_t min_ram_gb() const;
};

// The context that needs are stated for where nobody asked for another.
inline constexpr int32_t kDefaultContextTokens = 4096;

// Errors: kUnsupported for a scheme whose bits a weight are unknown here. `context_tokens` is cut
// to the model's own.
Result<MemoryNeeds> ComputeNeeds(const ModelShape& shape, const Variant& variant,
                                 int32_t context_tokens);

// Bits that a weight takes, in thousandths, for "int4", "int4g32", "int8g128", "Q4_0", ...; nothing
// for a scheme that is not known.
struct SchemeBits {
  uint32_t linear_milli = 0;
  uint32_t head_milli = 0;
};
std::optional<SchemeBits> FindSchemeBits(std::string_view scheme);

// The JSON of both, as docs/formats/manifest.md describes it. `where` begins messages.
// Errors: kCorrupt, naming the field.
Result<ModelShape> ParseShape(const boost::json::value& value, const std::string& where);
Result<Variant> ParseVariant(const boost::json::value& value, const std::string& where);
boost::json::value ShapeJson(const ModelShape& shape);
boost::json::value VariantJson(const Variant& variant);

}  // namespace tandem::fleet
