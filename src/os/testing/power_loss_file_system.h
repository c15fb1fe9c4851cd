// A file system whose disk fills up or whose power goes at a chosen operation. It works on real
// files below one directory and keeps beside them what a disk would hold: content is durable after
// Sync, names are durable after SyncDirectory of their directory.
//
//   PowerLossFileSystem files(dir);
//   files.CutPowerAt(7);            // the eighth operation from now on fails, half done, and all
//   after
//   ...                             // what is tested
//   files.Restart(After::kOnlyFlushed);
//
// Source: the idea of LevelDB's db/fault_injection_test.cc.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>

#include "os/file_system.h"

namespace tandem::os {

class PowerLossFileSystem final : public FileSystem {
 public:
  // What a restart finds.
  enum class After {
    kEverything,    // the process was killed: all that was written is there
    kOnlyFlushed,   // the power went: only flushed names and flushed content are there
    kNamesAndZeros  // the names made it to the disk and the content did not: zeros
  };

  explicit PowerLossFileSystem(std::filesystem::path directory) : directory_(std::move(directory)) {
    TakeSnapshot();
  }

  // Operations so far.
  uint64_t n_operations() const { return n_operations_; }
  // Operation number n_operations() + `after` and all that follow fail.
  void CutPowerAt(uint64_t after) { power_left_ = after; }
  // WriteAt beyond so many bytes in all fails with kResourceExhausted, and FreeBytes knows.
  void SetDiskBytes(uint64_t bytes) { disk_bytes_ = bytes; }
  // FreeBytes says there is room although there is not: another process took it.
  void SetFreeBytesLie(bool lie) { lie_ = lie; }
  bool power_is_off() const { return power_left_ == 0; }

  void Restart(After after) {
    power_left_ = std::numeric_limits<uint64_t>::max();
    if (after != After::kEverything) {
      const auto& names = after == After::kOnlyFlushed ? durable_names_ : names_;
      std::map<std::string, std::string> found;
      for (const auto& [path, inode] : names) {
        std::string content = durable_content_[inode];
        if (after == After::kNamesAndZeros) {
          std::error_code error;
          const uintmax_t size = std::filesystem::file_size(path, error);
          content.resize(error ? content.size() : size, '\0');
        }
        found[path] = std::move(content);
      }
      for (const auto& entry : std::filesystem::recursive_directory_iterator(directory_)) {
        if (entry.is_regular_file() && !entry.is_symlink() && !IsLock(entry.path())) {
          std::filesystem::remove(entry.path());
        }
      }
      for (const auto& [path, content] : found) {
        std::ofstream(path, std::ios::binary) << content;
      }
    }
    TakeSnapshot();
  }

  // FileSystem:
  Result<std::unique_ptr<FileWriter>> OpenWriter(const std::filesystem::path& path,
                                                 OutputFile::Mode mode) override {
    TANDEM_RETURN_IF_ERROR(Spend());
    TANDEM_ASSIGN_OR_RETURN(auto file, Real().OpenWriter(path, mode));
    if (!names_.contains(path.string())) names_[path.string()] = ++last_inode_;
    return std::make_unique<Writer>(this, std::move(file), path, names_[path.string()]);
  }
  Status Rename(const std::filesystem::path& from, const std::filesystem::path& to) override {
    TANDEM_RETURN_IF_ERROR(Spend());
    TANDEM_RETURN_IF_ERROR(Real().Rename(from, to));
    names_[to.string()] = names_[from.string()];
    names_.erase(from.string());
    return {};
  }
  Status Remove(const std::filesystem::path& path) override {
    TANDEM_RETURN_IF_ERROR(Spend());
    names_.erase(path.string());
    return Real().Remove(path);
  }
  Status SyncDirectory(const std::filesystem::path& directory) override {
    TANDEM_RETURN_IF_ERROR(Spend());
    const auto inside = [&](const std::string& path) {
      return std::filesystem::path(path).parent_path() == directory;
    };
    std::erase_if(durable_names_, [&](const auto& entry) { return inside(entry.first); });
    for (const auto& [path, inode] : names_) {
      if (inside(path)) durable_names_[path] = inode;
    }
    return {};
  }
  Result<uint64_t> FreeBytes(const std::filesystem::path& path) override {
    if (disk_bytes_ == kUnlimited || lie_) return Real().FreeBytes(path);
    return disk_bytes_ - std::min(disk_bytes_, written_bytes_);
  }

 private:
  static constexpr uint64_t kUnlimited = std::numeric_limits<uint64_t>::max();

  class Writer final : public FileWriter {
   public:
    Writer(PowerLossFileSystem* files, std::unique_ptr<FileWriter> file, std::filesystem::path path,
           uint64_t inode)
        : files_(files), file_(std::move(file)), path_(std::move(path)), inode_(inode) {}

    Status WriteAt(uint64_t offset, std::string_view bytes) override {
      const uint64_t room = files_->disk_bytes_ - files_->written_bytes_;
      if (bytes.size() > room) {
        (void)file_->WriteAt(offset, bytes.substr(0, room));
        files_->written_bytes_ += room;
        return Err(ErrorCode::kResourceExhausted, "writing '{}': No space left on device",
                   path_.string());
      }
      if (Status power = files_->Spend(); !power) {
        (void)file_->WriteAt(offset, bytes.substr(0, bytes.size() / 2));
        return power;
      }
      files_->written_bytes_ += bytes.size();
      return file_->WriteAt(offset, bytes);
    }
    Status Truncate(uint64_t size) override {
      TANDEM_RETURN_IF_ERROR(files_->Spend());
      return file_->Truncate(size);
    }
    Status Sync() override {
      TANDEM_RETURN_IF_ERROR(files_->Spend());
      files_->durable_content_[inode_] = files_->ReadWhole(path_);
      return {};
    }
    Status Close() override { return file_->Close(); }

   private:
    PowerLossFileSystem* files_;
    std::unique_ptr<FileWriter> file_;
    std::filesystem::path path_;
    uint64_t inode_;
  };

  static bool IsLock(const std::filesystem::path& path) {
    return path.extension() == ".lock" || path.filename() == "lock";
  }

  static std::string ReadWhole(const std::filesystem::path& path) {
    std::ostringstream text;
    text << std::ifstream(path, std::ios::binary).rdbuf();
    return text.str();
  }

  Status Spend() {
    if (power_left_ == 0) return Err(ErrorCode::kIo, "the power is off");
    --power_left_;
    ++n_operations_;
    return {};
  }

  void TakeSnapshot() {
    names_.clear();
    durable_content_.clear();
    for (const auto& entry : std::filesystem::recursive_directory_iterator(directory_)) {
      if (!entry.is_regular_file() || entry.is_symlink() || IsLock(entry.path())) continue;
      names_[entry.path().string()] = ++last_inode_;
      durable_content_[last_inode_] = ReadWhole(entry.path());
    }
    durable_names_ = names_;
  }

  const std::filesystem::path directory_;
  uint64_t n_operations_ = 0;
  uint64_t power_left_ = std::numeric_limits<uint64_t>::max();
  uint64_t disk_bytes_ = kUnlimited;
  uint64_t written_bytes_ = 0;
  bool lie_ = false;
  uint64_t last_inode_ = 0;
  std::map<std::string, uint64_t> names_;  // path to inode, as a running process sees it
  std::map<std::string, uint64_t> durable_names_;
  std::map<uint64_t, std::string> durable_content_;
};

}  // namespace tandem::os
