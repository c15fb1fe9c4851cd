#include "fleet/depot/manifest.h"

#include <optional>

#include <boost/json.hpp>

#include "fleet/catalogue/catalogue.h"

namespace tandem::fleet {
namespace {

namespace json = boost::json;

constexpr int kSchema = 1;

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

}  // namespace

uint64_t Manifest::size_bytes() const {
  uint64_t sum = path_size_bytes;
  for (const ManifestFile& file : files) sum += file.size_bytes;
  return sum;
}

std::string FormatManifest(const Manifest& manifest) {
  json::object object = {{"schema", kSchema},
                         {"name", manifest.name},
                         {"license", manifest.license},
                         {"installed_at_s", manifest.installed_at_s}};
  if (manifest.by_reference()) {
    object["path"] = manifest.path.string();
    object["path_size_bytes"] = manifest.path_size_bytes;
  } else {
    object["repo"] = manifest.repo;
    object["revision"] = manifest.revision;
    object["quant"] = manifest.quant;
    json::array files;
    for (const ManifestFile& file : manifest.files) {
      files.push_back(json::object{
          {"name", file.name}, {"size_bytes", file.size_bytes}, {"sha256", file.sha256}});
    }
    object["files"] = std::move(files);
  }
  return json::serialize(object) + "\n";
}

Result<Manifest> ParseManifest(std::string_view text) {
  boost::system::error_code error;
  const json::value value = json::parse(json::string_view(text.data(), text.size()), error);
  const json::object* object = error ? nullptr : value.if_object();
  if (object == nullptr) return Err(ErrorCode::kCorrupt, "it is not a JSON object");
  if (const auto schema = Number(*object, "schema"); schema != kSchema) {
    return Err(ErrorCode::kCorrupt, "its schema is not {}; was it written by a newer Tandem?",
               kSchema);
  }
  Manifest manifest{.name = OptionalText(*object, "name").value_or("")};
  if (manifest.name.empty()) return BadField("name");
  const std::pair<const char*, std::string*> texts[] = {{"repo", &manifest.repo},
                                                        {"revision", &manifest.revision},
                                                        {"quant", &manifest.quant},
                                                        {"license", &manifest.license}};
  for (const auto& [name, target] : texts) {
    auto field = OptionalText(*object, name);
    if (!field) return BadField(name);
    *target = *std::move(field);
  }
  manifest.installed_at_s = static_cast<int64_t>(Number(*object, "installed_at_s").value_or(0));
  const auto path = OptionalText(*object, "path");
  if (!path) return BadField("path");
  if (!path->empty()) {
    manifest.path = *path;
    if (!manifest.path.is_absolute()) return BadField("path");
    const auto size = Number(*object, "path_size_bytes");
    if (!size) return BadField("path_size_bytes");
    manifest.path_size_bytes = *size;
    return manifest;
  }
  const json::value* files = object->if_contains("files");
  if (files == nullptr || !files->is_array() || files->get_array().empty()) {
    return BadField("files");
  }
  for (const json::value& element : files->get_array()) {
    TANDEM_ASSIGN_OR_RETURN(ManifestFile file, ParseFile(element));
    manifest.files.push_back(std::move(file));
  }
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
