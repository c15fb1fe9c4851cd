#include "fleet/depot/publish.h"

#include <algorithm>
#include <set>
#include <system_error>
#include <utility>

#include <fmt/ranges.h>

#include "crypto/digest.h"
#include "fleet/depot/chunks.h"
#include "net/http_message.h"

namespace tandem::fleet {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxKeyBytes = 4096;
constexpr size_t kMaxSignedManifestBytes = 1UL << 20;

std::unexpected<Error> ParamError(ErrorCode code, std::string_view param, std::string message) {
  return std::unexpected(Error{code, std::move(message), std::string(param)});
}

ManifestFile FileOf(std::string_view name, std::string_view media_type, std::string_view content) {
  return {.name = std::string(name),
          .size_bytes = content.size(),
          .sha256 = crypto::Sha256Hex(content),
          .media_type = std::string(media_type)};
}

// Puts a file among the blobs, by a new name where the disk is the same, else by a copy.
Status PlaceFile(const Depot& depot, const fs::path& from, const ManifestFile& file) {
  if (depot.HasBlob(file)) return {};
  os::FileSystem& files = depot.files();
  if (files.Rename(from, depot.BlobPath(file))) {
    return files.SyncDirectory(depot.BlobPath(file).parent_path());
  }
  const fs::path part = depot.PartPath(file);
  std::error_code error;
  fs::copy_file(from, part, fs::copy_options::overwrite_existing, error);
  if (error) return ErrnoError(error.value(), fmt::format("copying '{}'", from.string()));
  TANDEM_ASSIGN_OR_RETURN(const auto copy, files.OpenWriter(part, os::OutputFile::Mode::kKeep));
  TANDEM_RETURN_IF_ERROR(copy->Sync());
  TANDEM_RETURN_IF_ERROR(copy->Close());
  TANDEM_RETURN_IF_ERROR(files.Rename(part, depot.BlobPath(file)));
  return files.SyncDirectory(depot.BlobPath(file).parent_path());
}

// The name, or its part before the tag.
std::string RepositoryOf(std::string_view name) {
  return oci::AddressOf(name.substr(0, name.find('@'))).repository;
}

bool IsQuantization(const Manifest& manifest, const Variant* variant, std::string_view wanted) {
  const std::string tag = oci::AddressOf(manifest.name).tag;
  if (wanted.empty() || net::EqualsIgnoreCase(tag, wanted) ||
      net::EqualsIgnoreCase(manifest.quant, wanted)) {
    return true;
  }
  return variant != nullptr && variant->IsQuantization(wanted) &&
         (net::EqualsIgnoreCase(tag, variant->name) ||
          net::EqualsIgnoreCase(manifest.quant, variant->quantization));
}

// A package for an NPU is preferred where one is asked for, not demanded.
const Variant* VariantFor(const CatalogueEntry& entry, const PackageQuestion& question) {
  const Variant* variant =
      entry.FindVariant(question.quantization, question.platform, question.npu);
  if (variant != nullptr || !question.npu) return variant;
  return entry.FindVariant(question.quantization, question.platform, false);
}

std::optional<SignedManifest> ReadSigned(const Depot& depot, const Manifest& manifest) {
  for (const ManifestFile& file : manifest.files) {
    if (file.media_type != oci::kSignedManifestType) continue;
    const Result<std::string> text = os::ReadFile(depot.BlobPath(file), kMaxSignedManifestBytes);
    if (!text) continue;
    if (Result<SignedManifest> parsed = SignedManifest::Parse(*text)) return *std::move(parsed);
  }
  return std::nullopt;
}

}  // namespace

Result<Manifest> Publish(const Depot& depot, PublishRequest request, const crypto::SigningKey& key,
                         const std::stop_token& stop) {
  const oci::Address address = oci::AddressOf(request.name);
  if (!oci::IsRepository(address.repository) || !oci::IsTag(address.tag)) {
    return ParamError(
        ErrorCode::kInvalidArgument, "name",
        fmt::format("'{}' is no name for a depot; one looks like demo:int4", request.name));
  }
  TANDEM_ASSIGN_OR_RETURN(const DigestedFile digested,
                          DigestFile(request.package, kChunkBytes, {}, stop));
  Manifest manifest{.name = oci::NameOf(address),
                    .quant = request.quantization,
                    .license = request.license,
                    .installed_at_s = request.now_s};
  std::string file_name = address.repository;
  std::ranges::replace(file_name, '/', '-');
  manifest.files.push_back({.name = fmt::format("{}-{}.tandem", file_name, address.tag),
                            .size_bytes = digested.size_bytes,
                            .sha256 = digested.sha256,
                            .media_type = std::string(oci::kPackageType)});
  if (request.manifest) {
    Variant& variant = request.manifest->variant;
    variant.size_bytes = digested.size_bytes;
    // A certificate holds for the bytes that were measured and no others.
    if (variant.certificate && variant.certificate->package_sha256 != digested.sha256) {
      variant.certificate.reset();
    }
    request.manifest->files = {{.name = manifest.files[0].name,
                                .size_bytes = digested.size_bytes,
                                .sha256 = digested.sha256}};
    TANDEM_ASSIGN_OR_RETURN(SignedManifest document, SignedManifest::Unsigned(*request.manifest));
    document.Sign(key);
    request.documents.push_back({.name = "manifest.json",
                                 .media_type = oci::kSignedManifestType,
                                 .content = document.Format()});
  }
  for (const auto& document : request.documents) {
    manifest.files.push_back(FileOf(document.name, document.media_type, document.content));
  }
  // From here on nobody frees what is put there.
  TANDEM_RETURN_IF_ERROR(depot.BeginPull(manifest));
  TANDEM_RETURN_IF_ERROR(PlaceFile(depot, request.package, manifest.files[0]));
  for (size_t i = 0; i < request.documents.size(); ++i) {
    TANDEM_RETURN_IF_ERROR(
        depot.PutBlob(manifest.files[i + 1].sha256, request.documents[i].content));
  }
  return depot.Commit(std::move(manifest), stop);
}

Result<crypto::SigningKey> OpenDepotKey(const fs::path& file) {
  // Two processes that start together must not each make one.
  fs::path lock_file = file;
  lock_file += ".lock";
  TANDEM_ASSIGN_OR_RETURN(const os::FileLock lock, os::FileLock::Acquire(lock_file));
  const Result<std::string> pem = os::ReadFile(file, kMaxKeyBytes);
  if (pem) {
    auto key = crypto::SigningKey::FromPem(*pem);
    if (!key) return Wrap(key.error(), fmt::format("the depot's key '{}'", file.string()));
    return key;
  }
  if (pem.error().code != ErrorCode::kNotFound) return std::unexpected(pem.error());
  crypto::SigningKey key = crypto::SigningKey::Generate();
  TANDEM_RETURN_IF_ERROR(os::WriteFileAtomic(file, key.ToPem(), 0600));
  return key;
}

std::optional<oci::Address> AddressFor(const Catalogue& catalogue,
                                       const PackageQuestion& question) {
  const CatalogueEntry* entry = catalogue.Find(question.model);
  if (entry == nullptr) return std::nullopt;
  const Variant* variant = VariantFor(*entry, question);
  if (variant == nullptr) return std::nullopt;
  return oci::Address{.repository = entry->name, .tag = variant->name};
}

Result<FoundPackage> FindPackage(const Depot& depot, const Catalogue& catalogue,
                                 const PackageQuestion& question) {
  const CatalogueEntry* entry = catalogue.Find(question.model);
  // "demo:int4" names the variant as well.
  const oci::Address asked = oci::AddressOf(entry != nullptr ? entry->name : question.model);
  const bool tagged = entry == nullptr && asked.tag != oci::kDefaultTag;
  const Variant* variant = nullptr;
  if (entry != nullptr) variant = VariantFor(*entry, question);
  TANDEM_ASSIGN_OR_RETURN(const std::vector<Manifest> models, depot.List());
  std::set<std::string> here;
  for (const Manifest& manifest : models) {
    if (manifest.by_reference() || RepositoryOf(manifest.name) != asked.repository) continue;
    if (tagged && oci::AddressOf(manifest.name).tag != asked.tag) continue;
    here.insert(manifest.quant.empty() ? oci::AddressOf(manifest.name).tag : manifest.quant);
    if (!IsQuantization(manifest, variant, question.quantization)) continue;
    FoundPackage found{.manifest = manifest,
                       .model = entry != nullptr ? entry->name : asked.repository,
                       .quantization = manifest.quant,
                       .signed_manifest = ReadSigned(depot, manifest)};
    const std::vector<std::string>* platforms =
        found.signed_manifest ? &found.signed_manifest->manifest().variant.platforms : nullptr;
    if (platforms == nullptr || platforms->empty() || question.platform.empty() ||
        found.signed_manifest->manifest().variant.RunsOn(question.platform)) {
      return found;
    }
    return ParamError(ErrorCode::kFailedPrecondition, "target_platform",
                      fmt::format("'{}' is made for {}, not for '{}'", manifest.name,
                                  fmt::join(*platforms, ", "), question.platform));
  }
  if (!here.empty()) {
    return ParamError(ErrorCode::kFailedPrecondition, "quantization",
                      fmt::format("'{}' is here as {}, not as '{}'", asked.repository,
                                  fmt::join(here, ", "), question.quantization));
  }
  if (entry != nullptr) {
    return ParamError(
        ErrorCode::kFailedPrecondition, "model",
        fmt::format("'{}' is known, but this depot does not have it; put it there with: tandem "
                    "publish {}",
                    entry->name, entry->name));
  }
  return ParamError(ErrorCode::kNotFound, "model",
                    fmt::format("there is no model '{}' in this depot", question.model));
}

}  // namespace tandem::fleet
