#include "app/catalogue.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include <boost/json.hpp>

#include "crypto/digest.h"
#include "os/file.h"

namespace tandem::app {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxManifestBytes = size_t{1} << 20;
constexpr size_t kMaxKeyBytes = size_t{64} << 10;
constexpr size_t kHashChunkBytes = size_t{8} << 20;

Result<fleet::PackageFile> Hash(const fs::path& path) {
  TANDEM_ASSIGN_OR_RETURN(const os::MappedFile file, os::MappedFile::Open(path));
  crypto::Sha256 sha256;
  const auto bytes = file.bytes();
  for (size_t at = 0; at < bytes.size(); at += kHashChunkBytes) {
    const size_t length = std::min(kHashChunkBytes, bytes.size() - at);
    sha256.Update(bytes.subspan(at, length));
    file.Release(at, length);
  }
  return fleet::PackageFile{.name = path.filename().string(),
                            .size_bytes = bytes.size(),
                            .sha256 = crypto::Hex(sha256.Finish())};
}

// A private key that others may read is no secret.
Result<crypto::SigningKey> ReadSigningKey(const fs::path& file) {
  TANDEM_ASSIGN_OR_RETURN(const std::string pem, os::ReadFile(file, kMaxKeyBytes));
  std::error_code error;
  const fs::perms perms = fs::status(file, error).permissions();
  if (error || (perms & (fs::perms::group_all | fs::perms::others_all)) != fs::perms::none) {
    return Err(ErrorCode::kFailedPrecondition,
               "others may read the key '{}'; make it yours alone: chmod 600 {}", file.string(),
               file.string());
  }
  auto key = crypto::SigningKey::FromPem(pem);
  if (!key) return Wrap(std::move(key).error(), file.string());
  return key;
}

Result<fleet::Certificate> ReadCertificate(const fs::path& file) {
  TANDEM_ASSIGN_OR_RETURN(const std::string text, os::ReadFile(file, kMaxManifestBytes));
  boost::system::error_code error;
  const boost::json::value value = boost::json::parse(text, error);
  if (error) {
    return Err(ErrorCode::kCorrupt, "'{}' is not JSON: {}", file.string(), error.message());
  }
  return fleet::ParseCertificate(value, file.string());
}

// Fills what was left empty from what is known; names what nobody said.
Status Complete(const fleet::Variant* known, fleet::Variant* variant) {
  if (known != nullptr) {
    if (variant->quantization.empty()) {
      variant->quantization = known->quantization;
      variant->quantization_aliases = known->quantization_aliases;
    }
    if (variant->scheme.empty()) variant->scheme = known->scheme;
    if (variant->platforms.empty()) variant->platforms = known->platforms;
  }
  const auto missing = [&](std::string_view option) {
    return Err(ErrorCode::kInvalidArgument,
               "the catalogue knows no variant '{}' of that model, so {} is needed", variant->name,
               option);
  };
  if (variant->quantization.empty()) return missing("--quantization");
  if (variant->scheme.empty()) return missing("--scheme");
  if (variant->platforms.empty()) return missing("--platforms");
  return {};
}

}  // namespace

Result<fleet::Catalogue> LoadCatalogue(const fs::path& data_dir) {
  return fleet::OpenCatalogueStore(data_dir).Load(fleet::Catalogue::BuiltIn());
}

Result<fleet::CatalogueStore::Added> AddManifest(const fs::path& data_dir, const fs::path& file,
                                                 bool allow_unsigned, const Clock& clock) {
  TANDEM_ASSIGN_OR_RETURN(const std::string text, os::ReadFile(file, kMaxManifestBytes));
  auto added = fleet::OpenCatalogueStore(data_dir).Add(
      text, fleet::Catalogue::BuiltIn(), allow_unsigned, UnixSeconds(clock.SystemNow()));
  if (!added) return Wrap(std::move(added).error(), file.string());
  return added;
}

Result<fleet::SignedManifest> DraftManifest(const fs::path& data_dir, const DraftOptions& options,
                                            const Clock& clock) {
  TANDEM_ASSIGN_OR_RETURN(const fleet::Catalogue catalogue, LoadCatalogue(data_dir));
  fleet::PackageManifest manifest{.model = options.model,
                                  .variant = {.name = options.variant,
                                              .quantization = options.quantization,
                                              .scheme = options.scheme,
                                              .platforms = options.platforms},
                                  .files = {},
                                  .built_from = options.built_from,
                                  .created_at_s = UnixSeconds(clock.SystemNow())};
  const fleet::CatalogueEntry* entry = catalogue.Find(options.model);
  const fleet::Variant* known = nullptr;
  if (entry != nullptr) {
    manifest.model = entry->name;
    manifest.aliases = entry->aliases;
    manifest.title = entry->title;
    manifest.license = entry->license;
    manifest.shape = entry->shape;
    manifest.min_kept_accuracy_ppm = entry->min_kept_accuracy_ppm;
    if (manifest.built_from.empty() && !entry->built_from.empty()) {
      manifest.built_from.push_back("hf.co/" + entry->built_from);
    }
    known = entry->FindVariant(options.variant);
    if (known != nullptr) manifest.variant.accelerator = known->accelerator;
  }
  if (!options.accelerator.empty()) {
    const auto accelerator = fleet::ParseAccelerator(options.accelerator);
    if (!accelerator) {
      return Err(ErrorCode::kInvalidArgument, "--accelerator must be cpu, gpu or npu, not '{}'",
                 options.accelerator);
    }
    manifest.variant.accelerator = *accelerator;
  }
  TANDEM_RETURN_IF_ERROR(Complete(known, &manifest.variant));
  for (const fs::path& path : options.files) {
    TANDEM_ASSIGN_OR_RETURN(fleet::PackageFile file, Hash(path));
    manifest.files.push_back(std::move(file));
  }
  if (!options.certificate.empty()) {
    TANDEM_ASSIGN_OR_RETURN(manifest.variant.certificate, ReadCertificate(options.certificate));
  }
  return fleet::SignedManifest::Unsigned(manifest);
}

Result<fleet::SignedManifest> SignManifestFile(const fs::path& file, const fs::path& key_file,
                                               const fs::path& out) {
  TANDEM_ASSIGN_OR_RETURN(const std::string text, os::ReadFile(file, kMaxManifestBytes));
  auto manifest = fleet::SignedManifest::Parse(text);
  if (!manifest) return Wrap(std::move(manifest).error(), file.string());
  TANDEM_ASSIGN_OR_RETURN(const crypto::SigningKey key, ReadSigningKey(key_file));
  manifest->Sign(key);
  TANDEM_RETURN_IF_ERROR(os::WriteFileAtomic(out, manifest->Format()));
  return manifest;
}

Result<crypto::PublicKey> MakeSigningKey(const fs::path& file) {
  const crypto::SigningKey key = crypto::SigningKey::Generate();
  TANDEM_ASSIGN_OR_RETURN(os::OutputFile out,
                          os::OutputFile::Open(file, os::OutputFile::Mode::kExclusive, 0600));
  TANDEM_RETURN_IF_ERROR(out.Append(key.ToPem()));
  TANDEM_RETURN_IF_ERROR(out.Sync());
  TANDEM_RETURN_IF_ERROR(out.Close());
  return key.Public();
}

Result<crypto::PublicKey> ReadPublicKey(const fs::path& file) {
  TANDEM_ASSIGN_OR_RETURN(const std::string pem, os::ReadFile(file, kMaxKeyBytes));
  if (auto key = crypto::PublicKey::FromPem(pem)) return key;
  TANDEM_ASSIGN_OR_RETURN(const crypto::SigningKey key, ReadSigningKey(file));
  return key.Public();
}

Result<std::string> RotateSigningKey(const fs::path& old_key_file, const fs::path& new_key_file,
                                     std::string_view new_name, int64_t old_not_after_s) {
  TANDEM_ASSIGN_OR_RETURN(const crypto::SigningKey old_key, ReadSigningKey(old_key_file));
  TANDEM_ASSIGN_OR_RETURN(const crypto::SigningKey new_key, ReadSigningKey(new_key_file));
  return fleet::MakeRotation(old_key, new_key, new_name, old_not_after_s);
}

Result<fleet::TrustStore> ReadTrust(const fs::path& data_dir) {
  return fleet::TrustStore::Read(fleet::OpenCatalogueStore(data_dir).trust_file());
}

Result<fleet::TrustedKey> ChangeTrust(
    const fs::path& data_dir,
    const std::function<Result<fleet::TrustedKey>(fleet::TrustStore&)>& change) {
  const fs::path file = fleet::OpenCatalogueStore(data_dir).trust_file();
  TANDEM_RETURN_IF_ERROR(os::MakeDirectories(file.parent_path()));
  TANDEM_ASSIGN_OR_RETURN(const os::FileLock lock,
                          os::FileLock::Acquire(file.parent_path() / "lock"));
  TANDEM_ASSIGN_OR_RETURN(fleet::TrustStore trust, fleet::TrustStore::Read(file));
  TANDEM_ASSIGN_OR_RETURN(fleet::TrustedKey key, change(trust));
  TANDEM_RETURN_IF_ERROR(trust.Write(file));
  return key;
}

}  // namespace tandem::app
