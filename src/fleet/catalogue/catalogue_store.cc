#include "fleet/catalogue/catalogue_store.h"

#include <algorithm>
#include <system_error>
#include <tuple>
#include <utility>

#include "base/log.h"
#include "os/file.h"

namespace tandem::fleet {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxManifestBytes = size_t{1} << 20;

bool SameVariant(const SignedManifest& a, const SignedManifest& b) {
  return a.manifest().model == b.manifest().model &&
         a.manifest().variant.name == b.manifest().variant.name;
}

// A wrong signature is never overlooked; a missing or unknown one where that was allowed.
Result<std::optional<TrustedKey>> Vouch(const SignedManifest& manifest, const TrustStore& trust,
                                        bool allow_unsigned, int64_t now_s) {
  auto key = trust.Check(manifest, now_s);
  if (key) return std::optional(*std::move(key));
  const bool wrong = std::ranges::any_of(manifest.signatures(), [&](const auto& signature) {
    const TrustedKey* known = trust.Find(signature.key_id);
    return known != nullptr && !manifest.IsSignedBy(known->key);
  });
  if (allow_unsigned && !wrong) return std::optional<TrustedKey>();
  return std::unexpected(std::move(key).error());
}

}  // namespace

fs::path CatalogueStore::ManifestFile(std::string_view digest) const {
  return directory_ / "manifests" / (std::string(digest) + ".json");
}

Result<CatalogueStore::Added> CatalogueStore::Add(std::string_view text, const Catalogue& base,
                                                  bool allow_unsigned, int64_t now_s) const {
  if (text.size() > kMaxManifestBytes) {
    return Err(ErrorCode::kCorrupt, "a manifest's file is at most {} bytes", kMaxManifestBytes);
  }
  TANDEM_ASSIGN_OR_RETURN(SignedManifest manifest, SignedManifest::Parse(text));
  TANDEM_ASSIGN_OR_RETURN(const TrustStore trust, TrustStore::Read(trust_file()));
  TANDEM_ASSIGN_OR_RETURN(auto vouched_by, Vouch(manifest, trust, allow_unsigned, now_s));

  const fs::path file = ManifestFile(manifest.digest());
  TANDEM_RETURN_IF_ERROR(os::MakeDirectories(file.parent_path()));
  TANDEM_ASSIGN_OR_RETURN(const os::FileLock lock, os::FileLock::Acquire(directory_ / "lock"));
  TANDEM_ASSIGN_OR_RETURN(const auto known, List());
  std::vector<PackageManifest> all;
  std::vector<fs::path> replaced;
  for (const SignedManifest& other : known) {
    if (!SameVariant(other, manifest)) {
      all.push_back(other.manifest());
      continue;
    }
    // An old manifest is signed as well as a new one: whoever offers it may want its old bytes
    // back.
    if (other.manifest().created_at_s > manifest.manifest().created_at_s) {
      return Err(ErrorCode::kFailedPrecondition,
                 "{} of {} is here already in a newer version (made at {}, this one at {})",
                 manifest.manifest().variant.name, manifest.manifest().model,
                 other.manifest().created_at_s, manifest.manifest().created_at_s);
    }
    if (other.digest() != manifest.digest()) replaced.push_back(ManifestFile(other.digest()));
  }
  all.push_back(manifest.manifest());
  TANDEM_RETURN_IF_ERROR(base.With(all));
  TANDEM_RETURN_IF_ERROR(os::WriteFileAtomic(file, manifest.Format()));
  for (const fs::path& old : replaced) {
    std::error_code error;
    fs::remove(old, error);
    if (error) log::Warning("removing {}: {}", old.string(), error.message());
  }
  return Added{.manifest = std::move(manifest),
               .vouched_by = std::move(vouched_by),
               .replaced = !replaced.empty()};
}

Result<std::vector<SignedManifest>> CatalogueStore::List() const {
  std::vector<SignedManifest> manifests;
  std::error_code error;
  for (fs::directory_iterator it(directory_ / "manifests", error), end; !error && it != end;
       it.increment(error)) {
    const fs::path& file = it->path();
    if (file.extension() != ".json") continue;
    const auto text = os::ReadFile(file, kMaxManifestBytes);
    auto manifest = text ? SignedManifest::Parse(*text) : std::unexpected(text.error());
    if (!manifest) {
      log::Warning("{}: {}; it is left out", file.string(), manifest.error().message);
    } else if (manifest->digest() != file.stem().string()) {
      log::Warning("{} is not what was added under that name; it is left out", file.string());
    } else {
      manifests.push_back(*std::move(manifest));
    }
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    return Err(ErrorCode::kIo, "cannot list '{}': {}", (directory_ / "manifests").string(),
               error.message());
  }
  std::ranges::sort(manifests, {}, [](const SignedManifest& manifest) {
    return std::tuple(manifest.manifest().model, manifest.manifest().variant.name,
                      manifest.manifest().created_at_s, manifest.digest());
  });
  return manifests;
}

Result<Catalogue> CatalogueStore::Load(const Catalogue& base) const {
  TANDEM_ASSIGN_OR_RETURN(const auto list, List());
  std::vector<PackageManifest> manifests;
  for (const SignedManifest& manifest : list) manifests.push_back(manifest.manifest());
  return base.With(manifests);
}

}  // namespace tandem::fleet
