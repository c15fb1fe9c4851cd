#include "os/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace tandem::os {
namespace {

std::string Quoted(std::string_view verb, const std::filesystem::path& path) {
  return fmt::format("{} '{}'", verb, path.string());
}

Result<FileDescriptor> OpenDescriptor(const std::filesystem::path& path, int flags,
                                      uint32_t permissions = 0) {
  while (true) {
    const int fd = ::open(path.c_str(), flags | O_CLOEXEC, static_cast<mode_t>(permissions));
    if (fd >= 0) return FileDescriptor(fd);
    if (errno != EINTR) return ErrnoError(errno, Quoted("opening", path));
  }
}

// Opens a regular file for reading and tells its size.
Result<std::pair<FileDescriptor, uint64_t>> OpenRegular(const std::filesystem::path& path) {
  // O_NONBLOCK: opening a FIFO by mistake must give the error below, not hang.
  TANDEM_ASSIGN_OR_RETURN(FileDescriptor fd, OpenDescriptor(path, O_RDONLY | O_NONBLOCK));
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) return ErrnoError(errno, Quoted("examining", path));
  if (!S_ISREG(info.st_mode)) {
    return Err(ErrorCode::kInvalidArgument, "'{}' is not a regular file", path.string());
  }
  return std::pair(std::move(fd), static_cast<uint64_t>(info.st_size));
}

Result<FileDescriptor> LockDescriptor(const std::filesystem::path& path, int operation) {
  TANDEM_ASSIGN_OR_RETURN(FileDescriptor fd, OpenDescriptor(path, O_RDWR | O_CREAT, 0644));
  while (::flock(fd.get(), operation) != 0) {
    if (errno == EINTR) continue;
    if (errno == EWOULDBLOCK) {
      return Err(ErrorCode::kUnavailable, "'{}' is locked by another process", path.string());
    }
    return ErrnoError(errno, Quoted("locking", path));
  }
  return fd;
}

}  // namespace

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  if (this != &other) {
    Reset();
    fd_ = other.Release();
  }
  return *this;
}

int FileDescriptor::Release() { return std::exchange(fd_, -1); }

void FileDescriptor::Reset() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

Result<MappedFile> MappedFile::Open(const std::filesystem::path& path) {
  TANDEM_ASSIGN_OR_RETURN(auto opened, OpenRegular(path));
  const auto& [fd, size] = opened;
  if (size == 0) return MappedFile(nullptr, 0, path);
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (data == MAP_FAILED) return ErrnoError(errno, Quoted("mapping", path));
  return MappedFile(static_cast<const std::byte*>(data), size, path);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      path_(std::move(other.path_)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(path_, other.path_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::Advise(size_t offset, size_t length, int advice) const {
  if (offset >= size_) return;
  static const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t begin = offset / page * page;
  const size_t end = std::min(size_, offset + std::min(length, size_ - offset));
  // Advice only: a kernel that ignores it costs speed, not correctness.
  (void)::madvise(const_cast<std::byte*>(data_) + begin, end - begin, advice);
}

void MappedFile::WillNeed(size_t offset, size_t length) const {
  Advise(offset, length, MADV_WILLNEED);
}

void MappedFile::Release(size_t offset, size_t length) const {
  Advise(offset, length, MADV_DONTNEED);
}

Result<std::string> ReadFile(const std::filesystem::path& path, size_t max_bytes) {
  TANDEM_ASSIGN_OR_RETURN(auto opened, OpenRegular(path));
  const auto& [fd, size] = opened;
  if (size > max_bytes) {
    return Err(ErrorCode::kResourceExhausted, "'{}' has {} bytes, more than the {} allowed here",
               path.string(), size, max_bytes);
  }
  // Read to the end instead of trusting the size: files in /proc report zero.
  std::string content;
  size_t used = 0;
  while (true) {
    if (used == content.size()) content.resize(std::max<size_t>(used * 2, size + 1));
    const ssize_t got = ::read(fd.get(), content.data() + used, content.size() - used);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoError(errno, Quoted("reading", path));
    if (got == 0) break;
    used += static_cast<size_t>(got);
    if (used > max_bytes) {
      return Err(ErrorCode::kResourceExhausted, "'{}' has more than the {} bytes allowed here",
                 path.string(), max_bytes);
    }
  }
  content.resize(used);
  return content;
}

Result<OutputFile> OutputFile::Open(const std::filesystem::path& path, Mode mode,
                                    uint32_t permissions) {
  int flags = O_WRONLY | O_CREAT;
  if (mode == Mode::kTruncate) flags |= O_TRUNC;
  if (mode == Mode::kExclusive) flags |= O_EXCL;
  TANDEM_ASSIGN_OR_RETURN(FileDescriptor fd, OpenDescriptor(path, flags, permissions));
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) return ErrnoError(errno, Quoted("examining", path));
  return OutputFile(std::move(fd), path, static_cast<uint64_t>(info.st_size));
}

Status OutputFile::WriteAt(uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written =
        ::pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      const int reason = errno;
      return ErrnoError(reason, fmt::format("writing '{}' at byte {}", path_.string(), offset));
    }
    offset += static_cast<uint64_t>(written);
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return {};
}

Status OutputFile::Append(std::span<const std::byte> bytes) {
  TANDEM_RETURN_IF_ERROR(WriteAt(position_, bytes));
  position_ += bytes.size();
  return {};
}

Status OutputFile::Append(std::string_view bytes) {
  return Append(std::as_bytes(std::span(bytes)));
}

Status OutputFile::Truncate(uint64_t size) {
  if (::ftruncate(fd_.get(), static_cast<off_t>(size)) != 0) {
    return ErrnoError(errno, Quoted("truncating", path_));
  }
  position_ = std::min(position_, size);
  return {};
}

Status OutputFile::Sync() {
  if (::fsync(fd_.get()) != 0) return ErrnoError(errno, Quoted("flushing", path_));
  return {};
}

Status OutputFile::Close() {
  if (!fd_.valid()) return {};
  if (::close(fd_.Release()) != 0) return ErrnoError(errno, Quoted("closing", path_));
  return {};
}

Status WriteFileAtomic(const std::filesystem::path& path, std::string_view bytes,
                       uint32_t permissions) {
  std::string temporary = path.string() + ".XXXXXX";
  FileDescriptor fd(::mkostemp(temporary.data(), O_CLOEXEC));
  if (!fd.valid()) return ErrnoError(errno, Quoted("making a temporary file beside", path));
  const auto write = [&]() -> Status {
    if (::fchmod(fd.get(), static_cast<mode_t>(permissions)) != 0) {
      return ErrnoError(errno, Quoted("setting permissions of", temporary));
    }
    while (!bytes.empty()) {
      const ssize_t written = ::write(fd.get(), bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return ErrnoError(errno, Quoted("writing", temporary));
      bytes.remove_prefix(static_cast<size_t>(written));
    }
    if (::fsync(fd.get()) != 0) return ErrnoError(errno, Quoted("flushing", temporary));
    if (::close(fd.Release()) != 0) return ErrnoError(errno, Quoted("closing", temporary));
    if (::rename(temporary.c_str(), path.c_str()) != 0) {
      return ErrnoError(errno, fmt::format("renaming '{}' to '{}'", temporary, path.string()));
    }
    return {};
  };
  if (Status status = write(); !status) {
    ::unlink(temporary.c_str());
    return status;
  }
  return SyncDirectory(path.has_parent_path() ? path.parent_path() : ".");
}

Status SyncDirectory(const std::filesystem::path& directory) {
  TANDEM_ASSIGN_OR_RETURN(FileDescriptor fd, OpenDescriptor(directory, O_RDONLY | O_DIRECTORY));
  // Some network file systems cannot sync a directory (EINVAL); there is nothing better to do
  // there.
  if (::fsync(fd.get()) != 0 && errno != EINVAL) {
    return ErrnoError(errno, Quoted("flushing directory", directory));
  }
  return {};
}

Status MakeDirectories(const std::filesystem::path& directory, uint32_t permissions) {
  std::filesystem::path made;
  for (const auto& part : directory) {
    made /= part;
    if (::mkdir(made.c_str(), static_cast<mode_t>(permissions)) == 0 || errno == EEXIST) continue;
    const int reason = errno;
    // A parent that exists but may not be written gives EACCES or EROFS where EEXIST was meant.
    std::error_code ignored;
    if (std::filesystem::is_directory(made, ignored)) continue;
    return ErrnoError(reason, Quoted("making directory", made));
  }
  std::error_code ignored;
  if (!std::filesystem::is_directory(directory, ignored)) {
    return Err(ErrorCode::kAlreadyExists, "'{}' exists and is not a directory", directory.string());
  }
  return {};
}

Result<uint64_t> FreeDiskBytes(const std::filesystem::path& path) {
  std::error_code ignored;
  std::filesystem::path existing = std::filesystem::absolute(path, ignored);
  while (!std::filesystem::exists(existing, ignored) && existing != existing.root_path()) {
    existing = existing.parent_path();
  }
  struct statvfs info{};
  if (::statvfs(existing.c_str(), &info) != 0) {
    return ErrnoError(errno, Quoted("measuring free space of", existing));
  }
  return static_cast<uint64_t>(info.f_bavail) * info.f_frsize;
}

Result<FileLock> FileLock::Acquire(const std::filesystem::path& path) {
  TANDEM_ASSIGN_OR_RETURN(FileDescriptor fd, LockDescriptor(path, LOCK_EX));
  return FileLock(std::move(fd));
}

Result<FileLock> FileLock::TryAcquire(const std::filesystem::path& path) {
  TANDEM_ASSIGN_OR_RETURN(FileDescriptor fd, LockDescriptor(path, LOCK_EX | LOCK_NB));
  return FileLock(std::move(fd));
}

}  // namespace tandem::os
