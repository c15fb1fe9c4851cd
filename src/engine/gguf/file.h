// Charter of engine/gguf/: reads GGUF files that nobody vouches for, and writes them. It may
// include base, os and engine/quant. It knows the container only: which keys and tensors an
// architecture needs is engine/model's business, tokens are engine/tokenizer's.
//
// Reading maps the file and checks everything once: every count against the bytes that are there
// before anything is allocated for it, every offset and size against the end of the file.
// Afterwards metadata and tensors are views into the mapping. Big-endian files, nested arrays and
// tensor types without a decoder (quant/types.h) are refused with a message that says so.
//
//   TANDEM_ASSIGN_OR_RETURN(auto file, gguf::File::Open(path));
//   TANDEM_ASSIGN_OR_RETURN(const uint64_t n_layers, file->GetUint("phi3.block_count", 1000));
//   const gguf::Tensor* norm = file->Find("output_norm.weight");
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/gguf/value.h"
#include "engine/quant/types.h"
#include "os/file.h"

namespace tandem::gguf {

struct ParsedFile;  // parser.h

// Weights as they stand in the file: rows of dims[0] elements, each dims[0] / block consecutive
// blocks, without padding between rows.
struct Tensor {
  std::string name;
  quant::Type type = quant::Type::kF32;
  int n_dims = 0;                              // as written in the file, 0 for a scalar
  std::array<int64_t, 4> dims = {1, 1, 1, 1};  // dims[0] varies fastest; unused ones are 1
  const std::byte* data = nullptr;             // aligned to quant::GetType(type).alignment
  size_t n_bytes = 0;

  int64_t n_elements() const { return dims[0] * dims[1] * dims[2] * dims[3]; }  // < 2^63, checked
  int64_t n_rows() const { return dims[1] * dims[2] * dims[3]; }
  std::span<const std::byte> bytes() const { return {data, n_bytes}; }
};

// An open model file, or all parts of a split one. Immutable.
// Thread: any. The views that it hands out live as long as it does.
class File {
 public:
  // Maps and checks the file; of a split model ("NAME-00001-of-00003.gguf") takes the first part
  // and opens the others beside it.
  // Errors: those of os::MappedFile::Open; kCorrupt for bytes that are not GGUF, with the file, the
  // offset and what is wrong there; kUnsupported for a version, byte order, value or tensor type
  // that Tandem does not read; kInvalidArgument for a part of a split that is not the first;
  // kNotFound for a missing part.
  // Cost: linear in the metadata (20 ms for a vocabulary of 200,000); reads no tensor.
  static Result<std::shared_ptr<const File>> Open(const std::filesystem::path& path);

  // The same over bytes in memory, which must outlive the File and be aligned to 4; `name` stands
  // for the file in messages. A part of a split is refused.
  static Result<std::shared_ptr<const File>> Parse(std::span<const std::byte> bytes,
                                                   std::string_view name);

  // A model that is not one GGUF file but can be described as one: keys here, tensors elsewhere.
  struct Parts {
    std::string name;               // stands for the file in messages
    std::vector<std::byte> header;  // a GGUF file of keys alone
    std::vector<Tensor> tensors;    // data in the mappings and buffers
    std::vector<os::MappedFile> mappings;
    std::vector<std::vector<std::byte>> buffers;
    uint64_t n_bytes = 0;  // of the files behind it
  };
  // Errors: as Parse() for the header; kCorrupt for two tensors of one name; kInvalidArgument for a
  // tensor whose bytes are not those of its type and shape.
  static Result<std::shared_ptr<const File>> Assemble(Parts parts);

  // ---- metadata (of the first part) ----

  // In the file's order.
  const std::vector<KeyValue>& metadata() const { return metadata_; }
  // Null where there is no such key.
  const KeyValue* FindKey(std::string_view key) const;

  // A value that must be there. Errors: kNotFound, and KeyValue's with the file's name in front;
  // Error::param is the key.
  Result<std::string_view> GetString(std::string_view key) const;
  Result<uint64_t> GetUint(std::string_view key, uint64_t max = UINT64_MAX) const;
  Result<int64_t> GetInt(std::string_view key) const;
  Result<double> GetFloat(std::string_view key) const;
  Result<bool> GetBool(std::string_view key) const;
  Result<std::vector<std::string_view>> GetStringArray(std::string_view key) const;
  Result<IntArray> GetIntArray(std::string_view key) const;
  Result<FloatArray> GetFloatArray(std::string_view key) const;

  // A value that may be missing; one that is there must be right.
  Result<std::optional<std::string_view>> FindString(std::string_view key) const;
  Result<std::optional<uint64_t>> FindUint(std::string_view key, uint64_t max = UINT64_MAX) const;
  Result<std::optional<int64_t>> FindInt(std::string_view key) const;
  Result<std::optional<double>> FindFloat(std::string_view key) const;
  Result<std::optional<bool>> FindBool(std::string_view key) const;

  // ---- tensors (of all parts) ----

  // In the order of their data.
  const std::vector<Tensor>& tensors() const { return tensors_; }
  // Null where there is none of that name.
  const Tensor* Find(std::string_view name) const;

  // ---- the file itself ----

  const std::string& name() const { return name_; }  // path, or Parse's name
  uint32_t version() const { return version_; }
  uint64_t alignment() const { return alignment_; }
  uint64_t n_bytes() const { return n_bytes_; }  // of all parts
  // One per part; empty after Parse. For callers that advise the kernel about reading ahead.
  const std::vector<os::MappedFile>& mappings() const { return mappings_; }

 private:
  File() = default;

  static std::shared_ptr<File> FromParsed(ParsedFile parsed, std::string_view name,
                                          uint64_t n_bytes);
  Status OpenOtherParts(const std::string& prefix, uint64_t count);
  Status IndexTensors();
  template <typename T, typename Get>
  Result<std::optional<T>> Decode(std::string_view key, Get get) const;
  template <typename T>
  Result<T> Require(std::string_view key, Result<std::optional<T>> found) const;

  std::string name_;
  std::vector<os::MappedFile> mappings_;
  std::vector<std::byte> header_;                // of Assemble: what metadata_ looks at
  std::vector<std::vector<std::byte>> buffers_;  // of Assemble: what tensors_ looks at
  std::vector<KeyValue> metadata_;
  std::vector<size_t> keys_in_order_;  // indices into metadata_, sorted by key
  std::vector<Tensor> tensors_;
  std::vector<size_t> names_in_order_;  // indices into tensors_, sorted by name
  uint32_t version_ = 0;
  uint64_t alignment_ = 0;
  uint64_t n_bytes_ = 0;
};

}  // namespace tandem::gguf
