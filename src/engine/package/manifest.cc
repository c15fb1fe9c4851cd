#include "engine/package/manifest.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include <boost/json.hpp>

#include "base/utf8.h"
#include "engine/kernels/fine_plane.h"

namespace tandem::package {
namespace {

namespace json = boost::json;

static_assert(std::endian::native == std::endian::little,
              "a package is mapped, not decoded: a big-endian machine cannot use it");

// As in the file.
struct RawHeader {
  char magic[8];
  uint32_t version;
  uint32_t header_bytes;
  uint64_t file_bytes;
  uint64_t manifest_offset;
  uint64_t manifest_bytes;
  uint8_t manifest_sha256[32];
  uint8_t zeros[56];
};
static_assert(sizeof(RawHeader) == kHeaderBytes);

constexpr std::string_view kStripsName = "strips";
constexpr std::string_view kRowsName = "rows";
constexpr std::string_view kFineName = "fine";

std::string_view LayoutName(Layout layout) {
  switch (layout) {
    case Layout::kStrips:
      return kStripsName;
    case Layout::kRows:
      return kRowsName;
    case Layout::kFine:
      return kFineName;
  }
  return {};
}

json::object PartToJson(const Part& part) {
  return {{"offset", part.offset}, {"bytes", part.n_bytes}, {"sha256", crypto::Hex(part.sha256)}};
}

std::unexpected<Error> BadField(std::string_view where, std::string_view field) {
  return Err(ErrorCode::kCorrupt, "the manifest's {}: '{}' is missing or wrong", where, field);
}

Result<uint64_t> Number(const json::object& object, std::string_view where, const char* field) {
  const json::value* value = object.if_contains(field);
  if (value == nullptr) return BadField(where, field);
  boost::system::error_code error;
  const auto number = value->to_number<uint64_t>(error);
  if (error) return BadField(where, field);
  return number;
}

Result<std::string> Text(const json::object& object, std::string_view where, const char* field) {
  const json::value* value = object.if_contains(field);
  if (value == nullptr || !value->is_string()) return BadField(where, field);
  return std::string(value->get_string());
}

Result<Part> PartFromJson(const json::object& object, std::string_view where) {
  Part part;
  TANDEM_ASSIGN_OR_RETURN(part.offset, Number(object, where, "offset"));
  TANDEM_ASSIGN_OR_RETURN(part.n_bytes, Number(object, where, "bytes"));
  TANDEM_ASSIGN_OR_RETURN(const std::string hex, Text(object, where, "sha256"));
  const Result<std::string> digest = crypto::FromHex(hex);
  if (!digest || digest->size() != part.sha256.size()) return BadField(where, "sha256");
  std::memcpy(part.sha256.data(), digest->data(), part.sha256.size());
  return part;
}

// The tensor's type by its name, which stands in a table of its layout.
Status ReadType(std::string_view layout, const std::string& type, Tensor* tensor) {
  if (layout == kStripsName) {
    tensor->layout = Layout::kStrips;
    const Result<kernels::Scheme> scheme = kernels::ParseScheme(type);
    if (scheme) {
      tensor->scheme = *scheme;
      return {};
    }
  } else if (layout == kRowsName) {
    tensor->layout = Layout::kRows;
    const Result<quant::Type> found = quant::ParseType(type);
    if (found) {
      tensor->type = *found;
      return {};
    }
  } else if (layout == kFineName) {
    tensor->layout = Layout::kFine;
    for (int bits = kernels::kMinFineBits; bits <= kernels::kMaxFineBits; ++bits) {
      if (type != FineTypeName(bits)) continue;
      tensor->fine_bits = bits;
      return {};
    }
  }
  return Err(ErrorCode::kUnsupported,
             "tensor '{}' is of type '{}' in {}, which this Tandem does not read; pack the model "
             "again",
             tensor->name, type.substr(0, 64), layout.substr(0, 64));
}

Result<Tensor> TensorFromJson(const json::value& value) {
  const json::object* object = value.if_object();
  if (object == nullptr) return BadField("file", "tensors");
  Tensor tensor;
  TANDEM_ASSIGN_OR_RETURN(tensor.name, Text(*object, "tensor", "name"));
  if (tensor.name.empty() || tensor.name.size() > kMaxTensorNameBytes ||
      !utf8::IsValid(tensor.name)) {
    return BadField("tensor", "name");
  }
  const std::string where = fmt::format("tensor '{}'", tensor.name);
  TANDEM_ASSIGN_OR_RETURN(const std::string layout, Text(*object, where, "layout"));
  TANDEM_ASSIGN_OR_RETURN(const std::string type, Text(*object, where, "type"));
  TANDEM_RETURN_IF_ERROR(ReadType(layout, type, &tensor));
  TANDEM_ASSIGN_OR_RETURN(const uint64_t n_rows, Number(*object, where, "rows"));
  TANDEM_ASSIGN_OR_RETURN(const uint64_t n_cols, Number(*object, where, "cols"));
  constexpr auto kMax = static_cast<uint64_t>(kernels::kMaxDimension);
  if (n_rows > kMax) return BadField(where, "rows");
  if (n_cols > kMax) return BadField(where, "cols");
  tensor.n_rows = static_cast<int64_t>(n_rows);
  tensor.n_cols = static_cast<int64_t>(n_cols);
  TANDEM_ASSIGN_OR_RETURN(const Part part, PartFromJson(*object, where));
  tensor.offset = part.offset;
  tensor.n_bytes = part.n_bytes;
  tensor.sha256 = part.sha256;
  const Result<uint64_t> n_bytes = TensorBytes(tensor);
  if (!n_bytes || *n_bytes != tensor.n_bytes) return BadField(where, "bytes");
  TANDEM_ASSIGN_OR_RETURN(tensor.source, Text(*object, where, "source"));
  const json::value* error = object->if_contains("error");
  if (error == nullptr || !error->is_number()) return BadField(where, "error");
  tensor.relative_error = error->to_number<double>();
  if (!(tensor.relative_error >= 0 && std::isfinite(tensor.relative_error))) {
    return BadField(where, "error");
  }
  return tensor;
}

// That the parts follow each other inside [kFirstOffset, end), each aligned.
class PlaceCheck {
 public:
  explicit PlaceCheck(uint64_t end) : end_(end) {}

  Status Next(std::string_view what, uint64_t offset, uint64_t n_bytes) {
    if (offset < free_ || offset % kernels::kStripAlignment != 0 || offset > end_ ||
        n_bytes > end_ - offset) {
      return Err(ErrorCode::kCorrupt,
                 "{} is said to be {} bytes at offset {}; expected a multiple of {} in {}..{}",
                 what, n_bytes, offset, kernels::kStripAlignment, free_, end_);
    }
    free_ = offset + n_bytes;
    return {};
  }

 private:
  const uint64_t end_;
  uint64_t free_ = kFirstOffset;
};

}  // namespace

std::string_view FineTypeName(int fine_bits) {
  constexpr std::string_view kNames[] = {"fine3", "fine4"};
  static_assert(std::size(kNames) == kernels::kMaxFineBits - kernels::kMinFineBits + 1);
  return kNames[fine_bits - kernels::kMinFineBits];
}

Result<uint64_t> TensorBytes(const Tensor& tensor) {
  if (tensor.layout == Layout::kStrips) {
    TANDEM_ASSIGN_OR_RETURN(const int64_t bytes,
                            kernels::PackedBytes(tensor.scheme, tensor.n_rows, tensor.n_cols));
    return static_cast<uint64_t>(bytes);
  }
  if (tensor.layout == Layout::kFine) {
    TANDEM_ASSIGN_OR_RETURN(
        const int64_t bytes,
        kernels::FinePlaneBytes(tensor.fine_bits, tensor.n_rows, tensor.n_cols));
    return static_cast<uint64_t>(bytes);
  }
  const int block = quant::GetType(tensor.type).block_elements;
  if (tensor.n_rows < 1 || tensor.n_rows > kernels::kMaxDimension || tensor.n_cols < 1 ||
      tensor.n_cols > kernels::kMaxDimension || tensor.n_cols % block != 0) {
    return Err(ErrorCode::kInvalidArgument,
               "a matrix of {} x {} cannot be rows of {}: the columns must be a multiple of {}, "
               "both at most {}",
               tensor.n_rows, tensor.n_cols, quant::GetType(tensor.type).name, block,
               kernels::kMaxDimension);
  }
  return static_cast<uint64_t>(tensor.n_rows) *
         static_cast<uint64_t>(quant::RowBytes(tensor.type, tensor.n_cols));
}

std::string FormatHeader(const Header& header) {
  RawHeader raw = {};
  std::memcpy(raw.magic, kMagic.data(), kMagic.size());
  raw.version = kVersion;
  raw.header_bytes = kHeaderBytes;
  raw.file_bytes = header.file_bytes;
  raw.manifest_offset = header.manifest_offset;
  raw.manifest_bytes = header.manifest_bytes;
  std::memcpy(raw.manifest_sha256, header.manifest_sha256.data(), header.manifest_sha256.size());
  return {reinterpret_cast<const char*>(&raw), sizeof raw};
}

Result<Header> ParseHeader(std::span<const std::byte> file) {
  RawHeader raw;
  if (file.size() < kMagic.size() || std::memcmp(file.data(), kMagic.data(), kMagic.size()) != 0) {
    return Err(ErrorCode::kCorrupt, "it does not start with '{}': this is no Tandem package",
               kMagic);
  }
  if (file.size() < sizeof raw) {
    return Err(ErrorCode::kCorrupt, "it ends after {} bytes, within its header", file.size());
  }
  std::memcpy(&raw, file.data(), sizeof raw);
  if (raw.version != kVersion) {
    return Err(ErrorCode::kUnsupported,
               "it has package version {}, this Tandem reads {}; pack the model again", raw.version,
               kVersion);
  }
  const bool zeros = std::ranges::all_of(raw.zeros, [](uint8_t byte) { return byte == 0; });
  if (raw.header_bytes != kHeaderBytes || !zeros) {
    return Err(ErrorCode::kCorrupt, "its header is damaged");
  }
  if (raw.file_bytes != file.size()) {
    return Err(ErrorCode::kCorrupt,
               "it should have {} bytes and has {}: it was cut off or changed; pack or download it "
               "again",
               raw.file_bytes, file.size());
  }
  if (raw.manifest_offset < kFirstOffset || raw.manifest_offset > file.size() ||
      raw.manifest_bytes != file.size() - raw.manifest_offset ||
      raw.manifest_bytes > kMaxManifestBytes) {
    return Err(ErrorCode::kCorrupt, "its header puts a manifest of {} bytes at {}",
               raw.manifest_bytes, raw.manifest_offset);
  }
  Header header = {.file_bytes = raw.file_bytes,
                   .manifest_offset = raw.manifest_offset,
                   .manifest_bytes = raw.manifest_bytes};
  std::memcpy(header.manifest_sha256.data(), raw.manifest_sha256, sizeof raw.manifest_sha256);
  return header;
}

std::string FormatManifest(const Manifest& manifest) {
  json::array tensors;
  for (const Tensor& tensor : manifest.tensors) {
    tensors.push_back({{"name", tensor.name},
                       {"layout", LayoutName(tensor.layout)},
                       {"type", tensor.type_name()},
                       {"rows", tensor.n_rows},
                       {"cols", tensor.n_cols},
                       {"offset", tensor.offset},
                       {"bytes", tensor.n_bytes},
                       {"sha256", crypto::Hex(tensor.sha256)},
                       {"source", tensor.source},
                       {"error", tensor.relative_error}});
  }
  json::object object = {{"model", PartToJson(manifest.model)}};
  if (manifest.tokenizer) object["tokenizer"] = PartToJson(*manifest.tokenizer);
  object["tensors"] = std::move(tensors);
  return json::serialize(object) + "\n";
}

Result<Manifest> ParseManifest(std::string_view text, uint64_t end) {
  boost::system::error_code error;
  json::parse_options options;
  options.max_depth = 8;
  const json::value value =
      json::parse(json::string_view(text.data(), text.size()), error, {}, options);
  const json::object* object = error ? nullptr : value.if_object();
  if (object == nullptr) return Err(ErrorCode::kCorrupt, "its manifest is not a JSON object");

  Manifest manifest;
  const json::value* tensors = object->if_contains("tensors");
  if (tensors == nullptr || !tensors->is_array()) return BadField("file", "tensors");
  PlaceCheck places(end);
  for (const json::value& element : tensors->get_array()) {
    TANDEM_ASSIGN_OR_RETURN(Tensor tensor, TensorFromJson(element));
    TANDEM_RETURN_IF_ERROR(
        places.Next(fmt::format("tensor '{}'", tensor.name), tensor.offset, tensor.n_bytes));
    manifest.tensors.push_back(std::move(tensor));
  }
  const json::value* model = object->if_contains("model");
  if (model == nullptr || !model->is_object()) return BadField("file", "model");
  TANDEM_ASSIGN_OR_RETURN(manifest.model, PartFromJson(model->get_object(), "model"));
  TANDEM_RETURN_IF_ERROR(places.Next("the model", manifest.model.offset, manifest.model.n_bytes));
  if (const json::value* tokenizer = object->if_contains("tokenizer"); tokenizer != nullptr) {
    if (!tokenizer->is_object()) return BadField("file", "tokenizer");
    TANDEM_ASSIGN_OR_RETURN(manifest.tokenizer, PartFromJson(tokenizer->get_object(), "tokenizer"));
    TANDEM_RETURN_IF_ERROR(
        places.Next("the tokenizer", manifest.tokenizer->offset, manifest.tokenizer->n_bytes));
  }
  return manifest;
}

}  // namespace tandem::package
