// The parts of a package's file that say where the others are: the header at its start and the
// manifest at its end. Shared by the reader and the writer of this room.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "crypto/digest.h"
#include "engine/package/file.h"

namespace tandem::package {

inline constexpr uint32_t kVersion = 2;
inline constexpr size_t kHeaderBytes = 128;
// Where everything behind the header starts at the earliest; a page, so that the header is not in
// the way of the mapping's pages of weights.
inline constexpr uint64_t kFirstOffset = 4096;
// Far above any model's (a tensor takes some 250 bytes); what is larger is not a manifest.
inline constexpr uint64_t kMaxManifestBytes = uint64_t{16} << 20;
inline constexpr size_t kMaxTensorNameBytes = 255;

struct Header {
  uint64_t file_bytes = 0;
  uint64_t manifest_offset = 0;
  uint64_t manifest_bytes = 0;
  crypto::Digest manifest_sha256 = {};
};

// [kHeaderBytes]
std::string FormatHeader(const Header& header);
// `file` is the whole file. Errors: kCorrupt, kUnsupported for another version.
Result<Header> ParseHeader(std::span<const std::byte> file);

struct Part {
  uint64_t offset = 0;
  uint64_t n_bytes = 0;
  crypto::Digest sha256 = {};
};

struct Manifest {
  std::vector<Tensor> tensors;    // without data
  Part model;                     // a GGUF file
  std::optional<Part> tokenizer;  // opaque
};

// The same text for the same manifest.
std::string FormatManifest(const Manifest& manifest);
// Checks types, shapes against bytes, alignment, names, and that the parts stand one behind the
// other in [kFirstOffset, end). Errors: kCorrupt, kUnsupported; the message names the tensor.
Result<Manifest> ParseManifest(std::string_view text, uint64_t end);

// "fine3" of 3.
std::string_view FineTypeName(int fine_bits);

// Bytes of a matrix. Errors: kInvalidArgument for a shape that the type cannot have.
Result<uint64_t> TensorBytes(const Tensor& tensor);

}  // namespace tandem::package
