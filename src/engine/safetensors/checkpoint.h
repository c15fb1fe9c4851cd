// A model's weights in a folder: one safetensors file, or several with an index.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/safetensors/file.h"

namespace tandem::safetensors {

inline constexpr std::string_view kIndexName = "model.safetensors.index.json";
inline constexpr std::string_view kSingleName = "model.safetensors";

// The files that hold the weights, in the folder's order of names: those of the index, or the one
// file where there is no index.
// Errors: kNotFound where neither is there; kCorrupt for an index that is not one, or that names a
// file outside the folder; those of reading it.
Result<std::vector<std::filesystem::path>> CheckpointFiles(const std::filesystem::path& folder);

class Checkpoint {
 public:
  // Opens all files. Errors: those of CheckpointFiles() and File::Open(); kNotFound for a file that
  // the index names and that is not there; kCorrupt where the index promises a tensor that its file
  // does not have, or two files have a tensor of one name.
  static Result<Checkpoint> Open(const std::filesystem::path& folder);

  // By name. The tensors' data live as long as the mappings.
  const std::map<std::string, Tensor, std::less<>>& tensors() const { return tensors_; }
  uint64_t n_bytes() const { return n_bytes_; }  // of all files

  std::vector<os::MappedFile> TakeMappings() && { return std::move(mappings_); }

 private:
  Checkpoint() = default;

  std::map<std::string, Tensor, std::less<>> tensors_;
  std::vector<os::MappedFile> mappings_;
  uint64_t n_bytes_ = 0;
};

}  // namespace tandem::safetensors
