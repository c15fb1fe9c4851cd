// The documents of the Open Container Initiative that a model travels in: image manifest and image
// index (image-spec 1.1), and the names of its distribution API. docs/formats/oci-layout.md says
// what Tandem puts into them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace tandem::fleet::oci {

inline constexpr std::string_view kManifestType = "application/vnd.oci.image.manifest.v1+json";
inline constexpr std::string_view kIndexType = "application/vnd.oci.image.index.v1+json";

// A model of Tandem's, and its parts.
inline constexpr std::string_view kModelType = "application/vnd.tandem.model.v1";
inline constexpr std::string_view kConfigType = "application/vnd.oci.image.config.v1+json";
inline constexpr std::string_view kPackageType = "application/vnd.tandem.model.package.v1";
inline constexpr std::string_view kGgufType = "application/vnd.tandem.model.gguf.v1";
inline constexpr std::string_view kTokenizerType = "application/vnd.tandem.model.tokenizer.v1";
inline constexpr std::string_view kTemplateType = "application/vnd.tandem.model.template.v1";
inline constexpr std::string_view kLicenseType = "application/vnd.tandem.model.license.v1";
inline constexpr std::string_view kSignedManifestType =
    "application/vnd.tandem.model.manifest.v1+json";
inline constexpr std::string_view kChunksType = "application/vnd.tandem.model.chunks.v1+json";

inline constexpr std::string_view kTitle = "org.opencontainers.image.title";
inline constexpr std::string_view kRefName = "org.opencontainers.image.ref.name";
inline constexpr std::string_view kLicenses = "org.opencontainers.image.licenses";
inline constexpr std::string_view kSource = "org.opencontainers.image.source";
inline constexpr std::string_view kRevision = "org.opencontainers.image.revision";

// What any registry takes.
inline constexpr size_t kMaxManifestBytes = 4UL << 20;

using Annotations = std::map<std::string, std::string, std::less<>>;

struct Descriptor {
  std::string media_type;
  std::string sha256;  // 64 lower-case hexadecimal digits
  uint64_t size_bytes = 0;
  Annotations annotations = {};
  std::string artifact_type = {};

  // Empty where there is none of that name.
  std::string_view Annotation(std::string_view name) const;
};

struct ImageManifest {
  std::string artifact_type;
  Descriptor config;
  std::vector<Descriptor> layers;
  Annotations annotations;

  bool is_model() const { return artifact_type == kModelType || config.media_type == kConfigType; }
  std::string_view Annotation(std::string_view name) const;
};

// Errors: kCorrupt, naming the field; kUnsupported for another kind of document, or a digest that
// is no SHA-256. Counts and lengths are those of untrusted input.
Result<ImageManifest> ParseManifest(std::string_view json);
// The same text for the same manifest.
std::string FormatManifest(const ImageManifest& manifest);

// index.json of an image layout.
struct Index {
  std::vector<Descriptor> manifests;
};
Result<Index> ParseIndex(std::string_view json);
std::string FormatIndex(const Index& index);

// The digests of a list of consecutive chunks for each of a manifest's larger files: the content of
// the layer of type kChunksType.
struct ChunkList {
  uint64_t chunk_bytes = 0;
  std::map<std::string, std::vector<std::string>, std::less<>> files;  // by the file's sha256
};
Result<ChunkList> ParseChunkList(std::string_view json);
std::string FormatChunkList(const ChunkList& list);

// "sha256:HEX" to HEX; nothing for anything else.
std::optional<std::string_view> DigestHex(std::string_view digest);
// "library/demo": lower case, as the distribution API has it.
bool IsRepository(std::string_view text);
// "int4", "Q4_K_M", "latest".
bool IsTag(std::string_view text);

// A model's name in the depot and its address there: "demo:int4" is tag int4 of repository demo; a
// name without a tag is tag "latest". Repositories have no capitals, names may.
struct Address {
  std::string repository;
  std::string tag;
};
inline constexpr std::string_view kDefaultTag = "latest";
Address AddressOf(std::string_view name);
std::string NameOf(const Address& address);

}  // namespace tandem::fleet::oci
