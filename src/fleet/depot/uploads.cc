#include "fleet/depot/uploads.h"

#include <algorithm>
#include <array>
#include <system_error>
#include <utility>

#include "base/log.h"
#include "crypto/random.h"
#include "fleet/catalogue/catalogue.h"
#include "fleet/depot/depot.h"

namespace tandem::fleet {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFolder = "uploads";

std::string RandomId() {
  std::array<uint8_t, 16> bytes{};
  crypto::RandomBytes(bytes);
  return crypto::Hex(bytes);
}

// Calls `visit` with each file and whether a living process has it.
template <typename Visit>
void ForEachUpload(const fs::path& depot_directory, const Visit& visit) {
  std::error_code error;
  fs::directory_iterator entries(depot_directory / kFolder, error);
  for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
    const fs::path path = entries->path();
    const Result<os::FileLock> lock = os::FileLock::TryAcquire(path);
    visit(path, !lock && lock.error().code == ErrorCode::kUnavailable);
  }
}

}  // namespace

std::vector<std::string> BusyUploads(const fs::path& depot_directory) {
  std::vector<std::string> digests;
  ForEachUpload(depot_directory, [&](const fs::path& path, bool busy) {
    if (busy && IsSha256Hex(path.filename().string())) digests.push_back(path.filename().string());
    std::error_code ignored;
    if (!busy) fs::remove(path, ignored);
  });
  return digests;
}

Upload::~Upload() {
  if (!file_) return;
  if (const Status removed = files_->Remove(path_); !removed) {
    log::Warning("an upload that ended: {}", removed.error().message);
  }
}

Status Upload::Append(std::string_view bytes) {
  TANDEM_RETURN_IF_ERROR(file_->WriteAt(size_bytes_, bytes));
  sha256_.Update(bytes);
  size_bytes_ += bytes.size();
  return {};
}

Uploads::Uploads(const Depot* depot) : depot_(depot) {
  // Under the depot's lock, so that nobody is between making a file and locking it.
  const auto lock = os::FileLock::Acquire(depot_->directory() / "lock");
  if (lock) (void)BusyUploads(depot_->directory());
}

Uploads::~Uploads() {
  for (const Waiting& waiting : waiting_) ReleaseLocked(waiting);
}

Result<std::string> Uploads::Begin() {
  const std::lock_guard guard(mutex_);
  if (uploads_.size() >= kMaxUploads) {
    return Err(ErrorCode::kResourceExhausted, "{} uploads are under way already; finish one first",
               kMaxUploads);
  }
  std::string id = RandomId();
  const fs::path path = depot_->directory() / kFolder / id;
  TANDEM_ASSIGN_OR_RETURN(const auto depot_lock,
                          os::FileLock::Acquire(depot_->directory() / "lock"));
  TANDEM_ASSIGN_OR_RETURN(os::FileLock lock, os::FileLock::TryAcquire(path));
  TANDEM_ASSIGN_OR_RETURN(auto file,
                          depot_->files().OpenWriter(path, os::OutputFile::Mode::kTruncate));
  uploads_[id] = std::unique_ptr<Upload>(
      new Upload(id, path, std::move(lock), std::move(file), &depot_->files()));
  return id;
}

std::unique_ptr<Upload> Uploads::Take(std::string_view id) {
  const std::lock_guard guard(mutex_);
  const auto found = uploads_.find(id);
  if (found == uploads_.end() || !found->second) return nullptr;
  auto upload = std::move(found->second);
  uploads_.erase(found);
  return upload;
}

void Uploads::Put(std::unique_ptr<Upload> upload) {
  const std::lock_guard guard(mutex_);
  uploads_[upload->id()] = std::move(upload);
}

Status Uploads::Finish(std::unique_ptr<Upload> upload, std::string_view sha256) {
  const std::string actual = crypto::Hex(upload->sha256_.Finish());
  if (actual != sha256) {
    return Err(ErrorCode::kInvalidArgument,
               "the bytes that came have the digest sha256:{}, not sha256:{}", actual, sha256);
  }
  TANDEM_RETURN_IF_ERROR(upload->file_->Sync());
  TANDEM_RETURN_IF_ERROR(upload->file_->Close());
  const std::lock_guard guard(mutex_);
  TANDEM_ASSIGN_OR_RETURN(const auto depot_lock,
                          os::FileLock::Acquire(depot_->directory() / "lock"));
  const fs::path blob = depot_->BlobPath(sha256);
  TANDEM_RETURN_IF_ERROR(depot_->files().Rename(upload->path_, blob));
  upload->file_.reset();
  TANDEM_RETURN_IF_ERROR(depot_->files().SyncDirectory(blob.parent_path()));
  const auto same = [&](const Waiting& waiting) { return waiting.sha256 == sha256; };
  if (std::ranges::any_of(waiting_, same)) return {};
  auto lock = os::FileLock::TryAcquire(depot_->directory() / kFolder / sha256);
  // Another process keeps it already.
  if (!lock)
    return lock.error().code == ErrorCode::kUnavailable ? Status() : std::unexpected(lock.error());
  waiting_.push_back({std::string(sha256), *std::move(lock)});
  if (waiting_.size() > kMaxWaiting) {
    ReleaseLocked(waiting_.front());
    waiting_.pop_front();
  }
  return {};
}

bool Uploads::Waits(std::string_view sha256) const {
  const std::lock_guard guard(mutex_);
  return std::ranges::any_of(waiting_,
                             [&](const Waiting& waiting) { return waiting.sha256 == sha256; });
}

void Uploads::Named(const std::vector<std::string>& sha256) {
  const std::lock_guard guard(mutex_);
  std::erase_if(waiting_, [&](const Waiting& waiting) {
    const bool named = std::ranges::find(sha256, waiting.sha256) != sha256.end();
    if (named) ReleaseLocked(waiting);
    return named;
  });
}

void Uploads::ReleaseLocked(const Waiting& waiting) {
  std::error_code ignored;
  fs::remove(depot_->directory() / kFolder / waiting.sha256, ignored);
}

}  // namespace tandem::fleet
