#include "fleet/depot/depot.h"

#include <algorithm>
#include <fstream>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include "base/log.h"
#include "crypto/digest.h"
#include "fleet/catalogue/catalogue.h"
#include "net/download.h"

namespace tandem::fleet {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxManifestBytes = 1UL << 20;
constexpr size_t kReadBufferBytes = 1UL << 20;
constexpr const char* kManifests = "manifests";
constexpr const char* kPulls = "pulls";

std::optional<uint64_t> FileSize(const fs::path& path) {
  std::error_code error;
  if (!fs::is_regular_file(path, error) || error) return std::nullopt;
  const uintmax_t size = fs::file_size(path, error);
  if (error) return std::nullopt;
  return size;
}

// Removing what is not there is no error.
Status Unlink(const fs::path& path) {
  std::error_code error;
  fs::remove(path, error);
  if (error) return ErrnoError(error.value(), fmt::format("removing '{}'", path.string()));
  return {};
}

// The digests that names in `directory` begin with.
std::set<std::string> DigestsIn(const fs::path& directory) {
  std::set<std::string> digests;
  std::error_code error;
  fs::directory_iterator entries(directory, error);
  for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
    std::string digest = entries->path().filename().string().substr(0, 64);
    if (IsSha256Hex(digest)) digests.insert(std::move(digest));
  }
  return digests;
}

std::unexpected<Error> NotInstalled(std::string_view name) {
  return std::unexpected(
      Error{ErrorCode::kNotFound,
            fmt::format("no model '{}' is installed; 'tandem list' shows what is", name), "model"});
}

// Not being able to free files is no reason for a pull to fail.
Status LogIfNotFreed(const Result<uint64_t>& freed) {
  if (!freed) log::Warning("cannot free what an earlier version left: {}", freed.error().message);
  return {};
}

}  // namespace

Result<Depot> Depot::Open(const fs::path& relative) {
  std::error_code error;
  // Paths that are handed out stay true when the working directory changes.
  const fs::path directory = fs::absolute(relative, error);
  if (error) return ErrnoError(error.value(), fmt::format("finding '{}'", relative.string()));
  for (const char* folder : {"blobs/sha256", "incoming", kManifests, kPulls, "views"}) {
    TANDEM_RETURN_IF_ERROR(os::MakeDirectories(directory / folder));
  }
  return Depot(directory);
}

Result<os::FileLock> Depot::Lock() const { return os::FileLock::Acquire(directory_ / "lock"); }

Result<fs::path> Depot::ManifestPath(const char* folder, std::string_view name) const {
  TANDEM_ASSIGN_OR_RETURN(const std::string encoded, EncodeModelName(name));
  return directory_ / folder / (encoded + ".json");
}

Result<Manifest> Depot::Read(const fs::path& path) const {
  TANDEM_ASSIGN_OR_RETURN(const std::string text, os::ReadFile(path, kMaxManifestBytes));
  Result<Manifest> manifest = ParseManifest(text);
  if (!manifest) return Wrap(manifest.error(), fmt::format("'{}'", path.string()));
  const Result<std::string> encoded = EncodeModelName(manifest->name);
  if (!encoded || path.filename() != *encoded + ".json") {
    return Err(ErrorCode::kCorrupt, "'{}' holds the manifest of another model, '{}'", path.string(),
               manifest->name);
  }
  return manifest;
}

Result<std::vector<Manifest>> Depot::ReadAll(const char* folder, bool* all_readable) const {
  std::vector<Manifest> manifests;
  std::error_code error;
  fs::directory_iterator entries(directory_ / folder, error);
  for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
    if (entries->path().extension() != ".json") continue;  // a temporary file of a writer
    Result<Manifest> manifest = Read(entries->path());
    if (manifest) {
      manifests.push_back(std::move(manifest).value());
    } else if (manifest.error().code != ErrorCode::kNotFound) {  // else removed meanwhile
      log::Warning("skipping a damaged manifest: {}", manifest.error().message);
      if (all_readable != nullptr) *all_readable = false;
    }
  }
  if (error) {
    return ErrnoError(error.value(), fmt::format("reading '{}'", (directory_ / folder).string()));
  }
  std::ranges::sort(manifests, {}, &Manifest::name);
  return manifests;
}

Result<std::vector<Manifest>> Depot::List() const { return ReadAll(kManifests, nullptr); }

Result<std::vector<Manifest>> Depot::ListPulls() const { return ReadAll(kPulls, nullptr); }

Result<Manifest> Depot::Find(std::string_view name) const {
  TANDEM_ASSIGN_OR_RETURN(const fs::path path, ManifestPath(kManifests, name));
  Result<Manifest> manifest = Read(path);
  if (!manifest && manifest.error().code == ErrorCode::kNotFound) return NotInstalled(name);
  return manifest;
}

fs::path Depot::BlobPath(const ManifestFile& file) const {
  return directory_ / "blobs/sha256" / file.sha256;
}

fs::path Depot::PartPath(const ManifestFile& file) const {
  return directory_ / "incoming" / (file.sha256 + ".part");
}

bool Depot::HasBlob(const ManifestFile& file) const {
  return FileSize(BlobPath(file)) == file.size_bytes;
}

uint64_t Depot::BytesHere(const ManifestFile& file) const {
  if (HasBlob(file)) return file.size_bytes;
  return FileSize(PartPath(file)).value_or(0);
}

Status Depot::MakeView(const Manifest& manifest) const {
  TANDEM_ASSIGN_OR_RETURN(const std::string encoded, EncodeModelName(manifest.name));
  const fs::path view = directory_ / "views" / encoded;
  TANDEM_RETURN_IF_ERROR(os::MakeDirectories(view));
  for (const ManifestFile& file : manifest.files) {
    const fs::path link = view / file.name;
    // Relative, so that the directory can be moved.
    const fs::path target = fs::path("../../blobs/sha256") / file.sha256;
    std::error_code error;
    if (fs::read_symlink(link, error) == target && !error) continue;
    fs::remove(link, error);
    fs::create_symlink(target, link, error);
    // Another process may have made the same link just now.
    if (error && fs::read_symlink(link, error) != target) {
      return Err(ErrorCode::kIo, "making the link '{}' failed: {}", link.string(), error.message());
    }
  }
  return {};
}

Result<fs::path> Depot::ModelPath(const Manifest& manifest) const {
  if (manifest.by_reference()) {
    if (FileSize(manifest.path) == manifest.path_size_bytes) return manifest.path;
    return std::unexpected(Error{
        ErrorCode::kFailedPrecondition,
        fmt::format("'{}', the file of model '{}', was moved or changed; remove the name with: "
                    "tandem rm {}",
                    manifest.path.string(), manifest.name, manifest.name),
        "model"});
  }
  for (const ManifestFile& file : manifest.files) {
    if (HasBlob(file)) continue;
    return std::unexpected(Error{
        ErrorCode::kFailedPrecondition,
        fmt::format("the file '{}' of model '{}' is missing or has the wrong length; fetch it "
                    "again with: tandem pull {}",
                    file.name, manifest.name, manifest.name),
        "model"});
  }
  TANDEM_RETURN_IF_ERROR(MakeView(manifest));
  TANDEM_ASSIGN_OR_RETURN(const std::string encoded, EncodeModelName(manifest.name));
  return directory_ / "views" / encoded / manifest.files.front().name;
}

// Removes every blob and part that no manifest and no pull names, wherever it came from: a crash in
// the middle of Remove leaves such files too. The caller holds the lock; a pull that is under way
// has its record, so its files are wanted.
Result<uint64_t> Depot::FreeUnwanted() const {
  std::set<std::string, std::less<>> wanted;
  bool all_readable = true;
  for (const char* folder : {kManifests, kPulls}) {
    TANDEM_ASSIGN_OR_RETURN(const std::vector<Manifest> manifests, ReadAll(folder, &all_readable));
    for (const Manifest& manifest : manifests) {
      for (const ManifestFile& file : manifest.files) wanted.insert(file.sha256);
    }
  }
  if (!all_readable) return 0;  // what the damaged manifest wants is not known: keep everything
  uint64_t freed_bytes = 0;
  for (const std::string& digest : DigestsIn(directory_ / "blobs/sha256")) {
    if (wanted.contains(digest)) continue;
    const fs::path blob = directory_ / "blobs/sha256" / digest;
    const uint64_t bytes = FileSize(blob).value_or(0);
    TANDEM_RETURN_IF_ERROR(Unlink(blob));
    freed_bytes += bytes;
  }
  for (const std::string& digest : DigestsIn(directory_ / "incoming")) {
    const fs::path part = PartPath({.name = {}, .sha256 = digest});
    if (wanted.contains(digest) || net::PartIsBusy(part)) continue;
    TANDEM_ASSIGN_OR_RETURN(const uint64_t bytes, net::RemovePart(part));
    freed_bytes += bytes;
  }
  return freed_bytes;
}

Status Depot::BeginPull(const Manifest& manifest) const {
  TANDEM_ASSIGN_OR_RETURN(const os::FileLock lock, Lock());
  TANDEM_ASSIGN_OR_RETURN(const fs::path path, ManifestPath(kPulls, manifest.name));
  const Result<Manifest> earlier = Read(path);
  TANDEM_RETURN_IF_ERROR(os::WriteFileAtomic(path, FormatManifest(manifest)));
  return earlier ? LogIfNotFreed(FreeUnwanted()) : Status();
}

Status Depot::Commit(const Manifest& manifest) const {
  TANDEM_ASSIGN_OR_RETURN(const os::FileLock lock, Lock());
  for (const ManifestFile& file : manifest.files) {
    if (HasBlob(file)) continue;
    return Err(ErrorCode::kUnavailable, "'{}' was removed by another process meanwhile", file.name);
  }
  TANDEM_ASSIGN_OR_RETURN(const fs::path path, ManifestPath(kManifests, manifest.name));
  TANDEM_ASSIGN_OR_RETURN(const fs::path pull, ManifestPath(kPulls, manifest.name));
  const Result<Manifest> earlier = Read(path);
  TANDEM_RETURN_IF_ERROR(MakeView(manifest));
  TANDEM_RETURN_IF_ERROR(os::WriteFileAtomic(path, FormatManifest(manifest)));
  TANDEM_RETURN_IF_ERROR(Unlink(pull));
  return earlier ? LogIfNotFreed(FreeUnwanted()) : Status();
}

Status Depot::AddReference(const Manifest& manifest) const {
  TANDEM_ASSIGN_OR_RETURN(const os::FileLock lock, Lock());
  TANDEM_ASSIGN_OR_RETURN(const fs::path path, ManifestPath(kManifests, manifest.name));
  std::error_code error;
  if (fs::exists(path, error)) {
    return std::unexpected(
        Error{ErrorCode::kAlreadyExists,
              fmt::format("a model '{}' is installed already; remove it with: tandem rm {}",
                          manifest.name, manifest.name),
              "model"});
  }
  if (FileSize(manifest.path) != manifest.path_size_bytes) {
    return Err(ErrorCode::kNotFound, "'{}' is not a file", manifest.path.string());
  }
  return os::WriteFileAtomic(path, FormatManifest(manifest));
}

Result<uint64_t> Depot::Remove(std::string_view name) const {
  TANDEM_ASSIGN_OR_RETURN(const os::FileLock lock, Lock());
  TANDEM_ASSIGN_OR_RETURN(const fs::path path, ManifestPath(kManifests, name));
  TANDEM_ASSIGN_OR_RETURN(const fs::path pull_path, ManifestPath(kPulls, name));
  bool found = false;
  for (const fs::path& record : {path, pull_path}) {
    const Result<Manifest> manifest = Read(record);
    found = found || manifest || manifest.error().code != ErrorCode::kNotFound;
    if (!manifest) continue;
    // While somebody downloads, refuse before anything has changed.
    for (const ManifestFile& file : manifest->files) {
      if (HasBlob(file) || !net::PartIsBusy(PartPath(file))) continue;
      return std::unexpected(Error{
          ErrorCode::kFailedPrecondition,
          fmt::format("'{}' is being pulled by another process; stop that first", name), "model"});
    }
  }
  if (!found) return NotInstalled(name);
  TANDEM_RETURN_IF_ERROR(Unlink(path));
  TANDEM_RETURN_IF_ERROR(Unlink(pull_path));
  TANDEM_RETURN_IF_ERROR(os::SyncDirectory(directory_ / kManifests));
  std::error_code ignored;
  fs::remove_all(directory_ / "views" / path.stem(), ignored);
  return FreeUnwanted();
}

Result<VerifiedFile> Depot::VerifyFile(const std::string& name, const fs::path& path,
                                       const ManifestFile& expected, uint64_t& bytes_read,
                                       const std::function<void(uint64_t)>& progress,
                                       const std::stop_token& stop) const {
  std::ifstream in(path, std::ios::binary);
  if (!in) return VerifiedFile{.name = name, .good = false, .problem = "it cannot be opened"};
  crypto::Sha256 sha256;
  std::string buffer(kReadBufferBytes, '\0');
  uint64_t size_bytes = 0;
  while (in) {
    if (stop.stop_requested()) return Err(ErrorCode::kCancelled, "cancelled");
    in.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    const auto count = static_cast<size_t>(in.gcount());
    sha256.Update(std::string_view(buffer.data(), count));
    size_bytes += count;
    bytes_read += count;
    if (progress) progress(bytes_read);
  }
  if (in.bad()) {
    return VerifiedFile{.name = name,
                        .good = false,
                        .problem = fmt::format("reading failed at byte {}", size_bytes)};
  }
  if (size_bytes != expected.size_bytes) {
    return VerifiedFile{
        .name = name,
        .good = false,
        .problem = fmt::format("it has {} bytes instead of {}", size_bytes, expected.size_bytes)};
  }
  if (expected.sha256.empty()) return VerifiedFile{.name = name, .good = true, .problem = {}};
  const std::string actual = crypto::Hex(sha256.Finish());
  if (actual == expected.sha256) return VerifiedFile{.name = name, .good = true, .problem = {}};
  return VerifiedFile{
      .name = name,
      .good = false,
      .problem = fmt::format("its SHA-256 is {} instead of {}", actual, expected.sha256)};
}

Result<std::vector<VerifiedFile>> Depot::Verify(const Manifest& manifest,
                                                const std::function<void(uint64_t)>& progress,
                                                const std::stop_token& stop) const {
  uint64_t bytes_read = 0;
  std::vector<VerifiedFile> verified;
  if (manifest.by_reference()) {
    // No digest was promised for a file of the user's: its length is all that can be compared.
    const ManifestFile expected{.name = {}, .size_bytes = manifest.path_size_bytes, .sha256 = {}};
    TANDEM_ASSIGN_OR_RETURN(VerifiedFile file,
                            VerifyFile(manifest.path.filename().string(), manifest.path, expected,
                                       bytes_read, progress, stop));
    verified.push_back(std::move(file));
  }
  for (const ManifestFile& expected : manifest.files) {
    TANDEM_ASSIGN_OR_RETURN(VerifiedFile file, VerifyFile(expected.name, BlobPath(expected),
                                                          expected, bytes_read, progress, stop));
    verified.push_back(std::move(file));
  }
  return verified;
}

}  // namespace tandem::fleet
