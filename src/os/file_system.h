// The calls that change files, behind an interface, so that a test can fill the disk or cut the
// power at any of them (os/testing/power_loss_file_system.h). Reading, locks and directories are
// not here: what they do to a crash is nothing.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>

#include "base/error.h"
#include "os/file.h"

namespace tandem::os {

// One file that is being written. Thread: one at a time.
class FileWriter {
 public:
  virtual ~FileWriter() = default;

  // Writes all of `bytes` or fails; what a failed call left there is not known.
  // Errors: kResourceExhausted for a full disk, kIo.
  virtual Status WriteAt(uint64_t offset, std::string_view bytes) = 0;
  virtual Status Truncate(uint64_t size) = 0;
  // Makes the content durable; the name is another matter: FileSystem::SyncDirectory.
  virtual Status Sync() = 0;
  // Reports a delayed error; the destructor closes, too, and cannot.
  virtual Status Close() = 0;
};

// Thread: any, on different paths at once.
class FileSystem {
 public:
  virtual ~FileSystem() = default;

  // Opens for writing, made where missing.
  virtual Result<std::unique_ptr<FileWriter>> OpenWriter(const std::filesystem::path& path,
                                                         OutputFile::Mode mode) = 0;
  // Replaces `to`. Durable after SyncDirectory.
  virtual Status Rename(const std::filesystem::path& from, const std::filesystem::path& to) = 0;
  // What is not there needs no removing.
  virtual Status Remove(const std::filesystem::path& path) = 0;
  virtual Status SyncDirectory(const std::filesystem::path& directory) = 0;
  // As os::FreeDiskBytes.
  virtual Result<uint64_t> FreeBytes(const std::filesystem::path& path) = 0;

  // As os::WriteFileAtomic, made of the above: "PATH.new", flush, rename, flush of the directory.
  // The caller keeps others from replacing the same file meanwhile.
  Status ReplaceFile(const std::filesystem::path& path, std::string_view bytes);

  // The machine's. Stateless, lives as long as the process.
  static FileSystem& Real();
};

}  // namespace tandem::os
