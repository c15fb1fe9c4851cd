#include "fleet/catalogue/oci.h"

#include <algorithm>
#include <utility>

#include <boost/json.hpp>

#include "fleet/catalogue/catalogue.h"

namespace tandem::fleet::oci {
namespace {

namespace json = boost::json;

constexpr size_t kMaxEntries = 10'000;
constexpr size_t kMaxRepositoryBytes = 255;
constexpr size_t kMaxTagBytes = 128;
constexpr std::string_view kDigestPrefix = "sha256:";

std::unexpected<Error> BadField(std::string_view field) {
  return Err(ErrorCode::kCorrupt, "its field '{}' is missing or wrong", field);
}

Result<json::object> ParseObject(std::string_view text) {
  boost::system::error_code error;
  json::value value = json::parse(json::string_view(text.data(), text.size()), error);
  if (error || !value.is_object()) return Err(ErrorCode::kCorrupt, "it is not a JSON object");
  return std::move(value.get_object());
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

// Null where it is absent; nothing where it is something else than a list of a sane length.
Result<const json::array*> OptionalList(const json::object& object, const char* name) {
  const json::value* value = object.if_contains(name);
  if (value == nullptr || value->is_null()) return nullptr;
  if (!value->is_array() || value->get_array().size() > kMaxEntries) return BadField(name);
  return &value->get_array();
}

Result<Annotations> ParseAnnotations(const json::object& object) {
  Annotations annotations;
  const json::value* value = object.if_contains("annotations");
  if (value == nullptr || value->is_null()) return annotations;
  if (!value->is_object()) return BadField("annotations");
  for (const auto& member : value->get_object()) {
    if (!member.value().is_string()) return BadField("annotations");
    annotations.emplace(member.key(), member.value().get_string());
  }
  return annotations;
}

Result<Descriptor> ParseDescriptor(const json::value* value, const char* where) {
  const json::object* object = value != nullptr ? value->if_object() : nullptr;
  if (object == nullptr) return BadField(where);
  Descriptor descriptor;
  const auto media_type = OptionalText(*object, "mediaType");
  const auto artifact_type = OptionalText(*object, "artifactType");
  const auto digest = OptionalText(*object, "digest");
  const auto size = Number(*object, "size");
  if (!media_type || media_type->empty()) return BadField(fmt::format("{}.mediaType", where));
  if (!artifact_type) return BadField(fmt::format("{}.artifactType", where));
  if (!digest) return BadField(fmt::format("{}.digest", where));
  if (!size) return BadField(fmt::format("{}.size", where));
  const auto hex = DigestHex(*digest);
  if (!hex) {
    return Err(ErrorCode::kUnsupported, "the digest '{}' of its field '{}' is no sha256:HEX",
               digest->substr(0, 80), where);
  }
  descriptor.media_type = *media_type;
  descriptor.artifact_type = *artifact_type;
  descriptor.sha256 = *hex;
  descriptor.size_bytes = *size;
  TANDEM_ASSIGN_OR_RETURN(descriptor.annotations, ParseAnnotations(*object));
  return descriptor;
}

Result<std::vector<Descriptor>> ParseDescriptors(const json::object& object, const char* name) {
  std::vector<Descriptor> descriptors;
  TANDEM_ASSIGN_OR_RETURN(const json::array* list, OptionalList(object, name));
  if (list == nullptr) return descriptors;
  for (const json::value& element : *list) {
    TANDEM_ASSIGN_OR_RETURN(Descriptor descriptor, ParseDescriptor(&element, name));
    descriptors.push_back(std::move(descriptor));
  }
  return descriptors;
}

// schemaVersion, and mediaType where it is given.
Status CheckKind(const json::object& object, std::string_view media_type) {
  if (Number(object, "schemaVersion") != 2) return BadField("schemaVersion");
  const auto given = OptionalText(object, "mediaType");
  if (!given) return BadField("mediaType");
  if (given->empty() || *given == media_type) return {};
  return Err(ErrorCode::kUnsupported, "it is of type '{}'; only {} is understood",
             given->substr(0, 120), media_type);
}

json::object ToJson(const Annotations& annotations) {
  json::object object;
  for (const auto& [name, value] : annotations) object[name] = value;
  return object;
}

json::object ToJson(const Descriptor& descriptor) {
  json::object object = {{"mediaType", descriptor.media_type},
                         {"digest", fmt::format("{}{}", kDigestPrefix, descriptor.sha256)},
                         {"size", descriptor.size_bytes}};
  if (!descriptor.artifact_type.empty()) object["artifactType"] = descriptor.artifact_type;
  if (!descriptor.annotations.empty()) object["annotations"] = ToJson(descriptor.annotations);
  return object;
}

std::string_view Find(const Annotations& annotations, std::string_view name) {
  const auto found = annotations.find(name);
  return found == annotations.end() ? std::string_view() : std::string_view(found->second);
}

bool IsLowerOrDigit(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

// [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*
bool IsRepositoryPart(std::string_view part) {
  size_t at = 0;
  while (true) {
    const size_t word = at;
    while (at < part.size() && IsLowerOrDigit(part[at])) ++at;
    if (at == word) return false;
    if (at == part.size()) return true;
    const size_t separator = at;
    while (at < part.size() && !IsLowerOrDigit(part[at])) ++at;
    const std::string_view between = part.substr(separator, at - separator);
    const bool dashes = between.find_first_not_of('-') == between.npos;
    if (!dashes && between != "." && between != "_" && between != "__") return false;
  }
}

}  // namespace

std::string_view Descriptor::Annotation(std::string_view name) const {
  return Find(annotations, name);
}

std::string_view ImageManifest::Annotation(std::string_view name) const {
  return Find(annotations, name);
}

Result<ImageManifest> ParseManifest(std::string_view text) {
  TANDEM_ASSIGN_OR_RETURN(const json::object object, ParseObject(text));
  TANDEM_RETURN_IF_ERROR(CheckKind(object, kManifestType));
  ImageManifest manifest;
  const auto artifact_type = OptionalText(object, "artifactType");
  if (!artifact_type) return BadField("artifactType");
  manifest.artifact_type = *artifact_type;
  TANDEM_ASSIGN_OR_RETURN(manifest.config, ParseDescriptor(object.if_contains("config"), "config"));
  TANDEM_ASSIGN_OR_RETURN(manifest.layers, ParseDescriptors(object, "layers"));
  TANDEM_ASSIGN_OR_RETURN(manifest.annotations, ParseAnnotations(object));
  return manifest;
}

std::string FormatManifest(const ImageManifest& manifest) {
  json::array layers;
  for (const Descriptor& layer : manifest.layers) layers.push_back(ToJson(layer));
  json::object object = {{"schemaVersion", 2},
                         {"mediaType", kManifestType},
                         {"artifactType", manifest.artifact_type},
                         {"config", ToJson(manifest.config)},
                         {"layers", std::move(layers)}};
  if (!manifest.annotations.empty()) object["annotations"] = ToJson(manifest.annotations);
  return json::serialize(object);
}

Result<Index> ParseIndex(std::string_view text) {
  TANDEM_ASSIGN_OR_RETURN(const json::object object, ParseObject(text));
  TANDEM_RETURN_IF_ERROR(CheckKind(object, kIndexType));
  Index index;
  TANDEM_ASSIGN_OR_RETURN(index.manifests, ParseDescriptors(object, "manifests"));
  return index;
}

std::string FormatIndex(const Index& index) {
  json::array manifests;
  for (const Descriptor& manifest : index.manifests) manifests.push_back(ToJson(manifest));
  return json::serialize(json::object{
      {"schemaVersion", 2}, {"mediaType", kIndexType}, {"manifests", std::move(manifests)}});
}

Result<ChunkList> ParseChunkList(std::string_view text) {
  TANDEM_ASSIGN_OR_RETURN(const json::object object, ParseObject(text));
  ChunkList list;
  const auto chunk_bytes = Number(object, "chunk_bytes");
  if (!chunk_bytes || *chunk_bytes == 0) return BadField("chunk_bytes");
  list.chunk_bytes = *chunk_bytes;
  const json::value* files = object.if_contains("files");
  if (files == nullptr || !files->is_object()) return BadField("files");
  for (const auto& member : files->get_object()) {
    if (!IsSha256Hex(member.key()) || !member.value().is_array()) return BadField("files");
    std::vector<std::string>& digests = list.files[member.key()];
    for (const json::value& digest : member.value().get_array()) {
      if (!digest.is_string() || !IsSha256Hex(digest.get_string())) return BadField("files");
      digests.emplace_back(digest.get_string());
    }
  }
  return list;
}

std::string FormatChunkList(const ChunkList& list) {
  json::object files;
  for (const auto& [sha256, digests] : list.files) {
    files[sha256] = json::array(digests.begin(), digests.end());
  }
  return json::serialize(
      json::object{{"chunk_bytes", list.chunk_bytes}, {"files", std::move(files)}});
}

std::optional<std::string_view> DigestHex(std::string_view digest) {
  if (!digest.starts_with(kDigestPrefix)) return std::nullopt;
  digest.remove_prefix(kDigestPrefix.size());
  if (!IsSha256Hex(digest)) return std::nullopt;
  return digest;
}

bool IsRepository(std::string_view text) {
  if (text.empty() || text.size() > kMaxRepositoryBytes) return false;
  while (true) {
    const size_t slash = text.find('/');
    if (!IsRepositoryPart(text.substr(0, slash))) return false;
    if (slash == text.npos) return true;
    text.remove_prefix(slash + 1);
  }
}

bool IsTag(std::string_view text) {
  if (text.empty() || text.size() > kMaxTagBytes || text[0] == '.' || text[0] == '-') return false;
  return std::ranges::all_of(text, [](char c) {
    return IsLowerOrDigit(c) || (c >= 'A' && c <= 'Z') || c == '_' || c == '.' || c == '-';
  });
}

Address AddressOf(std::string_view name) {
  const size_t slash = name.rfind('/');
  const size_t colon = name.rfind(':');
  const bool tagged = colon != name.npos && (slash == name.npos || colon > slash);
  Address address{.repository = std::string(name.substr(0, tagged ? colon : name.npos)),
                  .tag = std::string(tagged ? name.substr(colon + 1) : kDefaultTag)};
  for (char& c : address.repository) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return address;
}

std::string NameOf(const Address& address) {
  return address.tag == kDefaultTag ? address.repository
                                    : fmt::format("{}:{}", address.repository, address.tag);
}

}  // namespace tandem::fleet::oci
