// Charter of fleet/depot: models on this machine's disk, as an OCI image layout, and that layout
// over HTTP (registry.h). It may include base, os, crypto, net and fleet/catalogue. It makes no
// connection; fetch brings the bytes, fleet.h joins the two.
//
//   DIR/oci-layout, DIR/index.json   the layout: index.json names the manifest of each model
//   DIR/blobs/sha256/HEX             a whole file, a manifest, ...: verified before it appears
//   here,
//                                    never changed
//   DIR/incoming/HEX.part*           a download under way (net/download.h)
//   DIR/uploads/*                    what clients of the registry are sending (uploads.h)
//   DIR/pulls/NAME.json              a model that is being pulled and does not count yet
//   DIR/references/NAME.json         a name for a file that stays where it is
//   DIR/views/NAME/FILE              links to the blobs under the names that split files look for
//   DIR/lock                         held while names and blobs are added or removed
//
// Every state that a crash can leave is valid: a model is installed if and only if index.json names
// it, and it is named there only when each of its blobs is here. What a killed pull left belongs to
// the record in pulls/, so the next pull goes on from there and Remove frees it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "fleet/catalogue/oci.h"
#include "fleet/depot/manifest.h"
#include "os/file.h"
#include "os/file_system.h"

namespace tandem::fleet {

// The length of the chunks of which manifests made here list the digests.
inline constexpr uint64_t kChunkBytes = 4UL << 20;

struct VerifiedFile {
  std::string name;
  bool good = false;
  std::string problem;  // what is wrong, where it is not good
};

// One entry of index.json: any manifest, of a model or not.
struct StoredManifest {
  std::string name;  // "demo:int4"; "demo@sha256:HEX" for one that was pushed without a tag
  std::string sha256;
  std::string media_type;
  std::string text;
};

// Thread: any; several processes may use one directory at once.
class Depot {
 public:
  // Makes what is missing. A relative path is taken from where the process is now. `files` outlives
  // the depot.
  static Result<Depot> Open(const std::filesystem::path& directory,
                            os::FileSystem& files = os::FileSystem::Real());

  const std::filesystem::path& directory() const { return directory_; }
  os::FileSystem& files() const { return *files_; }

  // Installed models, by name. A manifest that cannot be read is left out and logged.
  // Errors: kCorrupt for an index.json that cannot be read.
  Result<std::vector<Manifest>> List() const;
  // Pulls that were begun and not finished, by name.
  Result<std::vector<Manifest>> ListPulls() const;
  // Errors: kNotFound; kCorrupt for a manifest that cannot be read (the message names its file).
  Result<Manifest> Find(std::string_view name) const;

  // The file to open for an installed model: the first of its files, beside the others under their
  // own names. Links that are missing are made again.
  // Errors: kFailedPrecondition when a file has gone away or has another length.
  Result<std::filesystem::path> ModelPath(const Manifest& manifest) const;

  // A pull, in three steps: announce, download each missing blob by way of its part, commit.
  // BeginPull replaces an earlier pull of that name and frees what only that one wanted.
  Status BeginPull(const Manifest& manifest) const;
  bool HasBlob(const ManifestFile& file) const;
  std::filesystem::path BlobPath(const ManifestFile& file) const { return BlobPath(file.sha256); }
  std::filesystem::path BlobPath(std::string_view sha256) const;
  std::filesystem::path PartPath(const ManifestFile& file) const;
  // Bytes of `file` that are here, whole or in part.
  uint64_t BytesHere(const ManifestFile& file) const;
  // Puts small content that was verified among the blobs.
  Status PutBlob(std::string_view sha256, std::string_view bytes) const;
  // Installs a model whose files are here: makes its manifest and list of chunks where it has none,
  // and names it. Returns it with both.
  // Errors: kUnavailable when a blob is missing, because another process removed a model that
  // shared it: download it again; kCancelled.
  // Cost: reads the files once where the list of chunks has to be made.
  Result<Manifest> Commit(Manifest manifest, const std::stop_token& stop = {}) const;

  // Digests of the chunks of the model's files. Errors: kNotFound where the manifest has none;
  // kCorrupt for a list that does not fit the files.
  Result<oci::ChunkList> ReadChunks(const Manifest& manifest) const;

  // Takes a file of a model back to where downloads go on, to be repaired there.
  Status Quarantine(const ManifestFile& file) const;

  // Records a model that stays where it is. Errors: kAlreadyExists; kNotFound for a path that is
  // not a file.
  Status AddReference(const Manifest& manifest) const;

  // Removes a model or an unfinished pull, and the files that no other model wants; a model kept by
  // reference loses its name only. Returns the bytes freed.
  // Errors: kNotFound; kFailedPrecondition while it is being pulled.
  Result<uint64_t> Remove(std::string_view name) const;

  // Reads every byte of a model. `progress` gets the bytes read so far. Errors: kCancelled, kIo.
  Result<std::vector<VerifiedFile>> Verify(const Manifest& manifest,
                                           const std::function<void(uint64_t)>& progress,
                                           const std::stop_token& stop) const;

  // For the registry: every manifest, and one more under a name (which is replaced).
  // Errors of StoreManifest: kCorrupt, kUnsupported for a text that is none; kFailedPrecondition,
  // naming the digest, where a blob of it is missing.
  Result<std::vector<StoredManifest>> ListManifests() const;
  Result<StoredManifest> StoreManifest(std::string_view name, std::string_view text) const;

 private:
  Depot(std::filesystem::path directory, os::FileSystem* files)
      : directory_(std::move(directory)), files_(files) {}

  Result<os::FileLock> Lock() const;
  Result<std::filesystem::path> RecordPath(const char* folder, std::string_view name) const;
  using ParseRecord = Result<Manifest> (*)(std::string_view);
  Result<Manifest> ReadRecord(const std::filesystem::path& path, ParseRecord parse) const;
  Result<std::vector<Manifest>> ReadRecords(const char* folder, ParseRecord parse,
                                            bool* all_readable) const;
  Result<oci::Index> ReadIndex() const;
  Status WriteIndex(const oci::Index& index) const;
  Result<std::string> ReadManifestBlob(const oci::Descriptor& entry) const;
  Result<Manifest> ReadModel(const oci::Descriptor& entry) const;
  Status Name(const Manifest& manifest, std::string_view media_type) const;
  Status Wanted(std::set<std::string, std::less<>>* wanted, bool* all_readable) const;
  Status MakeView(const Manifest& manifest) const;
  Result<uint64_t> FreeUnwanted() const;
  std::filesystem::path directory_;
  os::FileSystem* files_;
};

}  // namespace tandem::fleet
