#include "engine/gguf/writer.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <set>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "base/utf8.h"
#include "os/file.h"

namespace tandem::gguf {
namespace {

// Sources may write a block at a time; the disk is given this much at once.
constexpr size_t kBufferBytes = size_t{1} << 20;

template <typename T>
void AppendNumber(T value, std::string* out) {
  const auto bytes = std::bit_cast<std::array<char, sizeof(T)>>(value);
  out->append(bytes.data(), bytes.size());
}

void AppendType(ValueType type, std::string* out) {
  AppendNumber(static_cast<uint32_t>(type), out);
}

void AppendString(std::string_view text, std::string* out) {
  AppendNumber<uint64_t>(text.size(), out);
  out->append(text);
}

template <Number T>
constexpr ValueType TypeOf() {
  if constexpr (std::same_as<T, uint8_t>) return ValueType::kUint8;
  if constexpr (std::same_as<T, int8_t>) return ValueType::kInt8;
  if constexpr (std::same_as<T, uint16_t>) return ValueType::kUint16;
  if constexpr (std::same_as<T, int16_t>) return ValueType::kInt16;
  if constexpr (std::same_as<T, uint32_t>) return ValueType::kUint32;
  if constexpr (std::same_as<T, int32_t>) return ValueType::kInt32;
  if constexpr (std::same_as<T, uint64_t>) return ValueType::kUint64;
  if constexpr (std::same_as<T, int64_t>) return ValueType::kInt64;
  if constexpr (std::same_as<T, float>) return ValueType::kFloat32;
  if constexpr (std::same_as<T, double>) return ValueType::kFloat64;
  if constexpr (std::same_as<T, bool>) return ValueType::kBool;
}

template <typename Strings>
std::string StringArrayBytes(const Strings& values) {
  std::string bytes;
  AppendType(ValueType::kArray, &bytes);
  AppendType(ValueType::kString, &bytes);
  AppendNumber<uint64_t>(values.size(), &bytes);
  for (const std::string_view value : values) AppendString(value, &bytes);
  return bytes;
}

std::span<const std::byte> AsBytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

Status CheckName(std::string_view what, std::string_view name, uint64_t max_bytes) {
  const bool is_text = name.find('\0') == std::string_view::npos && utf8::IsValid(name);
  if (!name.empty() && name.size() <= max_bytes && is_text) return {};
  return Err(ErrorCode::kInvalidArgument,
             "'{}' cannot be a {}: 1 to {} bytes of UTF-8 without NUL are allowed",
             utf8::Sanitize(name.substr(0, 100)), what, max_bytes);
}

Result<uint64_t> TensorBytes(std::string_view name, quant::Type type,
                             std::span<const int64_t> dims) {
  const quant::TypeInfo& info = quant::GetType(type);
  int64_t n_elements = 1;
  bool valid =
      dims.size() <= kMaxDimensions && (dims.empty() ? 1 : dims[0]) % info.block_elements == 0;
  for (const int64_t dim : dims) {
    valid = valid && dim > 0 && !__builtin_mul_overflow(n_elements, dim, &n_elements);
  }
  uint64_t bytes = 0;
  valid = valid && !__builtin_mul_overflow(static_cast<uint64_t>(n_elements / info.block_elements),
                                           static_cast<uint64_t>(info.block_bytes), &bytes);
  if (!valid) {
    return Err(ErrorCode::kInvalidArgument,
               "tensor '{}' cannot be {} of shape [{}]: up to {} positive dimensions, the first a "
               "multiple of {}",
               name, info.name, fmt::join(dims, ", "), kMaxDimensions, info.block_elements);
  }
  return bytes;
}

}  // namespace

void Writer::Set(std::string_view key, std::string bytes) {
  const auto same = std::ranges::find(metadata_, key, &Entry::key);
  if (same != metadata_.end()) {
    same->bytes = std::move(bytes);
  } else {
    metadata_.push_back({std::string(key), std::move(bytes)});
  }
}

template <Number T>
void Writer::SetNumber(std::string_view key, std::type_identity_t<T> value) {
  std::string bytes;
  AppendType(TypeOf<T>(), &bytes);
  AppendNumber<T>(value, &bytes);
  Set(key, std::move(bytes));
}

template <Number T>
void Writer::SetArray(std::string_view key, std::span<const std::type_identity_t<T>> values) {
  std::string bytes;
  AppendType(ValueType::kArray, &bytes);
  AppendType(TypeOf<T>(), &bytes);
  AppendNumber<uint64_t>(values.size(), &bytes);
  for (const T value : values) AppendNumber<T>(value, &bytes);
  Set(key, std::move(bytes));
}

#define TANDEM_INSTANTIATE(T)                                        \
  template void Writer::SetNumber<T>(std::string_view key, T value); \
  template void Writer::SetArray<T>(std::string_view key, std::span<const T> values)
TANDEM_INSTANTIATE(uint8_t);
TANDEM_INSTANTIATE(int8_t);
TANDEM_INSTANTIATE(uint16_t);
TANDEM_INSTANTIATE(int16_t);
TANDEM_INSTANTIATE(uint32_t);
TANDEM_INSTANTIATE(int32_t);
TANDEM_INSTANTIATE(uint64_t);
TANDEM_INSTANTIATE(int64_t);
TANDEM_INSTANTIATE(float);
TANDEM_INSTANTIATE(double);
TANDEM_INSTANTIATE(bool);
#undef TANDEM_INSTANTIATE

void Writer::SetString(std::string_view key, std::string_view value) {
  std::string bytes;
  AppendType(ValueType::kString, &bytes);
  AppendString(value, &bytes);
  Set(key, std::move(bytes));
}

void Writer::SetStringArray(std::string_view key, std::span<const std::string_view> values) {
  Set(key, StringArrayBytes(values));
}

void Writer::SetStringArray(std::string_view key, std::span<const std::string> values) {
  Set(key, StringArrayBytes(values));
}

void Writer::Copy(const KeyValue& entry) {
  std::string bytes;
  AppendType(entry.type, &bytes);
  bytes.append(reinterpret_cast<const char*>(entry.bytes.data()), entry.bytes.size());
  Set(entry.key, std::move(bytes));
}

void Writer::AddTensor(std::string_view name, quant::Type type, std::span<const int64_t> dims,
                       Source source) {
  tensors_.push_back(
      {std::string(name), type, std::vector<int64_t>(dims.begin(), dims.end()), std::move(source)});
}

void Writer::AddTensor(std::string_view name, quant::Type type, std::span<const int64_t> dims,
                       std::span<const std::byte> data) {
  AddTensor(name, type, dims, [data](const Sink& sink) { return sink(data); });
}

Result<uint64_t> Writer::Alignment() const {
  const auto set = std::ranges::find(metadata_, kAlignmentKey, &Entry::key);
  if (set == metadata_.end()) return kDefaultAlignment;
  uint32_t type;
  std::memcpy(&type, set->bytes.data(), sizeof(type));
  const KeyValue value = {.key = set->key,
                          .type = static_cast<ValueType>(type),
                          .bytes = AsBytes(set->bytes).subspan(sizeof(type))};
  const Result<uint64_t> alignment = value.GetUint(kMaxAlignment);
  // Below 4 bytes, F32 tensors could not be used where they are mapped.
  if (!alignment || !std::has_single_bit(*alignment) || *alignment < 4) {
    return Err(ErrorCode::kInvalidArgument, "'{}' must be a power of two, at least 4",
               kAlignmentKey);
  }
  return *alignment;
}

Status Writer::CheckNames() const {
  for (const Entry& entry : metadata_) {
    TANDEM_RETURN_IF_ERROR(CheckName("metadata key", entry.key, kMaxKeyBytes));
  }
  std::set<std::string_view> names;
  for (const TensorEntry& tensor : tensors_) {
    TANDEM_RETURN_IF_ERROR(CheckName("tensor's name", tensor.name, kMaxTensorNameBytes));
    if (!names.insert(tensor.name).second) {
      return Err(ErrorCode::kInvalidArgument, "two tensors are named '{}'", tensor.name);
    }
  }
  return {};
}

Status Writer::WriteTo(const Sink& sink) {
  TANDEM_RETURN_IF_ERROR(CheckNames());
  TANDEM_ASSIGN_OR_RETURN(const uint64_t alignment, Alignment());
  const auto padding_after = [alignment](uint64_t bytes) { return -bytes & (alignment - 1); };

  std::string header(kMagic);
  AppendNumber(kVersion, &header);
  AppendNumber<uint64_t>(tensors_.size(), &header);
  AppendNumber<uint64_t>(metadata_.size(), &header);
  for (const Entry& entry : metadata_) {
    AppendString(entry.key, &header);
    header += entry.bytes;
  }
  std::vector<uint64_t> sizes;  // of the tensors
  uint64_t data_offset = 0;
  for (const TensorEntry& tensor : tensors_) {
    TANDEM_ASSIGN_OR_RETURN(const uint64_t size,
                            TensorBytes(tensor.name, tensor.type, tensor.dims));
    AppendString(tensor.name, &header);
    AppendNumber(static_cast<uint32_t>(tensor.dims.size()), &header);
    for (const int64_t dim : tensor.dims) AppendNumber(dim, &header);
    AppendNumber(static_cast<uint32_t>(tensor.type), &header);
    AppendNumber(data_offset, &header);
    if (__builtin_add_overflow(data_offset, size + padding_after(size), &data_offset)) {
      return Err(ErrorCode::kInvalidArgument, "the tensors up to '{}' are too large for one file",
                 tensor.name);
    }
    sizes.push_back(size);
  }
  header.append(padding_after(header.size()), '\0');
  TANDEM_RETURN_IF_ERROR(sink(AsBytes(header)));

  for (size_t i = 0; i < tensors_.size(); ++i) {
    TensorEntry& tensor = tensors_[i];
    uint64_t written = 0;
    const Sink counting = [&](std::span<const std::byte> bytes) -> Status {
      if (bytes.size() > sizes[i] - written) {
        return Err(ErrorCode::kInvalidArgument, "tensor '{}' has {} bytes, but was given more",
                   tensor.name, sizes[i]);
      }
      written += bytes.size();
      return sink(bytes);
    };
    TANDEM_RETURN_IF_ERROR(tensor.source(counting));
    if (written != sizes[i]) {
      return Err(ErrorCode::kInvalidArgument, "tensor '{}' has {} bytes, but was given {}",
                 tensor.name, sizes[i], written);
    }
    const std::string padding(padding_after(written), '\0');
    TANDEM_RETURN_IF_ERROR(sink(AsBytes(padding)));
  }
  return {};
}

Status Writer::Finish(const std::filesystem::path& path) {
  const std::filesystem::path temporary = fmt::format("{}.{}.partial", path.string(), ::getpid());
  TANDEM_ASSIGN_OR_RETURN(auto file,
                          os::OutputFile::Open(temporary, os::OutputFile::Mode::kTruncate));
  const auto write = [&]() -> Status {
    std::vector<std::byte> buffer;
    buffer.reserve(kBufferBytes);
    const auto flush = [&]() -> Status {
      TANDEM_RETURN_IF_ERROR(file.Append(buffer));
      buffer.clear();
      return {};
    };
    TANDEM_RETURN_IF_ERROR(WriteTo([&](std::span<const std::byte> bytes) -> Status {
      if (buffer.size() + bytes.size() > kBufferBytes) TANDEM_RETURN_IF_ERROR(flush());
      if (bytes.size() >= kBufferBytes) return file.Append(bytes);
      buffer.insert(buffer.end(), bytes.begin(), bytes.end());
      return {};
    }));
    TANDEM_RETURN_IF_ERROR(flush());
    TANDEM_RETURN_IF_ERROR(file.Sync());
    TANDEM_RETURN_IF_ERROR(file.Close());
    std::error_code error;
    std::filesystem::rename(temporary, path, error);
    if (error) {
      return ErrnoError(error.value(),
                        fmt::format("renaming '{}' to '{}'", temporary.string(), path.string()));
    }
    return {};
  };
  if (Status status = write(); !status) {
    std::error_code ignored;
    std::filesystem::remove(temporary, ignored);
    return status;
  }
  return os::SyncDirectory(path.has_parent_path() ? path.parent_path() : ".");
}

Result<std::vector<std::byte>> Writer::FinishInMemory() {
  std::vector<std::byte> file;
  TANDEM_RETURN_IF_ERROR(WriteTo([&](std::span<const std::byte> bytes) -> Status {
    file.insert(file.end(), bytes.begin(), bytes.end());
    return {};
  }));
  return file;
}

}  // namespace tandem::gguf
