#include "os/file_system.h"

#include <system_error>
#include <utility>

#include <fmt/format.h>

namespace tandem::os {
namespace {

namespace fs = std::filesystem;

class RealWriter final : public FileWriter {
 public:
  explicit RealWriter(OutputFile file) : file_(std::move(file)) {}

  Status WriteAt(uint64_t offset, std::string_view bytes) override {
    return file_.WriteAt(offset, std::as_bytes(std::span(bytes)));
  }
  Status Truncate(uint64_t size) override { return file_.Truncate(size); }
  Status Sync() override { return file_.Sync(); }
  Status Close() override { return file_.Close(); }

 private:
  OutputFile file_;
};

class RealFileSystem final : public FileSystem {
 public:
  Result<std::unique_ptr<FileWriter>> OpenWriter(const fs::path& path,
                                                 OutputFile::Mode mode) override {
    TANDEM_ASSIGN_OR_RETURN(OutputFile file, OutputFile::Open(path, mode));
    return std::make_unique<RealWriter>(std::move(file));
  }

  Status Rename(const fs::path& from, const fs::path& to) override {
    std::error_code error;
    fs::rename(from, to, error);
    if (!error) return {};
    return ErrnoError(error.value(),
                      fmt::format("renaming '{}' to '{}'", from.string(), to.string()));
  }

  Status Remove(const fs::path& path) override {
    std::error_code error;
    fs::remove(path, error);
    if (error) return ErrnoError(error.value(), fmt::format("removing '{}'", path.string()));
    return {};
  }

  Status SyncDirectory(const fs::path& directory) override { return os::SyncDirectory(directory); }

  Result<uint64_t> FreeBytes(const fs::path& path) override { return FreeDiskBytes(path); }
};

}  // namespace

Status FileSystem::ReplaceFile(const fs::path& path, std::string_view bytes) {
  fs::path temporary = path;
  temporary += ".new";
  const auto write = [&]() -> Status {
    TANDEM_ASSIGN_OR_RETURN(const auto file, OpenWriter(temporary, OutputFile::Mode::kTruncate));
    TANDEM_RETURN_IF_ERROR(file->WriteAt(0, bytes));
    TANDEM_RETURN_IF_ERROR(file->Sync());
    TANDEM_RETURN_IF_ERROR(file->Close());
    return Rename(temporary, path);
  };
  if (Status status = write(); !status) {
    (void)Remove(temporary);  // the error that counts is the first one
    return status;
  }
  return SyncDirectory(path.parent_path());
}

FileSystem& FileSystem::Real() {
  static RealFileSystem files;
  return files;
}

}  // namespace tandem::os
