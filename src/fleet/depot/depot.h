// Charter of fleet/depot: models on this machine's disk. It may include base, os, crypto, net and
// fleet/catalogue. It makes no connection; fetch brings the bytes, fleet.h joins the two.
//
//   DIR/blobs/sha256/HEX        a whole file, verified before it appears here, never changed
//   DIR/incoming/HEX.part*      a download under way (net/download.h)
//   DIR/manifests/NAME.json     an installed model; appears last, and atomically
//   DIR/pulls/NAME.json         a model that is being pulled: a manifest that does not count yet
//   DIR/views/NAME/FILE         links to the blobs under the names that split files look for
//   DIR/lock                    held while names and blobs are added or removed
//
// Every state that a crash can leave is valid: a model is installed if and only if its manifest is
// there, and a manifest is written only when each of its blobs is. What a killed pull left belongs
// to the record in pulls/, so the next pull goes on from there and Remove frees it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "fleet/depot/manifest.h"
#include "os/file.h"

namespace tandem::fleet {

struct VerifiedFile {
  std::string name;
  bool good = false;
  std::string problem;  // what is wrong, where it is not good
};

// Thread: any; several processes may use one directory at once.
class Depot {
 public:
  // Makes the directories that are missing. A relative path is taken from where the process is now.
  static Result<Depot> Open(const std::filesystem::path& directory);

  const std::filesystem::path& directory() const { return directory_; }

  // Installed models, by name. A manifest that cannot be read is left out and logged.
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
  std::filesystem::path BlobPath(const ManifestFile& file) const;
  std::filesystem::path PartPath(const ManifestFile& file) const;
  // Bytes of `file` that are here, whole or in part.
  uint64_t BytesHere(const ManifestFile& file) const;
  // Errors: kUnavailable when a blob is missing, because another process removed a model that
  // shared it: download it again.
  Status Commit(const Manifest& manifest) const;

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

 private:
  explicit Depot(std::filesystem::path directory) : directory_(std::move(directory)) {}

  Result<os::FileLock> Lock() const;
  Result<std::filesystem::path> ManifestPath(const char* folder, std::string_view name) const;
  Result<Manifest> Read(const std::filesystem::path& path) const;
  Result<std::vector<Manifest>> ReadAll(const char* folder, bool* all_readable) const;
  Status MakeView(const Manifest& manifest) const;
  Result<uint64_t> FreeUnwanted() const;
  Result<VerifiedFile> VerifyFile(const std::string& name, const std::filesystem::path& path,
                                  const ManifestFile& expected, uint64_t& bytes_read,
                                  const std::function<void(uint64_t)>& progress,
                                  const std::stop_token& stop) const;

  std::filesystem::path directory_;
};

}  // namespace tandem::fleet
