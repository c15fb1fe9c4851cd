// What a data directory adds to the catalogue: manifests that were checked when they came in, and
// the keys that they were checked with.
//
//   DIR/trust.json             docs/formats/manifest.md
//   DIR/manifests/DIGEST.json  a signed manifest; DIGEST is SHA-256 of its canonical text
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "fleet/catalogue/catalogue.h"
#include "fleet/catalogue/package_manifest.h"
#include "fleet/catalogue/trust_store.h"

namespace tandem::fleet {

// Thread: any; several processes may use one directory.
class CatalogueStore {
 public:
  // `directory` need not exist; it is made by the first Add.
  explicit CatalogueStore(std::filesystem::path directory) : directory_(std::move(directory)) {}

  std::filesystem::path trust_file() const { return directory_ / "trust.json"; }

  struct Added {
    SignedManifest manifest;
    std::optional<TrustedKey> vouched_by;  // empty: unsigned, and allowed to be
    bool replaced = false;                 // an earlier manifest of the same model and variant
  };
  // Takes the text of a manifest's file in, after it was checked against the trust store and
  // against what `base` knows. An earlier one of the same model and variant is removed.
  //   allow_unsigned  takes one without any signature of a key that is trusted; one whose signature
  //                   does not fit its bytes is refused all the same
  // Errors: those of SignedManifest::Parse, TrustStore::Check and Catalogue::With;
  // kFailedPrecondition for one that is older than what it would replace.
  Result<Added> Add(std::string_view text, const Catalogue& base, bool allow_unsigned,
                    int64_t now_s) const;

  // Every manifest, by model and variant. Those whose file was changed since, or cannot be read,
  // are left out and logged.
  Result<std::vector<SignedManifest>> List() const;

  // `base` with all of them.
  Result<Catalogue> Load(const Catalogue& base) const;

 private:
  std::filesystem::path ManifestFile(std::string_view digest) const;

  std::filesystem::path directory_;
};

}  // namespace tandem::fleet
