#include "engine/safetensors/file.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <numeric>
#include <utility>

#include <boost/json.hpp>

namespace tandem::safetensors {
namespace {

namespace json = boost::json;

static_assert(std::endian::native == std::endian::little);

constexpr std::string_view kMetadataKey = "__metadata__";
constexpr size_t kLengthBytes = 8;
// Names of models have some 60 bytes; messages and indices should stay readable.
constexpr size_t kMaxNameBytes = 255;

struct Dtype {
  std::string_view name;
  uint64_t bytes;
  std::optional<quant::Type> type = std::nullopt;
};
constexpr Dtype kDtypes[] = {
    {"F32", 4, quant::Type::kF32},
    {"F16", 2, quant::Type::kF16},
    {"BF16", 2, quant::Type::kBF16},
    {"BOOL", 1},
    {"U8", 1},
    {"I8", 1},
    {"F8_E4M3", 1},
    {"F8_E5M2", 1},
    {"F8_E8M0", 1},
    {"U16", 2},
    {"I16", 2},
    {"U32", 4},
    {"I32", 4},
    {"U64", 8},
    {"I64", 8},
    {"F64", 8},
    {"C64", 8},
};

std::string_view View(const json::string& s) { return {s.data(), s.size()}; }

// A count in JSON. False for anything else.
bool ReadCount(const json::value& value, uint64_t max, uint64_t* out) {
  if (const int64_t* number = value.if_int64(); number != nullptr && *number >= 0) {
    *out = static_cast<uint64_t>(*number);
  } else if (const uint64_t* large = value.if_uint64()) {
    *out = *large;
  } else {
    return false;
  }
  return *out <= max;
}

// What the header says of one tensor; its data lie in data_bytes behind the header.
class Entry {
 public:
  Entry(std::string_view file, std::string_view name, uint64_t data_bytes)
      : file_(file), name_(name), data_bytes_(data_bytes) {}

  Result<Tensor> Read(const json::value& value) {
    Tensor tensor;
    tensor.name = name_;
    if (name_.empty() || name_.size() > kMaxNameBytes) {
      return Corrupt("its name has {} bytes; expected 1 to {}", name_.size(), kMaxNameBytes);
    }
    const json::object* object = value.if_object();
    if (object == nullptr) return Corrupt("it is no JSON object");
    const json::value* dtype = object->if_contains("dtype");
    if (dtype == nullptr || !dtype->is_string()) return Corrupt("'dtype' is missing");
    tensor.dtype = View(dtype->get_string()).substr(0, 32);
    const auto* known = std::ranges::find(kDtypes, tensor.dtype, &Dtype::name);
    if (known == std::end(kDtypes)) {
      return Err(ErrorCode::kUnsupported, "{}: tensor {} has the unknown dtype '{}'", file_,
                 Shown(), tensor.dtype);
    }
    tensor.type = known->type;
    TANDEM_ASSIGN_OR_RETURN(const uint64_t n_elements, ReadShape(*object, &tensor.shape));
    TANDEM_RETURN_IF_ERROR(ReadOffsets(*object));
    // Elements are below 2^56 and a dtype has at most 8 bytes.
    if (end_ - begin_ != n_elements * known->bytes) {
      return Corrupt("{} of shape {} takes {} bytes, but its offsets are {} to {}", tensor.dtype,
                     tensor.ShapeText(), n_elements * known->bytes, begin_, end_);
    }
    tensor.n_bytes = end_ - begin_;
    return tensor;
  }

  uint64_t begin() const { return begin_; }

 private:
  Result<uint64_t> ReadShape(const json::object& object, std::vector<int64_t>* shape) {
    const json::value* value = object.if_contains("shape");
    const json::array* dims = value == nullptr ? nullptr : value->if_array();
    if (dims == nullptr || dims->size() > kMaxDimensions) {
      return Corrupt("'shape' is not a list of at most {} numbers", kMaxDimensions);
    }
    constexpr uint64_t kMaxElements = uint64_t{1} << 56;
    uint64_t product = 1;
    bool empty = false;
    for (const json::value& dim : *dims) {
      uint64_t count = 0;
      if (!ReadCount(dim, kMaxElements, &count)) {
        return Corrupt("'shape' holds something else than counts");
      }
      shape->push_back(static_cast<int64_t>(count));
      if (count == 0) {
        empty = true;
      } else if (product > kMaxElements / count) {
        return Corrupt("its shape has more elements than a file can hold");
      } else {
        product *= count;
      }
    }
    return empty ? 0 : product;
  }

  Status ReadOffsets(const json::object& object) {
    const json::value* value = object.if_contains("data_offsets");
    const json::array* offsets = value == nullptr ? nullptr : value->if_array();
    if (offsets == nullptr || offsets->size() != 2 ||
        !ReadCount((*offsets)[0], std::numeric_limits<uint64_t>::max(), &begin_) ||
        !ReadCount((*offsets)[1], std::numeric_limits<uint64_t>::max(), &end_)) {
      return Corrupt("'data_offsets' is not a pair of counts");
    }
    if (begin_ > end_ || end_ > data_bytes_) {
      return Corrupt("its offsets are {} to {}, but there are {} bytes of data; is the file whole?",
                     begin_, end_, data_bytes_);
    }
    return {};
  }

  template <typename... Args>
  std::unexpected<Error> Corrupt(fmt::format_string<Args...> format, Args&&... args) const {
    return Err(ErrorCode::kCorrupt, "{}: tensor {}: {}", file_, Shown(),
               fmt::format(format, std::forward<Args>(args)...));
  }
  std::string_view Shown() const { return name_.substr(0, kMaxNameBytes); }

  const std::string_view file_;
  const std::string_view name_;
  const uint64_t data_bytes_;
  uint64_t begin_ = 0;
  uint64_t end_ = 0;
};

}  // namespace

std::string Tensor::ShapeText() const {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += fmt::format("{}{}", i == 0 ? "" : ", ", shape[i]);
  }
  return text + "]";
}

Result<File> File::Open(const std::filesystem::path& path) {
  TANDEM_ASSIGN_OR_RETURN(os::MappedFile mapping, os::MappedFile::Open(path));
  File file;
  TANDEM_RETURN_IF_ERROR(file.Read(mapping.bytes(), path.string()));
  file.mapping_ = std::move(mapping);
  return file;
}

Result<File> File::Parse(std::span<const std::byte> bytes, std::string_view name) {
  File file;
  TANDEM_RETURN_IF_ERROR(file.Read(bytes, name));
  return file;
}

Status File::Read(std::span<const std::byte> bytes, std::string_view name) {
  name_ = name;
  n_bytes_ = bytes.size();
  uint64_t header_bytes = 0;
  if (bytes.size() < kLengthBytes) {
    return Err(ErrorCode::kCorrupt, "{}: {} bytes are too few for a safetensors file", name,
               bytes.size());
  }
  std::memcpy(&header_bytes, bytes.data(), kLengthBytes);
  if (header_bytes > kMaxHeaderBytes || header_bytes > bytes.size() - kLengthBytes) {
    return Err(ErrorCode::kCorrupt,
               "{}: a header of {} bytes in a file of {}; this is no whole safetensors file", name,
               header_bytes, bytes.size());
  }
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + kLengthBytes,
                              header_bytes);
  const std::span<const std::byte> data = bytes.subspan(kLengthBytes + header_bytes);
  if (!text.starts_with('{')) {
    return Err(ErrorCode::kCorrupt, "{}: the header does not start with '{{'", name);
  }
  boost::system::error_code error;
  json::monotonic_resource memory;
  const json::value document = json::parse({text.data(), text.size()}, error, &memory);
  if (error || !document.is_object()) {
    return Err(ErrorCode::kCorrupt, "{}: the header is not a JSON object: {}", name,
               error.message());
  }

  for (const auto& [key, value] : document.get_object()) {
    if (std::string_view(key.data(), key.size()) == kMetadataKey) continue;
    Entry entry(name, {key.data(), key.size()}, data.size());
    TANDEM_ASSIGN_OR_RETURN(Tensor tensor, entry.Read(value));
    tensor.data = data.data() + entry.begin();
    tensors_.push_back(std::move(tensor));
  }
  std::ranges::sort(tensors_, [](const Tensor& a, const Tensor& b) {
    return std::pair(a.data, a.n_bytes) < std::pair(b.data, b.n_bytes);
  });
  // A name that stands twice in the header leaves a gap, for only its last entry counts.
  const std::byte* end = data.data();
  for (const Tensor& tensor : tensors_) {
    if (tensor.data != end) {
      return Err(ErrorCode::kCorrupt,
                 "{}: tensor {} starts at byte {} of the data, the one before it ends at {}", name,
                 tensor.name, tensor.data - data.data(), end - data.data());
    }
    end += tensor.n_bytes;
  }
  if (end != data.data() + data.size()) {
    return Err(ErrorCode::kCorrupt, "{}: {} bytes behind the last tensor belong to none", name,
               data.data() + data.size() - end);
  }
  names_in_order_.resize(tensors_.size());
  std::iota(names_in_order_.begin(), names_in_order_.end(), size_t{0});
  std::ranges::sort(names_in_order_, {},
                    [&](size_t i) -> const std::string& { return tensors_[i].name; });
  return {};
}

const Tensor* File::Find(std::string_view name) const {
  const auto at = std::ranges::lower_bound(
      names_in_order_, name, {}, [&](size_t i) -> std::string_view { return tensors_[i].name; });
  return at != names_in_order_.end() && tensors_[*at].name == name ? &tensors_[*at] : nullptr;
}

}  // namespace tandem::safetensors
