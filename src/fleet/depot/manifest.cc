#include "fleet/depot/manifest.h"

#include <algorithm>
#include <optional>
#include <set>

#include <boost/json.hpp>

#include "crypto/digest.h"
#include "fleet/catalogue/catalogue.h"

namespace tandem::fleet {
namespace {

namespace json = boost::json;

constexpr int kSchema = 2;
constexpr std::string_view kRepo = "dev.tandem.repository";
constexpr std::string_view kQuantization = "dev.tandem.quantization";

std::unexpected<Error> BadField(std::string_view field) {
  return Err(ErrorCode::kCorrupt, "its field '{}' is missing or wrong", field);
}

// Absent is empty; anything but a string is nothing.
std::optional<std::string> OptionalText(const json::object& object, const char* name) {
  const json::value* value = object.if_contains(name);
  if (value == nullptr) return "";
  if (!value->is_string()) return std::nullopt;
  return std::string(value->get_string());
}

std::optional<uint64_t> Number(const json::object& object, const char* name) {
  const json::value* value = object.if_contains(name);
  if (value == nullptr) return std::nullopt;
  boost::system::error_code error;
  const auto number = value->to_number<uint64_t>(error);
  if (error) return std::nullopt;
  return number;
}

Result<json::object> ParseObject(std::string_view text) {
  boost::system::error_code error;
  json::value value = json::parse(json::string_view(text.data(), text.size()), error);
  if (error || !value.is_object()) return Err(ErrorCode::kCorrupt, "it is not a JSON object");
  if (const auto schema = Number(value.get_object(), "schema"); schema != kSchema) {
    return Err(ErrorCode::kCorrupt, "its schema is not {}; was it written by another Tandem?",
               kSchema);
  }
  return std::move(value.get_object());
}

Result<ManifestFile> ParseFile(const json::value& value) {
  const json::object* object = value.if_object();
  if (object == nullptr) return BadField("files");
  const auto name = OptionalText(*object, "name");
  const auto sha256 = OptionalText(*object, "sha256");
  const auto size = Number(*object, "size_bytes");
  if (!name || !IsSafeFileName(*name)) return BadField("files[].name");
  if (!sha256 || !IsSha256Hex(*sha256)) return BadField("files[].sha256");
  if (!size) return BadField("files[].size_bytes");
  return ManifestFile{.name = *name, .size_bytes = *size, .sha256 = *sha256};
}

std::string_view MediaTypeOf(const ManifestFile& file) {
  if (!file.media_type.empty()) return file.media_type;
  return file.name.ends_with(".tandem") ? oci::kPackageType : oci::kGgufType;
}

bool IsWeights(std::string_view media_type) {
  return media_type == oci::kPackageType || media_type == oci::kGgufType;
}

oci::Descriptor ToLayer(const ManifestFile& file) {
  return {.media_type = std::string(MediaTypeOf(file)),
          .sha256 = file.sha256,
          .size_bytes = file.size_bytes,
          .annotations = {{std::string(oci::kTitle), file.name}}};
}

// A layer that nobody named gets a name from its digest.
Result<ManifestFile> FromLayer(const oci::Descriptor& layer) {
  std::string name(layer.Annotation(oci::kTitle));
  if (name.empty()) name = layer.sha256.substr(0, 16);
  if (!IsSafeFileName(name)) return BadField("layers[].annotations.title");
  return ManifestFile{.name = std::move(name),
                      .size_bytes = layer.size_bytes,
                      .sha256 = layer.sha256,
                      .media_type = layer.media_type};
}

void Annotate(std::string_view name, const std::string& value, oci::Annotations* annotations) {
  if (!value.empty()) annotations->emplace(name, value);
}

}  // namespace

uint64_t Manifest::size_bytes() const {
  uint64_t sum = path_size_bytes;
  for (const ManifestFile& file : files) sum += file.size_bytes;
  return sum;
}

std::string Manifest::digest() const {
  return text.empty() ? std::string() : crypto::Sha256Hex(text);
}

std::string FormatConfig(const Manifest& manifest) {
  // Tools made for images look for the first two.
  return json::serialize(json::object{{"architecture", "any"},
                                      {"os", "any"},
                                      {"model", oci::AddressOf(manifest.name).repository},
                                      {"quantization", manifest.quant},
                                      {"license", manifest.license}});
}

std::string FormatOciManifest(const Manifest& manifest) {
  const std::string config = FormatConfig(manifest);
  oci::ImageManifest image{.artifact_type = std::string(oci::kModelType),
                           .config = {.media_type = std::string(oci::kConfigType),
                                      .sha256 = crypto::Sha256Hex(config),
                                      .size_bytes = config.size()},
                           .layers = {},
                           .annotations = {}};
  for (const ManifestFile& file : manifest.files) image.layers.push_back(ToLayer(file));
  if (manifest.chunks) image.layers.push_back(ToLayer(*manifest.chunks));
  Annotate(oci::kLicenses, manifest.license, &image.annotations);
  Annotate(oci::kRevision, manifest.revision, &image.annotations);
  Annotate(kRepo, manifest.repo, &image.annotations);
  Annotate(kQuantization, manifest.quant, &image.annotations);
  return oci::FormatManifest(image);
}

Result<Manifest> ParseOciManifest(std::string_view name, std::string_view text) {
  TANDEM_ASSIGN_OR_RETURN(const oci::ImageManifest image, oci::ParseManifest(text));
  if (!image.is_model()) {
    return Err(ErrorCode::kUnsupported, "it is no model of Tandem's but of type '{}'",
               image.artifact_type.empty() ? image.config.media_type : image.artifact_type);
  }
  Manifest manifest{.name = std::string(name),
                    .repo = std::string(image.Annotation(kRepo)),
                    .revision = std::string(image.Annotation(oci::kRevision)),
                    .quant = std::string(image.Annotation(kQuantization)),
                    .license = std::string(image.Annotation(oci::kLicenses)),
                    .text = std::string(text)};
  std::set<std::string, std::less<>> names;
  for (const oci::Descriptor& layer : image.layers) {
    TANDEM_ASSIGN_OR_RETURN(ManifestFile file, FromLayer(layer));
    if (!names.insert(file.name).second) return BadField("layers[].annotations.title");
    if (layer.media_type == oci::kChunksType) {
      manifest.chunks = std::move(file);
    } else {
      manifest.files.push_back(std::move(file));
    }
  }
  // What is opened comes first, wherever it stood.
  const auto weights = std::ranges::find_if(manifest.files, IsWeights, &ManifestFile::media_type);
  if (weights == manifest.files.end()) return BadField("layers");
  std::rotate(manifest.files.begin(), weights, weights + 1);
  return manifest;
}

std::string FormatPull(const Manifest& manifest) {
  json::array files;
  for (const ManifestFile& file : manifest.files) {
    files.push_back(json::object{
        {"name", file.name}, {"size_bytes", file.size_bytes}, {"sha256", file.sha256}});
  }
  return json::serialize(json::object{{"schema", kSchema},
                                      {"name", manifest.name},
                                      {"license", manifest.license},
                                      {"repo", manifest.repo},
                                      {"revision", manifest.revision},
                                      {"quant", manifest.quant},
                                      {"origin", manifest.origin},
                                      {"files", std::move(files)},
                                      {"manifest", manifest.text}}) +
         "\n";
}

Result<Manifest> ParsePull(std::string_view text) {
  TANDEM_ASSIGN_OR_RETURN(const json::object object, ParseObject(text));
  Manifest manifest{.name = OptionalText(object, "name").value_or("")};
  if (manifest.name.empty()) return BadField("name");
  const std::pair<const char*, std::string*> texts[] = {
      {"repo", &manifest.repo},     {"revision", &manifest.revision},
      {"quant", &manifest.quant},   {"license", &manifest.license},
      {"origin", &manifest.origin}, {"manifest", &manifest.text}};
  for (const auto& [name, target] : texts) {
    auto field = OptionalText(object, name);
    if (!field) return BadField(name);
    *target = *std::move(field);
  }
  if (!manifest.text.empty()) {
    Result<Manifest> parsed = ParseOciManifest(manifest.name, manifest.text);
    if (!parsed) return Wrap(parsed.error(), "its manifest");
    parsed->origin = manifest.origin;
    return parsed;
  }
  const json::value* files = object.if_contains("files");
  if (files == nullptr || !files->is_array() || files->get_array().empty()) {
    return BadField("files");
  }
  for (const json::value& element : files->get_array()) {
    TANDEM_ASSIGN_OR_RETURN(ManifestFile file, ParseFile(element));
    manifest.files.push_back(std::move(file));
  }
  return manifest;
}

std::string FormatReference(const Manifest& manifest) {
  return json::serialize(json::object{{"schema", kSchema},
                                      {"name", manifest.name},
                                      {"installed_at_s", manifest.installed_at_s},
                                      {"path", manifest.path.string()},
                                      {"path_size_bytes", manifest.path_size_bytes}}) +
         "\n";
}

Result<Manifest> ParseReference(std::string_view text) {
  TANDEM_ASSIGN_OR_RETURN(const json::object object, ParseObject(text));
  Manifest manifest{.name = OptionalText(object, "name").value_or("")};
  if (manifest.name.empty()) return BadField("name");
  manifest.installed_at_s = static_cast<int64_t>(Number(object, "installed_at_s").value_or(0));
  manifest.path = OptionalText(object, "path").value_or("");
  if (!manifest.path.is_absolute()) return BadField("path");
  const auto size = Number(object, "path_size_bytes");
  if (!size) return BadField("path_size_bytes");
  manifest.path_size_bytes = *size;
  return manifest;
}

Result<std::string> EncodeModelName(std::string_view name) {
  std::string encoded;
  for (const char c : name) {
    const bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    const bool dot = c == '.' && !encoded.empty();
    if (alnum || c == '_' || c == '-' || dot) {
      encoded.push_back(c);
    } else {
      encoded += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  if (encoded.empty() || encoded.size() > 200) {
    return std::unexpected(Error{ErrorCode::kInvalidArgument,
                                 fmt::format("a model's name has between 1 and 200 bytes"),
                                 "model"});
  }
  return encoded;
}

}  // namespace tandem::fleet
