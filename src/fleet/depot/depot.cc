#include "fleet/depot/depot.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include "base/log.h"
#include "crypto/digest.h"
#include "fleet/catalogue/catalogue.h"
#include "fleet/depot/chunks.h"
#include "fleet/depot/uploads.h"
#include "net/download.h"

namespace tandem::fleet {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxRecordBytes = 8UL << 20;  // a pull's holds a manifest
constexpr size_t kMaxIndexBytes = 64UL << 20;
constexpr size_t kMaxChunkListBytes = 256UL << 20;
constexpr const char* kPulls = "pulls";
constexpr const char* kReferences = "references";
constexpr const char* kLayout = R"({"imageLayoutVersion":"1.0.0"})";
constexpr std::string_view kInstalledAt = "dev.tandem.installed-at";
constexpr std::string_view kOrigin = "dev.tandem.origin";

std::optional<uint64_t> FileSize(const fs::path& path) {
  std::error_code error;
  if (!fs::is_regular_file(path, error) || error) return std::nullopt;
  const uintmax_t size = fs::file_size(path, error);
  if (error) return std::nullopt;
  return size;
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

Result<Depot> Depot::Open(const fs::path& relative, os::FileSystem& files) {
  std::error_code error;
  // Paths that are handed out stay true when the working directory changes.
  const fs::path directory = fs::absolute(relative, error);
  if (error) return ErrnoError(error.value(), fmt::format("finding '{}'", relative.string()));
  for (const char* folder : {"blobs/sha256", "incoming", "uploads", kPulls, kReferences, "views"}) {
    TANDEM_RETURN_IF_ERROR(os::MakeDirectories(directory / folder));
  }
  Depot depot(directory, &files);
  if (!fs::exists(directory / "oci-layout", error)) {
    TANDEM_ASSIGN_OR_RETURN(const os::FileLock lock, depot.Lock());
    TANDEM_RETURN_IF_ERROR(files.ReplaceFile(directory / "oci-layout", kLayout));
  }
  return depot;
}

Result<os::FileLock> Depot::Lock() const { return os::FileLock::Acquire(directory_ / "lock"); }

Result<fs::path> Depot::RecordPath(const char* folder, std::string_view name) const {
  TANDEM_ASSIGN_OR_RETURN(const std::string encoded, EncodeModelName(name));
  return directory_ / folder / (encoded + ".json");
}

Result<Manifest> Depot::ReadRecord(const fs::path& path, ParseRecord parse) const {
  TANDEM_ASSIGN_OR_RETURN(const std::string text, os::ReadFile(path, kMaxRecordBytes));
  Result<Manifest> manifest = parse(text);
  if (!manifest) return Wrap(manifest.error(), fmt::format("'{}'", path.string()));
  const Result<std::string> encoded = EncodeModelName(manifest->name);
  if (!encoded || path.filename() != *encoded + ".json") {
    return Err(ErrorCode::kCorrupt, "'{}' holds the record of another model, '{}'", path.string(),
               manifest->name);
  }
  return manifest;
}

Result<std::vector<Manifest>> Depot::ReadRecords(const char* folder, ParseRecord parse,
                                                 bool* all_readable) const {
  std::vector<Manifest> manifests;
  std::error_code error;
  fs::directory_iterator entries(directory_ / folder, error);
  for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
    if (entries->path().extension() != ".json") continue;  // a temporary file of a writer
    Result<Manifest> manifest = ReadRecord(entries->path(), parse);
    if (manifest) {
      manifests.push_back(std::move(manifest).value());
    } else if (manifest.error().code != ErrorCode::kNotFound) {  // else removed meanwhile
      log::Warning("skipping a damaged record: {}", manifest.error().message);
      if (all_readable != nullptr) *all_readable = false;
    }
  }
  if (error) {
    return ErrnoError(error.value(), fmt::format("reading '{}'", (directory_ / folder).string()));
  }
  std::ranges::sort(manifests, {}, &Manifest::name);
  return manifests;
}

Result<oci::Index> Depot::ReadIndex() const {
  const fs::path path = directory_ / "index.json";
  const Result<std::string> text = os::ReadFile(path, kMaxIndexBytes);
  if (!text) {
    if (text.error().code == ErrorCode::kNotFound) return oci::Index{};
    return std::unexpected(text.error());
  }
  Result<oci::Index> index = oci::ParseIndex(*text);
  if (index) return index;
  return Err(ErrorCode::kCorrupt,
             "'{}' is damaged ({}); remove it and pull the models again: their files are kept",
             path.string(), index.error().message);
}

Status Depot::WriteIndex(const oci::Index& index) const {
  return files_->ReplaceFile(directory_ / "index.json", oci::FormatIndex(index));
}

Result<std::string> Depot::ReadManifestBlob(const oci::Descriptor& entry) const {
  const fs::path path = BlobPath(entry.sha256);
  Result<std::string> text = os::ReadFile(path, oci::kMaxManifestBytes);
  if (!text) {
    // A blob that index.json names and that is not there is damage, not an absent model.
    return Err(ErrorCode::kCorrupt, "the manifest of '{}' cannot be read: {}",
               entry.Annotation(oci::kRefName), text.error().message);
  }
  if (crypto::Sha256Hex(*text) == entry.sha256) return text;
  return Err(ErrorCode::kCorrupt, "the manifest of '{}', '{}', is damaged",
             entry.Annotation(oci::kRefName), path.string());
}

Result<Manifest> Depot::ReadModel(const oci::Descriptor& entry) const {
  TANDEM_ASSIGN_OR_RETURN(const std::string text, ReadManifestBlob(entry));
  const std::string_view name = entry.Annotation(oci::kRefName);
  Result<Manifest> manifest = ParseOciManifest(name, text);
  if (!manifest) return Wrap(manifest.error(), fmt::format("the manifest of '{}'", name));
  manifest->origin = entry.Annotation(kOrigin);
  const std::string_view at = entry.Annotation(kInstalledAt);
  std::from_chars(at.data(), at.data() + at.size(), manifest->installed_at_s);
  return manifest;
}

Result<std::vector<Manifest>> Depot::List() const {
  TANDEM_ASSIGN_OR_RETURN(std::vector<Manifest> models,
                          ReadRecords(kReferences, ParseReference, nullptr));
  TANDEM_ASSIGN_OR_RETURN(const oci::Index index, ReadIndex());
  for (const oci::Descriptor& entry : index.manifests) {
    Result<Manifest> manifest = ReadModel(entry);
    if (manifest) {
      models.push_back(*std::move(manifest));
    } else if (manifest.error().code != ErrorCode::kUnsupported) {  // else no model
      log::Warning("skipping a model: {}", manifest.error().message);
    }
  }
  std::ranges::sort(models, {}, &Manifest::name);
  return models;
}

Result<std::vector<Manifest>> Depot::ListPulls() const {
  return ReadRecords(kPulls, ParsePull, nullptr);
}

Result<Manifest> Depot::Find(std::string_view name) const {
  TANDEM_ASSIGN_OR_RETURN(const fs::path reference, RecordPath(kReferences, name));
  Result<Manifest> manifest = ReadRecord(reference, ParseReference);
  if (manifest || manifest.error().code != ErrorCode::kNotFound) return manifest;
  TANDEM_ASSIGN_OR_RETURN(const oci::Index index, ReadIndex());
  for (const oci::Descriptor& entry : index.manifests) {
    if (entry.Annotation(oci::kRefName) == name) return ReadModel(entry);
  }
  return NotInstalled(name);
}

Result<std::vector<StoredManifest>> Depot::ListManifests() const {
  TANDEM_ASSIGN_OR_RETURN(const oci::Index index, ReadIndex());
  std::vector<StoredManifest> stored;
  for (const oci::Descriptor& entry : index.manifests) {
    Result<std::string> text = ReadManifestBlob(entry);
    if (!text) {
      log::Warning("skipping a manifest: {}", text.error().message);
      continue;
    }
    stored.push_back({.name = std::string(entry.Annotation(oci::kRefName)),
                      .sha256 = entry.sha256,
                      .media_type = entry.media_type,
                      .text = *std::move(text)});
  }
  return stored;
}

fs::path Depot::BlobPath(std::string_view sha256) const {
  return directory_ / "blobs/sha256" / sha256;
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

// What some manifest, pull or upload needs. The caller holds the lock.
Status Depot::Wanted(std::set<std::string, std::less<>>* wanted, bool* all_readable) const {
  TANDEM_ASSIGN_OR_RETURN(const oci::Index index, ReadIndex());
  for (const oci::Descriptor& entry : index.manifests) {
    wanted->insert(entry.sha256);
    const Result<std::string> text = ReadManifestBlob(entry);
    const Result<oci::ImageManifest> manifest =
        text ? oci::ParseManifest(*text) : std::unexpected(text.error());
    if (!manifest) {
      log::Warning("{}", manifest.error().message);
      *all_readable = false;
      continue;
    }
    wanted->insert(manifest->config.sha256);
    for (const oci::Descriptor& layer : manifest->layers) wanted->insert(layer.sha256);
  }
  TANDEM_ASSIGN_OR_RETURN(const std::vector<Manifest> pulls,
                          ReadRecords(kPulls, ParsePull, all_readable));
  for (const Manifest& pull : pulls) {
    for (const ManifestFile& file : pull.files) wanted->insert(file.sha256);
    if (pull.chunks) wanted->insert(pull.chunks->sha256);
    if (pull.text.empty()) continue;
    if (const auto manifest = oci::ParseManifest(pull.text))
      wanted->insert(manifest->config.sha256);
  }
  for (std::string& digest : BusyUploads(directory_)) wanted->insert(std::move(digest));
  return {};
}

// Removes every blob and part that nothing wants, wherever it came from: a crash in the middle of
// Remove leaves such files too. The caller holds the lock.
Result<uint64_t> Depot::FreeUnwanted() const {
  std::set<std::string, std::less<>> wanted;
  bool all_readable = true;
  TANDEM_RETURN_IF_ERROR(Wanted(&wanted, &all_readable));
  if (!all_readable) return 0;  // what the damaged manifest wants is not known: keep everything
  uint64_t freed_bytes = 0;
  for (const std::string& digest : DigestsIn(directory_ / "blobs/sha256")) {
    if (wanted.contains(digest)) continue;
    const fs::path blob = BlobPath(digest);
    const uint64_t bytes = FileSize(blob).value_or(0);
    TANDEM_RETURN_IF_ERROR(files_->Remove(blob));
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
  TANDEM_ASSIGN_OR_RETURN(const fs::path path, RecordPath(kPulls, manifest.name));
  const Result<Manifest> earlier = ReadRecord(path, ParsePull);
  TANDEM_RETURN_IF_ERROR(files_->ReplaceFile(path, FormatPull(manifest)));
  return earlier ? LogIfNotFreed(FreeUnwanted()) : Status();
}

Status Depot::PutBlob(std::string_view sha256, std::string_view bytes) const {
  const fs::path path = BlobPath(sha256);
  if (FileSize(path) == bytes.size()) return {};
  return files_->ReplaceFile(path, bytes);
}

// The list of chunks of a model that is put together here, and its manifest. Returns the list.
static Result<std::string> Complete(const Depot& depot, const std::stop_token& stop,
                                    Manifest* manifest) {
  oci::ChunkList list{.chunk_bytes = kChunkBytes, .files = {}};
  for (const ManifestFile& file : manifest->files) {
    TANDEM_ASSIGN_OR_RETURN(DigestedFile digested,
                            DigestFile(depot.BlobPath(file), kChunkBytes, {}, stop));
    list.files[file.sha256] = std::move(digested.chunks);
  }
  std::string text = oci::FormatChunkList(list);
  manifest->chunks = ManifestFile{.name = "chunks.json",
                                  .size_bytes = text.size(),
                                  .sha256 = crypto::Sha256Hex(text),
                                  .media_type = std::string(oci::kChunksType)};
  manifest->text = FormatOciManifest(*manifest);
  return text;
}

// Puts the manifest among the blobs and its name into index.json, in the place of what had it. The
// caller holds the lock.
Status Depot::Name(const Manifest& manifest, std::string_view media_type) const {
  const std::string sha256 = manifest.digest();
  TANDEM_RETURN_IF_ERROR(PutBlob(sha256, manifest.text));
  TANDEM_ASSIGN_OR_RETURN(oci::Index index, ReadIndex());
  std::erase_if(index.manifests, [&](const oci::Descriptor& entry) {
    return entry.Annotation(oci::kRefName) == manifest.name;
  });
  oci::Descriptor entry{.media_type = std::string(media_type),
                        .sha256 = sha256,
                        .size_bytes = manifest.text.size(),
                        .annotations = {{std::string(oci::kRefName), manifest.name}}};
  if (manifest.installed_at_s != 0) {
    entry.annotations.emplace(kInstalledAt, fmt::format("{}", manifest.installed_at_s));
  }
  if (!manifest.origin.empty()) entry.annotations.emplace(kOrigin, manifest.origin);
  index.manifests.push_back(std::move(entry));
  return WriteIndex(index);
}

Result<Manifest> Depot::Commit(Manifest manifest, const std::stop_token& stop) const {
  std::vector<ManifestFile> needed = manifest.files;
  if (manifest.chunks) needed.push_back(*manifest.chunks);
  if (!manifest.text.empty()) {
    TANDEM_ASSIGN_OR_RETURN(const oci::ImageManifest image, oci::ParseManifest(manifest.text));
    needed.push_back({.name = "the configuration",
                      .size_bytes = image.config.size_bytes,
                      .sha256 = image.config.sha256});
  }
  const auto missing = [&]() -> Status {
    for (const ManifestFile& file : needed) {
      if (HasBlob(file)) continue;
      return Err(ErrorCode::kUnavailable, "'{}' was removed by another process meanwhile",
                 file.name);
    }
    return {};
  };
  TANDEM_RETURN_IF_ERROR(missing());
  std::string chunks;
  std::string config;
  if (manifest.text.empty()) {
    TANDEM_ASSIGN_OR_RETURN(chunks, Complete(*this, stop, &manifest));
    config = FormatConfig(manifest);
  }
  TANDEM_ASSIGN_OR_RETURN(const os::FileLock lock, Lock());
  TANDEM_RETURN_IF_ERROR(missing());
  if (!chunks.empty()) {
    TANDEM_RETURN_IF_ERROR(PutBlob(manifest.chunks->sha256, chunks));
    TANDEM_RETURN_IF_ERROR(PutBlob(crypto::Sha256Hex(config), config));
  }
  TANDEM_ASSIGN_OR_RETURN(const fs::path pull, RecordPath(kPulls, manifest.name));
  TANDEM_RETURN_IF_ERROR(MakeView(manifest));
  TANDEM_RETURN_IF_ERROR(Name(manifest, oci::kManifestType));
  TANDEM_RETURN_IF_ERROR(files_->Remove(pull));
  TANDEM_RETURN_IF_ERROR(LogIfNotFreed(FreeUnwanted()));
  return manifest;
}

Result<StoredManifest> Depot::StoreManifest(std::string_view name, std::string_view text) const {
  TANDEM_ASSIGN_OR_RETURN(const oci::ImageManifest image, oci::ParseManifest(text));
  Manifest manifest{.name = std::string(name), .text = std::string(text)};
  // Whatever calls itself a model must be one, or List would stumble over it.
  if (image.is_model()) TANDEM_RETURN_IF_ERROR(ParseOciManifest(name, text));
  TANDEM_ASSIGN_OR_RETURN(const os::FileLock lock, Lock());
  std::vector<const oci::Descriptor*> needed = {&image.config};
  for (const oci::Descriptor& layer : image.layers) needed.push_back(&layer);
  for (const oci::Descriptor* blob : needed) {
    if (FileSize(BlobPath(blob->sha256)) == blob->size_bytes) continue;
    return Err(ErrorCode::kFailedPrecondition, "the blob sha256:{} of {} bytes is not here",
               blob->sha256, blob->size_bytes);
  }
  TANDEM_RETURN_IF_ERROR(Name(manifest, oci::kManifestType));
  TANDEM_RETURN_IF_ERROR(LogIfNotFreed(FreeUnwanted()));
  return StoredManifest{.name = manifest.name,
                        .sha256 = manifest.digest(),
                        .media_type = std::string(oci::kManifestType),
                        .text = std::move(manifest.text)};
}

Result<oci::ChunkList> Depot::ReadChunks(const Manifest& manifest) const {
  if (!manifest.chunks) {
    return Err(ErrorCode::kNotFound, "'{}' has no list of chunks", manifest.name);
  }
  TANDEM_ASSIGN_OR_RETURN(const std::string text,
                          os::ReadFile(BlobPath(*manifest.chunks), kMaxChunkListBytes));
  if (crypto::Sha256Hex(text) != manifest.chunks->sha256) {
    return Err(ErrorCode::kCorrupt, "the list of chunks of '{}' is damaged", manifest.name);
  }
  Result<oci::ChunkList> list = oci::ParseChunkList(text);
  if (!list) {
    return Wrap(list.error(), fmt::format("the list of chunks of '{}'", manifest.name));
  }
  for (const ManifestFile& file : manifest.files) {
    const auto found = list->files.find(file.sha256);
    if (found == list->files.end()) continue;
    if (found->second.size() == net::ChunkCount(file.size_bytes, list->chunk_bytes)) continue;
    return Err(ErrorCode::kCorrupt, "the list of chunks of '{}' does not fit '{}'", manifest.name,
               file.name);
  }
  return list;
}

Status Depot::Quarantine(const ManifestFile& file) const {
  TANDEM_ASSIGN_OR_RETURN(const os::FileLock lock, Lock());
  if (!FileSize(BlobPath(file))) return {};
  if (net::PartIsBusy(PartPath(file))) {
    return Err(ErrorCode::kFailedPrecondition,
               "'{}' is being pulled by another process; stop that first", file.name);
  }
  TANDEM_RETURN_IF_ERROR(files_->Rename(BlobPath(file), PartPath(file)));
  TANDEM_RETURN_IF_ERROR(files_->SyncDirectory(PartPath(file).parent_path()));
  return files_->SyncDirectory(BlobPath(file).parent_path());
}

Status Depot::AddReference(const Manifest& manifest) const {
  TANDEM_ASSIGN_OR_RETURN(const os::FileLock lock, Lock());
  const Result<Manifest> installed = Find(manifest.name);
  if (installed || installed.error().code != ErrorCode::kNotFound) {
    return std::unexpected(
        Error{ErrorCode::kAlreadyExists,
              fmt::format("a model '{}' is installed already; remove it with: tandem rm {}",
                          manifest.name, manifest.name),
              "model"});
  }
  if (FileSize(manifest.path) != manifest.path_size_bytes) {
    return Err(ErrorCode::kNotFound, "'{}' is not a file", manifest.path.string());
  }
  TANDEM_ASSIGN_OR_RETURN(const fs::path path, RecordPath(kReferences, manifest.name));
  return files_->ReplaceFile(path, FormatReference(manifest));
}

Result<uint64_t> Depot::Remove(std::string_view name) const {
  TANDEM_ASSIGN_OR_RETURN(const os::FileLock lock, Lock());
  TANDEM_ASSIGN_OR_RETURN(const fs::path reference, RecordPath(kReferences, name));
  TANDEM_ASSIGN_OR_RETURN(const fs::path pull_path, RecordPath(kPulls, name));
  TANDEM_ASSIGN_OR_RETURN(oci::Index index, ReadIndex());
  const size_t named = std::erase_if(index.manifests, [&](const oci::Descriptor& entry) {
    return entry.Annotation(oci::kRefName) == name;
  });
  const Result<Manifest> pull = ReadRecord(pull_path, ParsePull);
  const bool has_pull = pull || pull.error().code != ErrorCode::kNotFound;
  if (pull) {
    // While somebody downloads, refuse before anything has changed.
    for (const ManifestFile& file : pull->files) {
      if (HasBlob(file) || !net::PartIsBusy(PartPath(file))) continue;
      return std::unexpected(Error{
          ErrorCode::kFailedPrecondition,
          fmt::format("'{}' is being pulled by another process; stop that first", name), "model"});
    }
  }
  std::error_code ignored;
  if (named == 0 && !has_pull && !fs::exists(reference, ignored)) return NotInstalled(name);
  if (named > 0) TANDEM_RETURN_IF_ERROR(WriteIndex(index));
  TANDEM_RETURN_IF_ERROR(files_->Remove(reference));
  TANDEM_RETURN_IF_ERROR(files_->Remove(pull_path));
  TANDEM_RETURN_IF_ERROR(files_->SyncDirectory(directory_ / kReferences));
  TANDEM_RETURN_IF_ERROR(files_->SyncDirectory(directory_ / kPulls));
  fs::remove_all(directory_ / "views" / reference.stem(), ignored);
  return FreeUnwanted();
}

namespace {

// What is wrong with a file; empty where it is what was promised.
std::string ProblemOf(const DigestedFile& actual, const ManifestFile& expected,
                      const std::vector<std::string>* chunks) {
  if (actual.size_bytes != expected.size_bytes) {
    return fmt::format("it has {} bytes instead of {}", actual.size_bytes, expected.size_bytes);
  }
  if (expected.sha256.empty() || actual.sha256 == expected.sha256) return {};
  std::string problem =
      fmt::format("its SHA-256 is {} instead of {}", actual.sha256, expected.sha256);
  if (chunks == nullptr || chunks->size() != actual.chunks.size()) return problem;
  size_t n_bad = 0;
  size_t first = 0;
  for (size_t i = chunks->size(); i-- > 0;) {
    if ((*chunks)[i] == actual.chunks[i]) continue;
    first = i;
    ++n_bad;
  }
  return problem + fmt::format("; {} of its {} chunks of {} bytes differ, the first at byte {}",
                               n_bad, chunks->size(), kChunkBytes, first * kChunkBytes);
}

}  // namespace

Result<std::vector<VerifiedFile>> Depot::Verify(const Manifest& manifest,
                                                const std::function<void(uint64_t)>& progress,
                                                const std::stop_token& stop) const {
  uint64_t bytes_read = 0;
  const auto count = [&](uint64_t bytes) {
    bytes_read += bytes;
    if (progress) progress(bytes_read);
  };
  std::vector<VerifiedFile> verified;
  const auto verify = [&](const std::string& name, const fs::path& path,
                          const ManifestFile& expected,
                          const std::vector<std::string>* chunks) -> Status {
    const Result<DigestedFile> digested = DigestFile(path, kChunkBytes, count, stop);
    if (!digested && digested.error().code == ErrorCode::kCancelled) {
      return std::unexpected(digested.error());
    }
    const std::string problem =
        digested ? ProblemOf(*digested, expected, chunks) : digested.error().message;
    verified.push_back({.name = name, .good = problem.empty(), .problem = problem});
    return {};
  };
  if (manifest.by_reference()) {
    // No digest was promised for a file of the user's: its length is all that can be compared.
    TANDEM_RETURN_IF_ERROR(verify(manifest.path.filename().string(), manifest.path,
                                  {.size_bytes = manifest.path_size_bytes}, nullptr));
    return verified;
  }
  Result<oci::ChunkList> list = ReadChunks(manifest);
  if (list && list->chunk_bytes != kChunkBytes) list = Err(ErrorCode::kUnsupported, "other chunks");
  for (const ManifestFile& expected : manifest.files) {
    const auto found = list ? list->files.find(expected.sha256) : decltype(list->files.end())();
    const bool known = list && found != list->files.end();
    TANDEM_RETURN_IF_ERROR(
        verify(expected.name, BlobPath(expected), expected, known ? &found->second : nullptr));
  }
  if (manifest.chunks) {
    TANDEM_RETURN_IF_ERROR(
        verify(manifest.chunks->name, BlobPath(*manifest.chunks), *manifest.chunks, nullptr));
  }
  return verified;
}

}  // namespace tandem::fleet
