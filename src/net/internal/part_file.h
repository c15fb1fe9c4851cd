// The bytes of a download so far: what of them is known to be right, where the next ones belong,
// and the digests along the way. Private to net/.
//
// With a list of chunk digests a chunk is good or missing, in any order, and rotten chunks show
// when they are read again. Without one the file grows from its start, and only its end can tell.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "net/download.h"
#include "os/file_system.h"

namespace tandem::net::internal {

class PartFile {
 public:
  // Opens or makes the file. `request` outlives this object. Errors: those of OpenWriter.
  static Result<PartFile> Open(const DownloadRequest& request, os::FileSystem& files);

  // Reads what an earlier process left. `progress` is called before each read.
  // Errors: kCancelled, kIo.
  Status Check(const std::function<void()>& progress, const std::stop_token& stop);

  // Everything is forgotten, and the file empty.
  Status Forget();

  bool chunked() const { return request_->chunks != nullptr; }
  // Bytes that need not be fetched again (the chunk that is on its way counts too).
  uint64_t done_bytes() const { return done_bytes_; }
  // Where the next byte belongs; the end of the file when it is complete.
  uint64_t next() const { return next_; }
  // Bytes [next(), gap_end()) are missing; nothing: to wherever the file ends.
  std::optional<uint64_t> gap_end() const;
  bool complete(std::optional<uint64_t> total) const { return total && done_bytes_ == *total; }

  enum class Verdict {
    kFine,
    kBadChunk,    // the chunk that `bytes` ended has another digest: it is missing again
    kBadMixture,  // the same, but not all of it came since the last Break(): nobody is to blame yet
  };
  // Writes bytes at next(), not beyond its chunk's end; see BytesToChunkEnd.
  Result<Verdict> Append(std::string_view bytes);
  uint64_t BytesToChunkEnd() const;
  // From here on another reply brings the bytes.
  void Break() { mixed_ = at_in_chunk_ > 0 || mixed_; }

  // The digest of the whole file, which must be complete; reads it again where its bytes did not
  // come in order. Empty without make_digest. Errors: kCancelled, kIo.
  Result<std::string> FinishDigest(const std::function<void()>& progress,
                                   const std::stop_token& stop);

  // Errors: those of Sync and Close.
  Status SyncAndClose();

 private:
  PartFile(const DownloadRequest* request, std::unique_ptr<os::FileWriter> file)
      : request_(request), file_(std::move(file)) {}

  size_t n_chunks() const { return request_->chunks->digests_hex.size(); }
  uint64_t ChunkStart(size_t chunk) const { return chunk * request_->chunks->chunk_bytes; }
  uint64_t ChunkSize(size_t chunk) const;
  Status CheckChunk(size_t chunk, std::string_view bytes);
  void StartNextGap();
  void Digest(uint64_t offset, std::string_view bytes);

  const DownloadRequest* request_;
  std::unique_ptr<os::FileWriter> file_;
  std::unique_ptr<ContentDigest> whole_;  // of [0, whole_bytes_)
  uint64_t whole_bytes_ = 0;
  bool whole_spoilt_ = false;  // bytes went into it that were bad
  uint64_t done_bytes_ = 0;
  uint64_t next_ = 0;

  // With chunks only:
  std::vector<bool> good_;  // by chunk
  size_t chunk_ = 0;        // to which next_ belongs
  uint64_t at_in_chunk_ = 0;
  bool mixed_ = false;
  std::unique_ptr<ContentDigest> chunk_digest_;  // of its first at_in_chunk_ bytes
};

}  // namespace tandem::net::internal
