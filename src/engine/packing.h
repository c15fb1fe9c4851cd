// From a model file to a package, as app/ and tools see it: one of the doors of the engine.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/error.h"

namespace tandem::engine {

struct PackOptions {
  // "auto": about the bits of the source, Q4_0 and Q8_0 exactly. "int4": int4 in groups of 128, the
  // head in groups of 32. "int4g128", "int4g32", "int8g128", "int8g32": that one for all.
  std::string scheme = "auto";
  int n_threads = 0;  // 0: every core that the process may use
  // Gets the bytes written so far and their total, often, on the packing thread.
  std::function<void(uint64_t done_bytes, uint64_t total_bytes)> progress;
  std::stop_token stop;
};

struct PackSummary {
  struct Tensor {
    std::string name;
    std::string source;  // its type in the model file, "Q4_K"
    std::string type;    // in the package, "int4g32"
    int64_t n_rows = 0;
    int64_t n_cols = 0;
    uint64_t n_bytes = 0;
    double relative_error = 0;  // rms(packed - source) / rms(source); 0: the same values
  };
  std::vector<Tensor> tensors;
  uint64_t file_bytes = 0;
  double bits_per_weight = 0;  // of all matrices
  double bits_per_read_weight =
      0;  // of those that every token reads: all but a table of embeddings
};

// Writes the model of a GGUF file or of a folder in Hugging Face's form as a package, which
// Engine::Load() takes in its place: weights in the order in which the kernels read them, never
// repacked. The same bytes for the same file and scheme. `to` appears whole or not at all. Errors:
// as Engine::Load() for the file; kInvalidArgument for a scheme that there is not (param "scheme")
// and for a file that is a package already; kCorrupt for weights that are not finite;
// kResourceExhausted where the disk is full; kCancelled; kIo.
// Cost: a few seconds for 2 GB of Q4_0, some 20 seconds a billion weights and thread where codes
// are searched; memory of a few MiB a thread.
Result<PackSummary> Pack(const std::filesystem::path& model, const std::filesystem::path& to,
                         const PackOptions& options);

// Whether a path is a folder that can stand where a model file is asked for: one with a
// config.json, as models are published in safetensors.
bool IsModelFolder(const std::filesystem::path& path);

// Whether a file is a package, by its first bytes. Errors: those of opening it.
Result<bool> IsPackage(const std::filesystem::path& path);

// What identifies a package's content: SHA-256, in hexadecimal, of its manifest, which holds the
// digests of all the rest. Errors: as Engine::Load(). Cost: reads the header.
Result<std::string> PackageDigest(const std::filesystem::path& path);

// Reads a whole package and compares it with its digests.
// Errors: as Engine::Load(); kCorrupt, naming the part that differs; kCancelled.
Status VerifyPackage(const std::filesystem::path& path,
                     const std::function<void(uint64_t done_bytes, uint64_t total_bytes)>& progress,
                     const std::stop_token& stop);

// What of a package is of use without its weights.
struct PackageDocuments {
  std::string tokenizer;      // docs/package.md, "Tokenizer"; empty where the model has none
  std::string chat_template;  // Jinja; empty where the model has none
};
// Errors: as Engine::Load() for a package's file.
Result<PackageDocuments> ReadPackageDocuments(const std::filesystem::path& path);

// The files that a model is made of: itself, all parts of a split one, or those of a folder.
// Errors: those of opening the first part of a split.
Result<std::vector<std::filesystem::path>> ModelFiles(const std::filesystem::path& model);

}  // namespace tandem::engine
