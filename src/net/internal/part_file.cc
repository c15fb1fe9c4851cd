#include "net/internal/part_file.h"

#include <algorithm>
#include <fstream>
#include <system_error>
#include <utility>

#include "base/check.h"

namespace tandem::net::internal {
namespace {

constexpr size_t kReadBufferBytes = 1UL << 20;

// Reads [0, size) of a file in pieces. `take` gets offset and bytes.
Status ReadThrough(const std::filesystem::path& path, uint64_t size,
                   const std::function<void()>& progress, const std::stop_token& stop,
                   const std::function<Status(uint64_t, std::string_view)>& take) {
  std::ifstream in(path, std::ios::binary);
  std::vector<char> buffer(kReadBufferBytes);
  for (uint64_t offset = 0; offset < size;) {
    if (stop.stop_requested()) return Err(ErrorCode::kCancelled, "cancelled");
    if (progress) progress();
    const uint64_t wanted = std::min<uint64_t>(buffer.size(), size - offset);
    in.read(buffer.data(), static_cast<std::streamsize>(wanted));
    const auto count = static_cast<size_t>(in.gcount());
    if (count == 0) {
      return Err(ErrorCode::kIo, "reading '{}' failed at byte {}", path.string(), offset);
    }
    TANDEM_RETURN_IF_ERROR(take(offset, {buffer.data(), count}));
    offset += count;
  }
  return {};
}

}  // namespace

Result<PartFile> PartFile::Open(const DownloadRequest& request, os::FileSystem& files) {
  TANDEM_ASSIGN_OR_RETURN(auto file, files.OpenWriter(request.part, os::OutputFile::Mode::kKeep));
  PartFile part(&request, std::move(file));
  if (request.make_digest) part.whole_ = request.make_digest();
  if (part.chunked()) {
    part.good_.assign(part.n_chunks(), false);
    part.chunk_digest_ = request.make_digest();
  }
  return part;
}

uint64_t PartFile::ChunkSize(size_t chunk) const {
  return std::min(request_->chunks->chunk_bytes, *request_->size_bytes - ChunkStart(chunk));
}

std::optional<uint64_t> PartFile::gap_end() const {
  if (!chunked()) return std::nullopt;
  size_t chunk = chunk_;
  while (chunk < good_.size() && !good_[chunk]) ++chunk;
  return chunk == good_.size() ? *request_->size_bytes : ChunkStart(chunk);
}

uint64_t PartFile::BytesToChunkEnd() const {
  if (!chunked()) return UINT64_MAX;
  return chunk_ < good_.size() ? ChunkSize(chunk_) - at_in_chunk_ : 0;
}

void PartFile::Digest(uint64_t offset, std::string_view bytes) {
  if (!whole_ || whole_spoilt_ || offset != whole_bytes_) return;
  whole_->Update(bytes);
  whole_bytes_ += bytes.size();
}

// The first missing chunk behind the one that was just dealt with, else the first of all.
void PartFile::StartNextGap() {
  const auto missing = [&](size_t from) {
    return static_cast<size_t>(
        std::find(good_.begin() + static_cast<ptrdiff_t>(from), good_.end(), false) -
        good_.begin());
  };
  const size_t behind = missing(std::min(chunk_, good_.size()));
  chunk_ = behind < good_.size() ? behind : missing(0);
  next_ = chunk_ < good_.size() ? ChunkStart(chunk_) : *request_->size_bytes;
  at_in_chunk_ = 0;
  mixed_ = false;
}

Status PartFile::Check(const std::function<void()>& progress, const std::stop_token& stop) {
  std::error_code error;
  uint64_t size = std::filesystem::file_size(request_->part, error);
  if (error) return ErrnoError(error.value(), "examining " + request_->part.string());
  if (!chunked()) {
    return ReadThrough(request_->part, size, progress, stop,
                       [&](uint64_t offset, std::string_view bytes) -> Status {
                         Digest(offset, bytes);
                         next_ = done_bytes_ = offset + bytes.size();
                         return {};
                       });
  }
  size = std::min(size, *request_->size_bytes);
  size_t chunk = 0;
  uint64_t at = 0;
  TANDEM_RETURN_IF_ERROR(ReadThrough(
      request_->part, size, progress, stop, [&](uint64_t offset, std::string_view bytes) -> Status {
        Digest(offset, bytes);
        while (!bytes.empty()) {
          const auto taken = std::min<uint64_t>(bytes.size(), ChunkSize(chunk) - at);
          chunk_digest_->Update(bytes.substr(0, taken));
          bytes.remove_prefix(taken);
          at += taken;
          if (at < ChunkSize(chunk)) break;
          good_[chunk] = chunk_digest_->FinishHex() == request_->chunks->digests_hex[chunk];
          chunk_digest_ = request_->make_digest();
          if (good_[chunk]) done_bytes_ += at;
          whole_spoilt_ = whole_spoilt_ || !good_[chunk];
          ++chunk;
          at = 0;
        }
        return {};
      }));
  // What came of the chunk in which the earlier process stopped is gone on with first.
  if (at > 0) {
    chunk_ = chunk;
    next_ = ChunkStart(chunk) + at;
    at_in_chunk_ = at;
    done_bytes_ += at;
    mixed_ = true;
    return {};
  }
  chunk_ = 0;
  StartNextGap();
  return {};
}

Status PartFile::Forget() {
  done_bytes_ = next_ = whole_bytes_ = at_in_chunk_ = 0;
  chunk_ = 0;
  whole_spoilt_ = mixed_ = false;
  good_.assign(good_.size(), false);
  if (request_->make_digest) whole_ = request_->make_digest();
  if (chunked()) chunk_digest_ = request_->make_digest();
  return file_->Truncate(0);
}

Result<PartFile::Verdict> PartFile::Append(std::string_view bytes) {
  TANDEM_CHECK(bytes.size() <= BytesToChunkEnd());
  TANDEM_RETURN_IF_ERROR(file_->WriteAt(next_, bytes));
  Digest(next_, bytes);
  next_ += bytes.size();
  done_bytes_ += bytes.size();
  if (!chunked()) return Verdict::kFine;
  chunk_digest_->Update(bytes);
  at_in_chunk_ += bytes.size();
  if (BytesToChunkEnd() > 0) return Verdict::kFine;
  const bool good = chunk_digest_->FinishHex() == request_->chunks->digests_hex[chunk_];
  chunk_digest_ = request_->make_digest();
  if (good) {
    good_[chunk_] = true;
    StartNextGap();
    return Verdict::kFine;
  }
  done_bytes_ -= at_in_chunk_;
  whole_spoilt_ = true;
  const Verdict verdict = mixed_ ? Verdict::kBadMixture : Verdict::kBadChunk;
  next_ = ChunkStart(chunk_);
  at_in_chunk_ = 0;
  mixed_ = false;
  return verdict;
}

Result<std::string> PartFile::FinishDigest(const std::function<void()>& progress,
                                           const std::stop_token& stop) {
  if (!whole_) return std::string();
  if (whole_spoilt_ || whole_bytes_ != done_bytes_) {
    whole_ = request_->make_digest();
    whole_bytes_ = 0;
    whole_spoilt_ = false;
    TANDEM_RETURN_IF_ERROR(ReadThrough(request_->part, done_bytes_, progress, stop,
                                       [&](uint64_t offset, std::string_view bytes) -> Status {
                                         Digest(offset, bytes);
                                         return {};
                                       }));
  }
  return whole_->FinishHex();
}

Status PartFile::SyncAndClose() {
  // A part that a broken server or an earlier version made longer than the file is cut.
  if (request_->size_bytes) TANDEM_RETURN_IF_ERROR(file_->Truncate(*request_->size_bytes));
  TANDEM_RETURN_IF_ERROR(file_->Sync());
  return file_->Close();
}

}  // namespace tandem::net::internal
