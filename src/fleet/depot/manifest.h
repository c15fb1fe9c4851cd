// What a model name stands for on this machine, as one small JSON file. docs/model-store.md
// describes the format.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace tandem::fleet {

struct ManifestFile {
  std::string name;  // what the file is called for those who open it; safe as a file name
  uint64_t size_bytes = 0;
  std::string sha256;  // of its content, which is its address among the blobs
};

struct Manifest {
  std::string name;  // "phi-4-mini", "hf.co/USER/REPO:Q4_K_M", "my-model"
  // Where it came from. For a pulled model the repository, the commit and the quantisation.
  std::string repo = {};
  std::string revision = {};
  std::string quant = {};
  std::string license = {};  // as the catalogue knows it; empty: unknown
  std::vector<ManifestFile> files = {};
  // For a model that stays where it is: its absolute path and size; `files` is then empty.
  std::filesystem::path path = {};
  uint64_t path_size_bytes = 0;
  int64_t installed_at_s = 0;  // seconds since 1970

  bool by_reference() const { return !path.empty(); }
  uint64_t size_bytes() const;
};

std::string FormatManifest(const Manifest& manifest);

// Errors: kCorrupt, naming the field; no field is trusted to be safe.
Result<Manifest> ParseManifest(std::string_view json);

// A model's name as a file name: letters, digits, '.', '_' and '-' stay, the rest is %XX, and so is
// a leading '.'. Errors: kInvalidArgument for an empty name or one above 200 bytes when encoded.
Result<std::string> EncodeModelName(std::string_view name);

}  // namespace tandem::fleet
