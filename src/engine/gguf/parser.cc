#include "engine/gguf/parser.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "base/utf8.h"

namespace tandem::gguf {
namespace {

// The least that an entry can take, to hold counts against the bytes that are left.
constexpr uint64_t kMinKeyValueBytes = 8 + 1 + 4 + 1;  // length, key, type, value
constexpr uint64_t kMinTensorInfoBytes =
    8 + 1 + 4 + 0 + 4 + 8;  // length, name, n_dims, type, offset

// Never reserve more than this many entries on the word of a header.
constexpr uint64_t kMaxReserve = 4096;

std::string HexBytes(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte byte : bytes) {
    if (!text.empty()) text += ' ';
    text += fmt::format("{:02x}", static_cast<unsigned>(byte));
  }
  return text;
}

class Parser {
 public:
  Parser(std::span<const std::byte> bytes, std::string_view name) : bytes_(bytes), name_(name) {}

  Result<ParsedFile> Parse() {
    TANDEM_RETURN_IF_ERROR(ReadHeader());
    TANDEM_RETURN_IF_ERROR(ReadMetadata());
    TANDEM_RETURN_IF_ERROR(ReadAlignment());
    TANDEM_RETURN_IF_ERROR(ReadTensors());
    return std::move(out_);
  }

 private:
  uint64_t remaining() const { return bytes_.size() - offset_; }

  template <typename... Args>
  std::unexpected<Error> FailAt(ErrorCode code, uint64_t offset, fmt::format_string<Args...> format,
                                Args&&... args) const {
    return Err(code, "{}: byte {}: {}", name_, offset,
               fmt::format(format, std::forward<Args>(args)...));
  }
  template <typename... Args>
  std::unexpected<Error> CorruptAt(uint64_t offset, fmt::format_string<Args...> format,
                                   Args&&... args) const {
    return FailAt(ErrorCode::kCorrupt, offset, format, std::forward<Args>(args)...);
  }
  std::unexpected<Error> Truncated(uint64_t offset, std::string_view what, uint64_t needed) const {
    return CorruptAt(offset,
                     "the file ends inside {}: {} bytes are needed, {} are left; the download is "
                     "incomplete or the file is damaged",
                     what, needed, bytes_.size() - offset);
  }

  // `what` names in messages what is being read.
  template <typename T>
  Result<T> Read(std::string_view what) {
    if (remaining() < sizeof(T)) return Truncated(offset_, what, sizeof(T));
    T value;
    std::memcpy(&value, bytes_.data() + offset_, sizeof(T));
    offset_ += sizeof(T);
    return value;
  }

  Result<std::string_view> ReadString(std::string_view what, uint64_t max_bytes) {
    const uint64_t start = offset_;
    TANDEM_ASSIGN_OR_RETURN(const auto length, Read<uint64_t>(what));
    if (length > max_bytes) {
      return CorruptAt(start, "{} has {} bytes, at most {} are allowed", what, length, max_bytes);
    }
    if (length > remaining()) return Truncated(offset_, what, length);
    const std::string_view text(reinterpret_cast<const char*>(bytes_.data() + offset_), length);
    offset_ += length;
    return text;
  }

  // A key or a tensor's name: not empty, UTF-8, no NUL.
  Result<std::string_view> ReadName(std::string_view what, uint64_t max_bytes) {
    const uint64_t start = offset_;
    TANDEM_ASSIGN_OR_RETURN(const std::string_view name, ReadString(what, max_bytes));
    if (name.empty()) return CorruptAt(start, "{} is empty", what);
    if (name.find('\0') != std::string_view::npos || !utf8::IsValid(name)) {
      return CorruptAt(start, "{} is not text: '{}'", what, utf8::Sanitize(name));
    }
    return name;
  }

  Status ReadHeader() {
    const auto magic = bytes_.first(std::min<size_t>(bytes_.size(), kMagic.size()));
    if (magic.size() < kMagic.size() ||
        std::memcmp(magic.data(), kMagic.data(), kMagic.size()) != 0) {
      return CorruptAt(0, "not a GGUF file: it starts with [{}] instead of 'GGUF'",
                       HexBytes(magic));
    }
    offset_ = kMagic.size();
    TANDEM_ASSIGN_OR_RETURN(out_.version, Read<uint32_t>("the version"));
    if (out_.version != 0 && (out_.version & 0xFFFF) == 0) {
      return FailAt(ErrorCode::kUnsupported, 4,
                    "a big-endian GGUF file (version {}); get a little-endian one",
                    std::byteswap(out_.version));
    }
    if (out_.version != 2 && out_.version != 3) {
      return FailAt(ErrorCode::kUnsupported, 4,
                    "GGUF version {}; versions 2 and 3 can be read: get a newer file, or a newer "
                    "Tandem",
                    out_.version);
    }
    TANDEM_ASSIGN_OR_RETURN(n_tensors_, Read<uint64_t>("the number of tensors"));
    TANDEM_ASSIGN_OR_RETURN(n_key_values_, Read<uint64_t>("the number of metadata entries"));
    if (n_key_values_ > remaining() / kMinKeyValueBytes) {
      return CorruptAt(16, "{} metadata entries cannot stand in the {} bytes that are left",
                       n_key_values_, remaining());
    }
    if (n_tensors_ > remaining() / kMinTensorInfoBytes) {
      return CorruptAt(8, "{} tensors cannot stand in the {} bytes that are left", n_tensors_,
                       remaining());
    }
    return {};
  }

  Status ReadMetadata() {
    out_.metadata.reserve(std::min(n_key_values_, kMaxReserve));
    for (uint64_t i = 0; i < n_key_values_; ++i) {
      KeyValue entry;
      TANDEM_ASSIGN_OR_RETURN(entry.key, ReadName("a metadata key", kMaxKeyBytes));
      TANDEM_RETURN_IF_ERROR(ReadValue(&entry));
      out_.metadata.push_back(entry);
    }

    std::vector<size_t>& order = out_.keys_in_order;
    order.resize(out_.metadata.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::ranges::sort(order, {}, [&](size_t i) { return std::pair(out_.metadata[i].key, i); });
    for (size_t i = 1; i < order.size(); ++i) {
      const KeyValue& first = out_.metadata[order[i - 1]];
      const KeyValue& second = out_.metadata[order[i]];
      if (first.key == second.key) {
        return CorruptAt(second.offset, "the key '{}' is there twice (first value at byte {})",
                         second.key, first.offset);
      }
    }
    return {};
  }

  Status ReadValue(KeyValue* entry) {
    const std::string what = fmt::format("the value of '{}'", entry->key);
    const uint64_t type_offset = offset_;
    TANDEM_ASSIGN_OR_RETURN(const auto type, Read<uint32_t>(what));
    entry->type = static_cast<ValueType>(type);
    entry->offset = offset_;
    if (entry->type == ValueType::kArray) {
      TANDEM_RETURN_IF_ERROR(ReadArray(what, entry));
    } else if (entry->type == ValueType::kString) {
      TANDEM_RETURN_IF_ERROR(ReadString(what, kMaxStringBytes));
    } else if (const size_t size = ScalarBytes(entry->type); size != 0) {
      TANDEM_RETURN_IF_ERROR(SkipNumbers(what, entry->type, 1));
    } else {
      return CorruptAt(type_offset, "{} has type {}, which GGUF does not have", what, type);
    }
    entry->bytes = bytes_.subspan(entry->offset, offset_ - entry->offset);
    return {};
  }

  Status ReadArray(const std::string& what, KeyValue* entry) {
    const uint64_t start = offset_;
    TANDEM_ASSIGN_OR_RETURN(const auto type, Read<uint32_t>(what));
    TANDEM_ASSIGN_OR_RETURN(entry->count, Read<uint64_t>(what));
    entry->element_type = static_cast<ValueType>(type);
    if (entry->element_type == ValueType::kArray) {
      return FailAt(ErrorCode::kUnsupported, start, "{} is an array of arrays, which is not read",
                    what);
    }
    if (entry->count > kMaxArrayElements) {
      return CorruptAt(start + 4, "{} has {} elements, at most {} are allowed", what, entry->count,
                       kMaxArrayElements);
    }
    if (entry->element_type == ValueType::kString) return SkipStrings(what, entry->count);
    if (ScalarBytes(entry->element_type) == 0) {
      return CorruptAt(start, "{} is an array of type {}, which GGUF does not have", what, type);
    }
    return SkipNumbers(what, entry->element_type, entry->count);
  }

  Status SkipNumbers(std::string_view what, ValueType type, uint64_t count) {
    const uint64_t size = count * ScalarBytes(type);  // count <= 2^30: no overflow
    if (size > remaining()) return Truncated(offset_, what, size);
    if (type == ValueType::kBool) {
      const auto bools = bytes_.subspan(offset_, size);
      const auto bad = std::ranges::find_if(bools, [](std::byte b) { return b > std::byte{1}; });
      if (bad != bools.end()) {
        return CorruptAt(offset_ + static_cast<uint64_t>(bad - bools.begin()),
                         "{} is a bool of value {}, which is neither 0 nor 1", what,
                         static_cast<unsigned>(*bad));
      }
    }
    offset_ += size;
    return {};
  }

  Status SkipStrings(std::string_view what, uint64_t count) {
    if (count > remaining() / sizeof(uint64_t)) {
      return Truncated(offset_, what, count * sizeof(uint64_t));
    }
    for (uint64_t i = 0; i < count; ++i) {
      if (auto text = ReadString(what, kMaxStringBytes); !text) {
        return std::unexpected(std::move(text).error());
      }
    }
    return {};
  }

  Status ReadAlignment() {
    out_.alignment = kDefaultAlignment;
    for (const KeyValue& entry : out_.metadata) {
      if (entry.key != kAlignmentKey) continue;
      const Result<uint64_t> value = entry.GetUint(kMaxAlignment);
      if (!value) return CorruptAt(entry.offset, "{}", value.error().message);
      if (!std::has_single_bit(*value)) {
        return CorruptAt(entry.offset, "'{}' is {}, which is not a power of two", kAlignmentKey,
                         *value);
      }
      out_.alignment = *value;
    }
    return {};
  }

  // What a tensor's entry says, before the place of the data is known.
  struct TensorInfo {
    Tensor tensor;
    uint64_t info_offset = 0;  // of the entry's offset field, for messages
    uint64_t data_offset = 0;  // as written: relative to the start of the data
  };

  Status ReadTensors() {
    if (n_tensors_ > remaining() / kMinTensorInfoBytes) {
      return CorruptAt(8, "{} tensors cannot stand in the {} bytes behind the metadata", n_tensors_,
                       remaining());
    }
    std::vector<TensorInfo> infos;
    infos.reserve(std::min(n_tensors_, kMaxReserve));
    for (uint64_t i = 0; i < n_tensors_; ++i) {
      TensorInfo info;
      TANDEM_RETURN_IF_ERROR(ReadTensorInfo(&info));
      infos.push_back(std::move(info));
    }
    return PlaceTensors(std::move(infos));
  }

  Status ReadTensorInfo(TensorInfo* info) {
    Tensor& tensor = info->tensor;
    TANDEM_ASSIGN_OR_RETURN(const std::string_view name,
                            ReadName("a tensor's name", kMaxTensorNameBytes));
    tensor.name = name;
    const std::string what = fmt::format("the entry of tensor '{}'", name);
    const uint64_t dims_offset = offset_;
    TANDEM_ASSIGN_OR_RETURN(const auto n_dims, Read<uint32_t>(what));
    if (n_dims > kMaxDimensions) {
      return CorruptAt(dims_offset, "tensor '{}' has {} dimensions, at most {} are allowed", name,
                       n_dims, kMaxDimensions);
    }
    tensor.n_dims = static_cast<int>(n_dims);
    int64_t n_elements = 1;
    for (uint32_t i = 0; i < n_dims; ++i) {
      const uint64_t dim_offset = offset_;
      TANDEM_ASSIGN_OR_RETURN(const auto dim, Read<uint64_t>(what));
      if (dim == 0 || dim > INT64_MAX ||
          __builtin_mul_overflow(n_elements, static_cast<int64_t>(dim), &n_elements)) {
        return CorruptAt(dim_offset, "dimension {} of tensor '{}' is {}, which is {}", i, name, dim,
                         dim == 0 ? "nothing" : "too large");
      }
      tensor.dims[i] = static_cast<int64_t>(dim);
    }

    const uint64_t type_offset = offset_;
    TANDEM_ASSIGN_OR_RETURN(const auto type, Read<uint32_t>(what));
    const quant::TypeInfo* type_info = quant::FindType(type);
    if (type_info == nullptr) return UnknownType(type_offset, name, type);
    tensor.type = type_info->type;
    if (tensor.dims[0] % type_info->block_elements != 0) {
      return CorruptAt(type_offset,
                       "tensor '{}' has rows of {} elements, which cannot be {} (blocks of {})",
                       name, tensor.dims[0], type_info->name, type_info->block_elements);
    }
    if (__builtin_mul_overflow(static_cast<uint64_t>(n_elements / type_info->block_elements),
                               static_cast<uint64_t>(type_info->block_bytes), &tensor.n_bytes)) {
      return CorruptAt(dims_offset, "tensor '{}' is too large", name);
    }
    info->info_offset = offset_;
    TANDEM_ASSIGN_OR_RETURN(info->data_offset, Read<uint64_t>(what));
    return {};
  }

  std::unexpected<Error> UnknownType(uint64_t offset, std::string_view tensor,
                                     uint32_t type) const {
    const std::string_view known = quant::GgmlTypeName(type);
    if (known.empty()) {
      return CorruptAt(offset, "tensor '{}' has type {}, which ggml has withdrawn or never had",
                       tensor, type);
    }
    return FailAt(ErrorCode::kUnsupported, offset,
                  "tensor '{}' has type {} ({}), which Tandem does not compute; get a file "
                  "quantised as Q4_K_M, Q4_0, Q5_K_M, Q6_K, Q8_0, F16 or BF16",
                  tensor, known, type);
  }

  // Each tensor must start where the one before it ends, rounded up to the alignment.
  Status PlaceTensors(std::vector<TensorInfo> infos) {
    if (infos.empty()) return {};
    const auto padded = [&](uint64_t offset, uint64_t* result) {
      if (__builtin_add_overflow(offset, out_.alignment - 1, result)) return false;
      *result &= ~(out_.alignment - 1);
      return true;
    };
    uint64_t data_start;
    if (!padded(offset_, &data_start) || data_start > bytes_.size()) {
      return CorruptAt(offset_,
                       "the file ends before the tensors' data; the download is incomplete or the "
                       "file is damaged");
    }
    const uint64_t data_size = bytes_.size() - data_start;
    uint64_t expected = 0;
    out_.tensors.reserve(infos.size());
    for (TensorInfo& info : infos) {
      Tensor& tensor = info.tensor;
      if (info.data_offset != expected) {
        return CorruptAt(info.info_offset,
                         "the data of tensor '{}' are said to be at {}, but must be at {}, right "
                         "behind those of the tensor before it",
                         tensor.name, info.data_offset, expected);
      }
      if (expected > data_size || tensor.n_bytes > data_size - expected) {
        return CorruptAt(info.info_offset,
                         "tensor '{}' has {} bytes of data at byte {}, which is behind the end of "
                         "the file ({} bytes); the download is incomplete or the file is damaged",
                         tensor.name, tensor.n_bytes, data_start + expected, bytes_.size());
      }
      tensor.data = bytes_.data() + data_start + expected;
      const auto alignment = static_cast<uint64_t>(quant::GetType(tensor.type).alignment);
      if ((data_start + expected) % alignment != 0) {
        return FailAt(ErrorCode::kUnsupported, info.info_offset,
                      "the data of tensor '{}' are not aligned to {} bytes; rewrite the file with "
                      "'{}' {}",
                      tensor.name, alignment, kAlignmentKey, kDefaultAlignment);
      }
      if (!padded(expected + tensor.n_bytes, &expected)) {
        return CorruptAt(info.info_offset, "tensor '{}' is too large", tensor.name);
      }
      out_.tensors.push_back(std::move(tensor));
    }
    return {};
  }

  const std::span<const std::byte> bytes_;
  const std::string_view name_;
  uint64_t offset_ = 0;
  uint64_t n_tensors_ = 0;
  uint64_t n_key_values_ = 0;
  ParsedFile out_;
};

}  // namespace

Result<ParsedFile> ParseFile(std::span<const std::byte> bytes, std::string_view name) {
  TANDEM_CHECK(reinterpret_cast<uintptr_t>(bytes.data()) % 4 == 0);
  return Parser(bytes, name).Parse();
}

}  // namespace tandem::gguf
