// Blobs that clients of the registry are sending, and those that came and wait for a manifest to
// name them.
//
//   DIR/uploads/ID    the bytes so far; locked (flock) by the process that writes them
//   DIR/uploads/HEX   an empty file, locked while that blob waits: it keeps the blob from being
//   freed
//
// What a process left that died is not locked, and goes with the next Uploads or the next Remove.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "crypto/digest.h"
#include "os/file.h"
#include "os/file_system.h"

namespace tandem::fleet {

class Depot;

// Digests of the blobs that wait for a manifest, in whatever process. The caller holds the depot's
// lock.
std::vector<std::string> BusyUploads(const std::filesystem::path& depot_directory);

// One blob on its way in. Thread: one at a time.
class Upload {
 public:
  ~Upload();

  const std::string& id() const { return id_; }
  uint64_t size_bytes() const { return size_bytes_; }
  // Errors: kResourceExhausted for a full disk, kIo. The upload is of no use after an error.
  Status Append(std::string_view bytes);

 private:
  friend class Uploads;
  Upload(std::string id, std::filesystem::path path, os::FileLock lock,
         std::unique_ptr<os::FileWriter> file, os::FileSystem* files)
      : id_(std::move(id)),
        path_(std::move(path)),
        lock_(std::move(lock)),
        file_(std::move(file)),
        files_(files) {}

  const std::string id_;
  const std::filesystem::path path_;
  os::FileLock lock_;
  std::unique_ptr<os::FileWriter> file_;  // null once it is a blob
  os::FileSystem* const files_;
  crypto::Sha256 sha256_;
  uint64_t size_bytes_ = 0;
};

// Thread: any.
class Uploads {
 public:
  // Removes what dead processes left. The depot outlives this object.
  explicit Uploads(const Depot* depot);
  ~Uploads();

  // Errors: kResourceExhausted beyond kMaxUploads.
  Result<std::string> Begin();
  // Takes an upload out, so that one request at a time has it; Put gives it back, and dropping it
  // ends it. Null: there is none, or another request has it.
  std::unique_ptr<Upload> Take(std::string_view id);
  void Put(std::unique_ptr<Upload> upload);

  // Makes the upload a blob, which is kept until a manifest names it (Named) or kMaxWaiting others
  // came behind it.
  // Errors: kInvalidArgument where its bytes have another digest; those of the disk.
  Status Finish(std::unique_ptr<Upload> upload, std::string_view sha256);
  bool Waits(std::string_view sha256) const;
  void Named(const std::vector<std::string>& sha256);

  static constexpr size_t kMaxUploads = 64;
  static constexpr size_t kMaxWaiting = 1024;

 private:
  struct Waiting {
    std::string sha256;
    os::FileLock lock;
  };
  void ReleaseLocked(const Waiting& waiting);

  const Depot* const depot_;
  mutable std::mutex mutex_;                                             // guards what follows
  std::map<std::string, std::unique_ptr<Upload>, std::less<>> uploads_;  // null: taken
  std::deque<Waiting> waiting_;
};

}  // namespace tandem::fleet
