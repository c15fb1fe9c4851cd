// Charter of engine/package/: the device package, one file that is a whole model ready to run:
// weights in the layout that the kernels read (engine/kernels/layout.h), the model's keys and
// vectors, the tokenizer's tables. It may include base, os, crypto, engine/quant, engine/kernels
// and engine/gguf. Deliberately absent: which tensors an architecture has, what the tokenizer's
// bytes mean, and where packages are kept.
//
// Opening maps the file and checks the header, the manifest and every offset; no weight is read.
// docs/package.md draws the file.
//
//   TANDEM_ASSIGN_OR_RETURN(auto file, package::File::Open(path));
//   const package::Tensor* down = file->Find("blk.0.ffn_down.weight");
//   TANDEM_RETURN_IF_ERROR(file->Verify({}, {}));  // reads everything
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "crypto/digest.h"
#include "engine/gguf/file.h"
#include "engine/kernels/layout.h"
#include "engine/quant/types.h"
#include "os/file.h"

namespace tandem::package {

struct Manifest;  // manifest.h

// The first bytes of every package.
inline constexpr std::string_view kMagic = "TANDEMPK";

enum class Layout {
  kStrips,  // strips and tiles, as the integer kernels read them
  kRows,    // rows of GGUF blocks, one after the other: tables of which single rows are looked up
  kFine,    // what the int4 codes of a tensor in strips leave over (engine/kernels/fine_plane.h)
};

// A matrix of the model.
struct Tensor {
  std::string name;
  Layout layout = Layout::kStrips;
  kernels::Scheme scheme = kernels::Scheme::kInt4G128;  // of kStrips
  quant::Type type = quant::Type::kF32;                 // of kRows
  int fine_bits = 0;                                    // of kFine: 3 or 4
  int64_t n_rows = 0;
  int64_t n_cols = 0;
  const std::byte* data = nullptr;  // aligned to kernels::kStripAlignment
  uint64_t n_bytes = 0;
  uint64_t offset = 0;  // in the file
  crypto::Digest sha256 = {};
  std::string source;  // its type in the model file that was packed, such as "Q4_K"
  // rms(packed - source) / rms(source); 0: the same values. Of strips with a fine plane: of the
  // strips alone, and the fine plane has that of both together.
  double relative_error = 0;

  // "int4g128", "Q8_0", "fine3".
  std::string_view type_name() const;
  std::span<const std::byte> bytes() const { return {data, n_bytes}; }
};

// An open package. Immutable.
// Thread: any. The views that it hands out live as long as it does.
class File {
 public:
  ~File();

  // Maps and checks the file.
  // Errors: those of os::MappedFile::Open; kCorrupt for a file that is no whole package, with the
  // file and what is wrong; kUnsupported for one of another version or with an unknown type.
  // Cost: linear in the number of tensors and keys, below a millisecond; reads no tensor.
  static Result<std::shared_ptr<const File>> Open(const std::filesystem::path& path);

  // The same over bytes in memory, which must outlive the File and be aligned to
  // kernels::kStripAlignment; `name` stands for the file in messages.
  static Result<std::shared_ptr<const File>> Parse(std::span<const std::byte> bytes,
                                                   std::string_view name);

  // In the order of their data.
  const std::vector<Tensor>& tensors() const { return tensors_; }
  // Null where there is none of that name.
  const Tensor* Find(std::string_view name) const;

  // The model's keys, and its vectors (norms, biases) as F32 tensors.
  const std::shared_ptr<const gguf::File>& model() const { return model_; }
  // What the packer gave as the tokenizer; empty where the model has none.
  std::span<const std::byte> tokenizer() const { return tokenizer_; }

  // Identifies the content: the SHA-256 of the manifest, which holds the digests of all the rest.
  const crypto::Digest& digest() const { return digest_; }
  std::string digest_hex() const { return crypto::Hex(digest_); }
  const std::string& name() const { return name_; }  // path, or Parse's name
  uint64_t n_bytes() const { return bytes_.size(); }

  // Reads every byte and compares it with the manifest, also that nothing hides in the gaps.
  // `progress` (may be empty) gets the bytes read so far and their total.
  // Errors: kCorrupt, naming the part that differs; kCancelled.
  Status Verify(const std::function<void(uint64_t, uint64_t)>& progress,
                const std::stop_token& stop) const;

 private:
  File() = default;

  Status Read(std::span<const std::byte> bytes, std::string_view name);
  Status IndexNames();

  std::string name_;
  std::optional<os::MappedFile> mapping_;
  std::span<const std::byte> bytes_;
  std::unique_ptr<const Manifest> manifest_;
  std::vector<Tensor> tensors_;
  std::vector<size_t> names_in_order_;  // indices into tensors_, sorted by name
  std::shared_ptr<const gguf::File> model_;
  std::span<const std::byte> tokenizer_;
  crypto::Digest digest_ = {};
};

// Whether a file starts like a package. Errors: those of opening and reading it.
Result<bool> IsPackage(const std::filesystem::path& path);

}  // namespace tandem::package
