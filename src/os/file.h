// Charter of os/: what the operating system gives: files, memory mapping, memory status, CPU
// features, paths. It may include base. It knows nothing of models, HTTP or SQL.
//
// Files: whole-file reads, read-only mappings, atomic and durable writes, locks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"

namespace tandem::os {

// Owns a file descriptor; -1 when empty.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(other.Release()) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor() { Reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int Release();
  void Reset();

 private:
  int fd_ = -1;
};

// A whole file mapped read-only and shared: pages come from, and go back to, the page cache.
// The file must not shrink while it is mapped (a read past the new end raises SIGBUS), which is why
// models are replaced by rename, never written in place.
// Thread: any, once opened.
class MappedFile {
 public:
  // Errors: kNotFound, kPermissionDenied, kInvalidArgument for what is not a regular file, kIo.
  // An empty file maps to an empty span.
  static Result<MappedFile> Open(const std::filesystem::path& path);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

  // Asks the kernel to start reading [offset, offset + length) in the background.
  void WillNeed(size_t offset, size_t length) const;

  // Takes the pages of [offset, offset + length) off this process's account; they stay in the page
  // cache and come back when touched.
  void Release(size_t offset, size_t length) const;

 private:
  // madvise() on the pages of [offset, offset + length).
  void Advise(size_t offset, size_t length, int advice) const;

  MappedFile(const std::byte* data, size_t size, std::filesystem::path path)
      : data_(data), size_(size), path_(std::move(path)) {}

  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  std::filesystem::path path_;
};

// Errors: as MappedFile::Open, and kResourceExhausted for a file above max_bytes.
Result<std::string> ReadFile(const std::filesystem::path& path, size_t max_bytes);

// A file being written at explicit offsets. Partial writes are completed; a failed one says how far
// it came. Nothing is durable before Sync().
class OutputFile {
 public:
  enum class Mode { kTruncate, kKeep, kExclusive };
  static Result<OutputFile> Open(const std::filesystem::path& path, Mode mode,
                                 uint32_t permissions = 0644);

  Status WriteAt(uint64_t offset, std::span<const std::byte> bytes);
  // Writes behind the last byte that Append wrote; starts at the size the file had when opened.
  Status Append(std::span<const std::byte> bytes);
  Status Append(std::string_view bytes);
  Status Truncate(uint64_t size);
  Status Sync();
  // Closing can report a delayed write error; the destructor cannot, so call it.
  Status Close();

  uint64_t position() const { return position_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  OutputFile(FileDescriptor fd, std::filesystem::path path, uint64_t position)
      : fd_(std::move(fd)), path_(std::move(path)), position_(position) {}

  FileDescriptor fd_;
  std::filesystem::path path_;
  uint64_t position_ = 0;
};

// Replaces `path` by `bytes` so that a reader or a crash sees the old or the new content, never a
// mixture: temporary file beside it, fsync, rename, fsync of the directory.
Status WriteFileAtomic(const std::filesystem::path& path, std::string_view bytes,
                       uint32_t permissions = 0644);

// Makes a rename or a new name in `directory` durable.
Status SyncDirectory(const std::filesystem::path& directory);

// mkdir -p. Errors name the directory that could not be made.
Status MakeDirectories(const std::filesystem::path& directory, uint32_t permissions = 0755);

// Bytes that an unprivileged process may still write to the file system that holds `path` (or its
// nearest existing parent).
Result<uint64_t> FreeDiskBytes(const std::filesystem::path& path);

// An advisory lock between processes, held until the object goes away or the process dies.
class FileLock {
 public:
  // Waits for the holder. Makes the lock file when it is missing.
  static Result<FileLock> Acquire(const std::filesystem::path& path);
  // kUnavailable at once when another process or object holds it.
  static Result<FileLock> TryAcquire(const std::filesystem::path& path);

 private:
  explicit FileLock(FileDescriptor fd) : fd_(std::move(fd)) {}
  FileDescriptor fd_;
};

}  // namespace tandem::os
