// `tandem catalogue`: the models that are known here, manifests that add to them, and the keys that
// sign manifests or are believed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "crypto/signature.h"
#include "fleet/advice.h"

namespace tandem::app {

// The built-in table with what the data directory adds.
Result<fleet::Catalogue> LoadCatalogue(const std::filesystem::path& data_dir);

// Takes a manifest's file in. Errors: those of CatalogueStore::Add, naming the file.
Result<fleet::CatalogueStore::Added> AddManifest(const std::filesystem::path& data_dir,
                                                 const std::filesystem::path& file,
                                                 bool allow_unsigned, const Clock& clock);

struct DraftOptions {
  std::string model;
  std::string variant;
  // What the catalogue knows of that model and variant stands where these are empty.
  std::string quantization;
  std::string scheme;
  std::string accelerator;
  std::vector<std::string> platforms;
  std::vector<std::filesystem::path> files;  // the first is the one to open
  std::filesystem::path certificate;         // a JSON file; empty: none
  std::vector<std::string> built_from;
};
// An unsigned manifest of files that are here: reads them all for their digests.
// Errors: kInvalidArgument naming what is missing; those of reading.
Result<fleet::SignedManifest> DraftManifest(const std::filesystem::path& data_dir,
                                            const DraftOptions& options, const Clock& clock);

// Adds a signature to a manifest's file and writes it to `out`, at once or not at all.
Result<fleet::SignedManifest> SignManifestFile(const std::filesystem::path& file,
                                               const std::filesystem::path& key_file,
                                               const std::filesystem::path& out);

// Makes a key and writes it, readable by its owner only. Errors: kAlreadyExists for a file that is
// there: a key is never overwritten.
Result<crypto::PublicKey> MakeSigningKey(const std::filesystem::path& file);

// The public half of a key file, or a public key as it is (PEM).
Result<crypto::PublicKey> ReadPublicKey(const std::filesystem::path& file);

// A statement by which the old key hands over to the new one (fleet::MakeRotation).
Result<std::string> RotateSigningKey(const std::filesystem::path& old_key_file,
                                     const std::filesystem::path& new_key_file,
                                     std::string_view new_name, int64_t old_not_after_s);

// Changes the data directory's trust store: reads it, lets `change` change it, writes it.
Result<fleet::TrustedKey> ChangeTrust(
    const std::filesystem::path& data_dir,
    const std::function<Result<fleet::TrustedKey>(fleet::TrustStore&)>& change);
Result<fleet::TrustStore> ReadTrust(const std::filesystem::path& data_dir);

}  // namespace tandem::app
