// What a model name stands for on this machine: an OCI manifest, the record of a pull, or a file
// that stays where it is. docs/formats/oci-layout.md and docs/model-store.md describe the formats.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "fleet/catalogue/oci.h"

namespace tandem::fleet {

struct ManifestFile {
  std::string name;  // what the file is called for those who open it; safe as a file name
  uint64_t size_bytes = 0;
  std::string sha256;           // of its content, which is its address among the blobs
  std::string media_type = {};  // oci.h; empty: by the name's suffix
};

struct Manifest {
  std::string name;  // "demo:int4", "phi-4-mini", "hf.co/USER/REPO:Q4_K_M", "my-model"
  // Where it came from. For a model of the hub the repository, the commit and the quantisation.
  std::string repo = {};
  std::string revision = {};
  std::string quant = {};
  std::string license = {};              // as the catalogue knows it; empty: unknown
  std::string origin = {};               // the URL that it was pulled from where that was a depot
  std::vector<ManifestFile> files = {};  // the one to open first; without the list of chunks
  std::optional<ManifestFile> chunks = {};
  // For a model that stays where it is: its absolute path and size; `files` is then empty.
  std::filesystem::path path = {};
  uint64_t path_size_bytes = 0;
  int64_t installed_at_s = 0;  // seconds since 1970
  // The OCI manifest, byte for byte: its digest is the package's. Empty while a model of the hub is
  // being pulled, whose manifest is made when all files are here.
  std::string text = {};

  bool by_reference() const { return !path.empty(); }
  uint64_t size_bytes() const;
  // Of `text`, hexadecimal; empty without one.
  std::string digest() const;
};

// The model's configuration, a small JSON document that the manifest names.
std::string FormatConfig(const Manifest& manifest);

// The OCI manifest of a model that is put together here.
std::string FormatOciManifest(const Manifest& manifest);

// Errors: kCorrupt, naming the field; kUnsupported for a manifest that is no model of Tandem's. No
// field is trusted to be safe.
Result<Manifest> ParseOciManifest(std::string_view name, std::string_view text);

// The record of a pull that is under way: "text" may still be empty.
std::string FormatPull(const Manifest& manifest);
Result<Manifest> ParsePull(std::string_view json);

// The record of a model that stays where it is.
std::string FormatReference(const Manifest& manifest);
Result<Manifest> ParseReference(std::string_view json);

// A model's name as a file name: letters, digits, '.', '_' and '-' stay, the rest is %XX, and so is
// a leading '.'. Errors: kInvalidArgument for an empty name or one above 200 bytes when encoded.
Result<std::string> EncodeModelName(std::string_view name);

}  // namespace tandem::fleet
