// Charter of engine/safetensors/: reads safetensors files that nobody vouches for, and checkpoints
// that are several of them with an index. It may include base, os, engine/quant and Boost.JSON. It
// knows the container only: what a tensor is for is engine/model's business.
//
// Opening maps the file and checks everything once: the header against the file's length, every
// shape against its bytes, and that the tensors fill the data without gap or overlap. Afterwards
// tensors are views into the mapping.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/quant/types.h"
#include "os/file.h"

namespace tandem::safetensors {

// Of the header, as the reference reader has it.
inline constexpr uint64_t kMaxHeaderBytes = 100'000'000;
inline constexpr size_t kMaxDimensions = 8;

// Row-major, little-endian, in no particular alignment.
struct Tensor {
  std::string name;
  std::string dtype;                // "BF16"
  std::optional<quant::Type> type;  // of F32, F16 and BF16, which models are made of
  std::vector<int64_t> shape;       // the last dimension varies fastest; empty for a scalar
  const std::byte* data = nullptr;
  size_t n_bytes = 0;

  std::string ShapeText() const;  // "[4096, 11008]"
};

// An open file.
// Thread: any. The tensors' data live as long as the mapping, also where the File is moved.
class File {
 public:
  // Errors: those of os::MappedFile::Open; kCorrupt for bytes that are not safetensors, with the
  // file and what is wrong; kUnsupported for a dtype that is not known, naming the tensor.
  // Cost: linear in the header; reads no tensor.
  static Result<File> Open(const std::filesystem::path& path);
  // The same over bytes in memory, which must outlive the File.
  static Result<File> Parse(std::span<const std::byte> bytes, std::string_view name);

  // In the order of their data.
  const std::vector<Tensor>& tensors() const { return tensors_; }
  // Null where there is none of that name.
  const Tensor* Find(std::string_view name) const;
  const std::string& name() const { return name_; }
  uint64_t n_bytes() const { return n_bytes_; }

  // The mapping, for somebody who keeps the tensors longer than the File; none after Parse().
  std::optional<os::MappedFile> TakeMapping() && { return std::move(mapping_); }

 private:
  File() = default;

  Status Read(std::span<const std::byte> bytes, std::string_view name);

  std::string name_;
  std::optional<os::MappedFile> mapping_;
  std::vector<Tensor> tensors_;
  std::vector<size_t> names_in_order_;  // indices into tensors_, sorted by name
  uint64_t n_bytes_ = 0;
};

}  // namespace tandem::safetensors
