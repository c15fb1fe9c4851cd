#include "engine/gguf/file.h"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <utility>

#include <fmt/format.h>

#include "engine/gguf/parser.h"

namespace tandem::gguf {
namespace {

// A part's number in file names has five digits.
constexpr uint64_t kMaxParts = 99999;

const KeyValue* FindIn(const std::vector<KeyValue>& metadata, const std::vector<size_t>& order,
                       std::string_view key) {
  const auto at =
      std::ranges::lower_bound(order, key, {}, [&](size_t i) { return metadata[i].key; });
  return at != order.end() && metadata[*at].key == key ? &metadata[*at] : nullptr;
}

// What a part says about the split that it belongs to.
struct SplitInfo {
  uint64_t number = 0;
  uint64_t count = 1;
  std::optional<uint64_t> n_tensors;
};

Result<SplitInfo> ReadSplitInfo(const ParsedFile& part, std::string_view name) {
  SplitInfo info;
  const auto read = [&](std::string_view key, uint64_t max) -> Result<std::optional<uint64_t>> {
    const KeyValue* entry = FindIn(part.metadata, part.keys_in_order, key);
    if (entry == nullptr) return std::nullopt;
    const Result<uint64_t> value = entry->GetUint(max);
    if (!value) {
      return Err(ErrorCode::kCorrupt, "{}: byte {}: {}", name, entry->offset,
                 value.error().message);
    }
    return *value;
  };
  TANDEM_ASSIGN_OR_RETURN(const auto count, read(kSplitCountKey, kMaxParts));
  TANDEM_ASSIGN_OR_RETURN(const auto number, read(kSplitNumberKey, kMaxParts));
  TANDEM_ASSIGN_OR_RETURN(info.n_tensors, read(kSplitTensorsKey, INT32_MAX));
  info.count = std::max<uint64_t>(count.value_or(1), 1);
  info.number = number.value_or(0);
  if (info.number >= info.count) {
    return Err(ErrorCode::kCorrupt, "{}: '{}' is {}, but '{}' is {}", name, kSplitNumberKey,
               info.number, kSplitCountKey, info.count);
  }
  return info;
}

std::string PartSuffix(uint64_t number, uint64_t count) {
  return fmt::format("-{:05}-of-{:05}.gguf", number + 1, count);
}

}  // namespace

std::shared_ptr<File> File::FromParsed(ParsedFile parsed, std::string_view name, uint64_t n_bytes) {
  std::shared_ptr<File> file(new File);
  file->name_ = name;
  file->version_ = parsed.version;
  file->alignment_ = parsed.alignment;
  file->n_bytes_ = n_bytes;
  file->metadata_ = std::move(parsed.metadata);
  file->keys_in_order_ = std::move(parsed.keys_in_order);
  file->tensors_ = std::move(parsed.tensors);
  return file;
}

Result<std::shared_ptr<const File>> File::Parse(std::span<const std::byte> bytes,
                                                std::string_view name) {
  TANDEM_ASSIGN_OR_RETURN(ParsedFile parsed, ParseFile(bytes, name));
  TANDEM_ASSIGN_OR_RETURN(const SplitInfo split, ReadSplitInfo(parsed, name));
  if (split.count > 1) {
    return Err(ErrorCode::kInvalidArgument,
               "{}: part {} of {} of a split model, whose other parts cannot be found from memory",
               name, split.number + 1, split.count);
  }
  const std::shared_ptr<File> file = FromParsed(std::move(parsed), name, bytes.size());
  TANDEM_RETURN_IF_ERROR(file->IndexTensors());
  return file;
}

Result<std::shared_ptr<const File>> File::Open(const std::filesystem::path& path) {
  const std::string name = path.string();
  TANDEM_ASSIGN_OR_RETURN(os::MappedFile mapping, os::MappedFile::Open(path));
  TANDEM_ASSIGN_OR_RETURN(ParsedFile parsed, ParseFile(mapping.bytes(), name));
  TANDEM_ASSIGN_OR_RETURN(const SplitInfo split, ReadSplitInfo(parsed, name));

  const std::shared_ptr<File> file = FromParsed(std::move(parsed), name, mapping.bytes().size());
  file->mappings_.push_back(std::move(mapping));
  if (split.count > 1) {
    const std::string suffix = PartSuffix(split.number, split.count);
    if (!name.ends_with(suffix)) {
      return Err(ErrorCode::kInvalidArgument,
                 "{}: part {} of {} of a split model; its name must end in '{}'", name,
                 split.number + 1, split.count, suffix);
    }
    const std::string prefix = name.substr(0, name.size() - suffix.size());
    if (split.number != 0) {
      return Err(ErrorCode::kInvalidArgument, "{}: part {} of a split model; open '{}'", name,
                 split.number + 1, prefix + PartSuffix(0, split.count));
    }
    TANDEM_RETURN_IF_ERROR(file->OpenOtherParts(prefix, split.count));
  }
  if (split.n_tensors && *split.n_tensors != file->tensors_.size()) {
    return Err(ErrorCode::kCorrupt, "{}: '{}' is {}, but {} tensors are there", name,
               kSplitTensorsKey, *split.n_tensors, file->tensors_.size());
  }
  TANDEM_RETURN_IF_ERROR(file->IndexTensors());
  return file;
}

Result<std::shared_ptr<const File>> File::Assemble(Parts parts) {
  TANDEM_ASSIGN_OR_RETURN(ParsedFile parsed, ParseFile(parts.header, parts.name));
  for (const Tensor& tensor : parts.tensors) {
    const quant::TypeInfo& type = quant::GetType(tensor.type);
    const bool whole_blocks = tensor.dims[0] % type.block_elements == 0;
    if (!whole_blocks || tensor.n_bytes != static_cast<uint64_t>(tensor.n_rows()) *
                                               quant::RowBytes(tensor.type, tensor.dims[0])) {
      return Err(ErrorCode::kInvalidArgument, "{}: tensor {} has {} bytes, which its shape has not",
                 parts.name, tensor.name, tensor.n_bytes);
    }
    if (reinterpret_cast<uintptr_t>(tensor.data) % static_cast<size_t>(type.alignment) != 0) {
      return Err(ErrorCode::kInvalidArgument, "{}: tensor {} is not aligned for its type",
                 parts.name, tensor.name);
    }
  }
  const std::shared_ptr<File> file = FromParsed(std::move(parsed), parts.name, parts.n_bytes);
  // Moving a vector leaves its bytes where they are, and with them all views.
  file->header_ = std::move(parts.header);
  file->buffers_ = std::move(parts.buffers);
  file->mappings_ = std::move(parts.mappings);
  file->tensors_ = std::move(parts.tensors);
  TANDEM_RETURN_IF_ERROR(file->IndexTensors());
  return file;
}

Status File::OpenOtherParts(const std::string& prefix, uint64_t count) {
  for (uint64_t number = 1; number < count; ++number) {
    const std::string part_name = prefix + PartSuffix(number, count);
    auto mapping = os::MappedFile::Open(part_name);
    if (!mapping) {
      return Wrap(std::move(mapping).error(),
                  fmt::format("part {} of {} of split model '{}'", number + 1, count, name_));
    }
    TANDEM_ASSIGN_OR_RETURN(ParsedFile parsed, ParseFile(mapping->bytes(), part_name));
    TANDEM_ASSIGN_OR_RETURN(const SplitInfo split, ReadSplitInfo(parsed, part_name));
    if (split.number != number || split.count != count) {
      return Err(ErrorCode::kCorrupt,
                 "{}: it says that it is part {} of {}, its name says {} of {}", part_name,
                 split.number + 1, split.count, number + 1, count);
    }
    n_bytes_ += mapping->bytes().size();
    mappings_.push_back(*std::move(mapping));
    std::ranges::move(parsed.tensors, std::back_inserter(tensors_));
  }
  return {};
}

Status File::IndexTensors() {
  names_in_order_.resize(tensors_.size());
  std::iota(names_in_order_.begin(), names_in_order_.end(), size_t{0});
  const auto name_of = [&](size_t i) -> const std::string& { return tensors_[i].name; };
  std::ranges::sort(names_in_order_, {}, name_of);
  const auto twice = std::ranges::adjacent_find(names_in_order_, {}, name_of);
  if (twice != names_in_order_.end()) {
    return Err(ErrorCode::kCorrupt, "{}: there are two tensors of the name '{}'", name_,
               name_of(*twice));
  }
  return {};
}

const Tensor* File::Find(std::string_view name) const {
  const auto at = std::ranges::lower_bound(
      names_in_order_, name, {}, [&](size_t i) -> std::string_view { return tensors_[i].name; });
  return at != names_in_order_.end() && tensors_[*at].name == name ? &tensors_[*at] : nullptr;
}

const KeyValue* File::FindKey(std::string_view key) const {
  return FindIn(metadata_, keys_in_order_, key);
}

// The value of a key if it is there, decoded by `get`; errors say where it stands.
template <typename T, typename Get>
Result<std::optional<T>> File::Decode(std::string_view key, Get get) const {
  const KeyValue* entry = FindKey(key);
  if (entry == nullptr) return std::nullopt;
  Result<T> value = get(*entry);
  if (value) return *std::move(value);
  auto error = Wrap(std::move(value).error(), fmt::format("{}: byte {}", name_, entry->offset));
  error.error().param = key;
  return error;
}

template <typename T>
Result<T> File::Require(std::string_view key, Result<std::optional<T>> found) const {
  if (!found) return std::unexpected(std::move(found).error());
  if (*found) return **std::move(found);
  auto error = Err(ErrorCode::kNotFound, "{}: the key '{}' is missing", name_, key);
  error.error().param = key;
  return error;
}

Result<std::optional<std::string_view>> File::FindString(std::string_view key) const {
  return Decode<std::string_view>(key, [](const KeyValue& e) { return e.GetString(); });
}
Result<std::optional<uint64_t>> File::FindUint(std::string_view key, uint64_t max) const {
  return Decode<uint64_t>(key, [max](const KeyValue& e) { return e.GetUint(max); });
}
Result<std::optional<int64_t>> File::FindInt(std::string_view key) const {
  return Decode<int64_t>(key, [](const KeyValue& e) { return e.GetInt(); });
}
Result<std::optional<double>> File::FindFloat(std::string_view key) const {
  return Decode<double>(key, [](const KeyValue& e) { return e.GetFloat(); });
}
Result<std::optional<bool>> File::FindBool(std::string_view key) const {
  return Decode<bool>(key, [](const KeyValue& e) { return e.GetBool(); });
}

Result<std::string_view> File::GetString(std::string_view key) const {
  return Require(key, FindString(key));
}
Result<uint64_t> File::GetUint(std::string_view key, uint64_t max) const {
  return Require(key, FindUint(key, max));
}
Result<int64_t> File::GetInt(std::string_view key) const { return Require(key, FindInt(key)); }
Result<double> File::GetFloat(std::string_view key) const { return Require(key, FindFloat(key)); }
Result<bool> File::GetBool(std::string_view key) const { return Require(key, FindBool(key)); }

Result<std::vector<std::string_view>> File::GetStringArray(std::string_view key) const {
  using Strings = std::vector<std::string_view>;
  return Require(key, Decode<Strings>(key, [](const KeyValue& e) { return e.GetStringArray(); }));
}
Result<IntArray> File::GetIntArray(std::string_view key) const {
  return Require(key, Decode<IntArray>(key, [](const KeyValue& e) { return e.GetIntArray(); }));
}
Result<FloatArray> File::GetFloatArray(std::string_view key) const {
  return Require(key, Decode<FloatArray>(key, [](const KeyValue& e) { return e.GetFloatArray(); }));
}

}  // namespace tandem::gguf
