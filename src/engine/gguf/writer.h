// Writes GGUF files: metadata in the order it was set, tensors in the order they were added, the
// same bytes for the same calls.
//
//   gguf::Writer writer;
//   writer.SetString("general.architecture", "phi3");
//   writer.SetNumber<uint32_t>("phi3.block_count", 32);
//   writer.AddTensor("output_norm.weight", quant::Type::kF32, {{3072}}, bytes);
//   TANDEM_RETURN_IF_ERROR(writer.Finish("model.gguf"));
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/error.h"
#include "engine/gguf/value.h"
#include "engine/quant/types.h"

namespace tandem::gguf {

// The C++ types that a number in metadata can have.
template <typename T>
concept Number =
    std::same_as<T, uint8_t> || std::same_as<T, int8_t> || std::same_as<T, uint16_t> ||
    std::same_as<T, int16_t> || std::same_as<T, uint32_t> || std::same_as<T, int32_t> ||
    std::same_as<T, uint64_t> || std::same_as<T, int64_t> || std::same_as<T, float> ||
    std::same_as<T, double> || std::same_as<T, bool>;

// Thread: one at a time.
class Writer {
 public:
  // Takes the next bytes of what is being written.
  using Sink = std::function<Status(std::span<const std::byte>)>;
  // Gives a tensor's bytes to the sink, in pieces of any size, exactly as many as it has. Called
  // once, by Finish, in the order of the tensors, so that a file larger than memory can be written.
  using Source = std::move_only_function<Status(const Sink& sink)>;

  // Setting a key again replaces its value and keeps its place. "general.alignment", where set, is
  // obeyed. Keys and values are checked by Finish.
  template <Number T>
  void SetNumber(std::string_view key, std::type_identity_t<T> value);
  void SetString(std::string_view key, std::string_view value);
  template <Number T>
  void SetArray(std::string_view key, std::span<const std::type_identity_t<T>> values);
  void SetStringArray(std::string_view key, std::span<const std::string_view> values);
  void SetStringArray(std::string_view key, std::span<const std::string> values);
  // The key and value of another file as they are.
  void Copy(const KeyValue& entry);

  // dims[0] varies fastest.
  void AddTensor(std::string_view name, quant::Type type, std::span<const int64_t> dims,
                 Source source);
  // The same for bytes in memory, which must stay until Finish.
  void AddTensor(std::string_view name, quant::Type type, std::span<const int64_t> dims,
                 std::span<const std::byte> data);

  // Writes everything to a temporary file beside `path` and renames it when all is on disk, so that
  // nobody sees half a file. A Writer can be finished once.
  // Errors: kInvalidArgument for a key, name, shape or alignment that the format does not allow, a
  // name used twice, a source that gives too few or too many bytes; a source's own error; those of
  // os::OutputFile. No file is left behind then.
  Status Finish(const std::filesystem::path& path);
  // The same into memory, for small files.
  Result<std::vector<std::byte>> FinishInMemory();

 private:
  struct Entry {
    std::string key;
    std::string bytes;  // value type and value, as in the file
  };
  struct TensorEntry {
    std::string name;
    quant::Type type = quant::Type::kF32;
    std::vector<int64_t> dims;
    Source source;
  };

  void Set(std::string_view key, std::string bytes);
  Result<uint64_t> Alignment() const;
  Status CheckNames() const;
  Status WriteTo(const Sink& sink);

  std::vector<Entry> metadata_;
  std::vector<TensorEntry> tensors_;
};

}  // namespace tandem::gguf
