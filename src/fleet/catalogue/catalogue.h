// Charter of fleet/catalogue: which models are known by a short name, where their files come from,
// the variants that each can be had as (variant.h, certificate.h), manifests signed by those who
// are trusted (package_manifest.h, trust_store.h), and what a user's words for a model mean
// (model_ref.h). It may include base, os, crypto and fleet/json. It opens no connection and knows
// nothing of what is installed, nor of devices. The table is data (data/models.json), embedded at
// build time so that the program is one file; a data directory may add to it (catalogue_store.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "fleet/catalogue/package_manifest.h"
#include "fleet/catalogue/variant.h"

namespace tandem::fleet {

// A file, or the parts of a split one, in a repository of the hub.
struct HubSource {
  std::string repo;                         // "USER/NAME"
  std::string quant = {};                   // "Q4_K_M"; empty: the default order
  std::string revision = "main";            // branch, tag or commit
  std::optional<uint64_t> size_bytes = {};  // pins; where known
  std::string sha256 = {};                  // lower-case hex, or empty
};

struct CatalogueEntry {
  std::string name;
  std::vector<std::string> aliases;
  std::string title;
  std::string license;
  std::vector<HubSource> sources;  // in order of preference; empty for a bundled model
  std::string bundled_file;        // a file name within the installation; empty for the others
  std::string built_from = {};     // the public repository of the 16-bit weights; empty: none
  bool cloud = false;              // answered by an upstream; nothing of it comes to a device
  std::optional<ModelShape> shape = {};  // nothing where it is unknown
  // What a certificate must show before a variant is deployed by itself, parts per million of the
  // right answers of the 16-bit weights.
  uint32_t min_kept_accuracy_ppm = 0;
  uint32_t min_free_ram_gb = 0;        // published for the model; what is computed may be less
  std::vector<Variant> variants = {};  // in order of preference

  // The first variant of that quantisation and platform, for an NPU or for anything else; null
  // where there is none. An empty word fits all.
  const Variant* FindVariant(std::string_view quantization, std::string_view platform,
                             bool npu) const;
  const Variant* FindVariant(std::string_view name) const;
};

// What a device needs for a variant. Errors: kUnsupported where the shape or what its scheme takes
// is not known.
Result<MemoryNeeds> NeedsOf(const CatalogueEntry& entry, const Variant& variant,
                            int32_t context_tokens = kDefaultContextTokens);

// Why a variant is not chosen by itself for deployment, in words for a developer: no certificate,
// or one that shows less than the model asks. Empty: it may be.
std::string WhyNotDeployable(const CatalogueEntry& entry, const Variant& variant);

// Immutable. Thread: any.
class Catalogue {
 public:
  // Reads the format of data/models.json. Errors: kCorrupt, naming the entry and the field.
  static Result<Catalogue> Parse(std::string_view json);
  // The table that this program was built with.
  static const Catalogue& BuiltIn();

  // This table and what signed manifests add to it: a variant replaces the one of its name, a model
  // that nobody knew becomes an entry. Whose signatures count was decided before (TrustStore).
  // Errors: kAlreadyExists for an alias that is another model's name.
  Result<Catalogue> With(const std::vector<PackageManifest>& manifests) const;

  // By name or alias; null when unknown. The pointer lives as long as the catalogue.
  const CatalogueEntry* Find(std::string_view name) const;
  // The same, but null for a model of the cloud.
  const CatalogueEntry* FindOnDevice(std::string_view name) const;
  const std::vector<CatalogueEntry>& entries() const { return entries_; }

 private:
  explicit Catalogue(std::vector<CatalogueEntry> entries) : entries_(std::move(entries)) {}

  std::vector<CatalogueEntry> entries_;
};

// 64 lower-case hexadecimal digits.
bool IsSha256Hex(std::string_view text);

// "USER/NAME" of letters, digits, '.', '_' and '-', as the hub allows; neither part may be "." or
// "..", so that it is safe within a URL and a path.
bool IsHubRepo(std::string_view text);

// One path component that may become a file name here: letters, digits, '.', '_', '-' and '+', not
// beginning with '.', at most 200 bytes.
bool IsSafeFileName(std::string_view text);

}  // namespace tandem::fleet
