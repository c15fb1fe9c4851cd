// Downloads one file whole and verified, however often the connection, the server or this process
// breaks off: resumes by range, checks size and digest, and shows the file under its final name
// only when every byte is right. With a list of chunk digests each chunk is checked as it comes and
// only those that are bad or missing are asked for; several sources stand in for each other.
//
// On disk, while a download is under way:
//   PART          the bytes so far
//   PART.json     what they belong to: URL, ETag, digest (docs/model-store.md); not with chunks,
//                 which say for themselves whether they are right
//   PART.lock     held by the process that writes; two never write one download
// A process that is killed leaves PART and PART.json, and the next call goes on from there. The
// lock file itself stays (an empty file; removing it would let two processes hold "the" lock).
//
// net/ includes no crypto: the digest comes in as an interface.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "net/retry.h"
#include "net/transfer.h"

namespace tandem::net {

// A running digest of a byte stream. One thread at a time.
class ContentDigest {
 public:
  virtual ~ContentDigest() = default;
  virtual void Update(std::string_view bytes) = 0;
  virtual std::string FinishHex() = 0;  // lower case
};

struct DownloadSource {
  std::string url;                // each attempt starts here, so that a signed redirect may expire
  std::string bearer_token = {};  // as in TransferRequest; empty: none
};

// The digests of a file's consecutive chunks, of which only the last may be shorter.
struct ChunkDigests {
  uint64_t chunk_bytes = 0;              // above 0
  std::vector<std::string> digests_hex;  // lower case; as many as the size asks for
};

struct DownloadRequest {
  // All of them have the file; in order of preference, at least one.
  std::vector<DownloadSource> sources;
  std::filesystem::path destination;
  std::filesystem::path part;               // on destination's file system
  std::optional<uint64_t> size_bytes = {};  // what the file must have, where known
  std::string digest_hex = {};              // what the file must have, lower case; empty: unknown
  std::function<std::unique_ptr<ContentDigest>()> make_digest = {};
  // Null: not known. Needs size_bytes and make_digest, and outlives the call.
  const ChunkDigests* chunks = nullptr;
  uint64_t max_bytes_per_second = 0;  // 0: no limit
  TransferRequest transfer = {};  // time limits; URL, method, headers and token are filled in here
  RetryPolicy retry = {};         // for each source
};

struct DownloadProgress {
  enum class Stage {
    kWaitingForLock,  // another process writes this download
    kCheckingPart,    // reading what an earlier process left
    kTransferring,
    kRetrying,   // a pause; `pause` and `problem` say how long and why
    kFinishing,  // all bytes are here and right; making them durable
  };
  Stage stage = Stage::kTransferring;
  uint64_t done_bytes = 0;
  std::optional<uint64_t> total_bytes = {};
  std::chrono::milliseconds pause{0};
  std::string_view problem = {};
};
// Called on the downloading thread, for each buffer that arrives: keep it cheap.
using DownloadProgressFn = std::function<void(const DownloadProgress&)>;

struct DownloadOutcome {
  uint64_t size_bytes = 0;
  std::string digest_hex;
  uint64_t received_bytes = 0;  // from the network, in this call
  bool already_there = false;   // `destination` existed with the right size: nothing was done
};

// Downloads what request.sources have to request.destination. A source that fails, is slow or cuts
// off is left for the next one, and asked again after a pause; one that refuses, or sends other
// bytes than were promised kMaxBadChunks times, is not asked again.
// Errors (of the source that was given up last): kCorrupt when the bytes are not those that were
//   promised (PART is then removed, unless chunks of it are known to be right; a part left by an
//   earlier process that turns out bad is first tried again from the start); kResourceExhausted
//   when the disk is too small (checked before the first byte) or full; kUnauthenticated (401),
//   kPermissionDenied (403), kNotFound (404, 410); kUnavailable or kDeadlineExceeded when the
//   attempts are used up; kCancelled; kIo; as RunTransfer. After an error other than kCorrupt the
//   part stays, and the same call resumes.
// Thread: any; blocks the caller. `surroundings` gives clock, sleep and jitter.
// Cost: one pass over the network bytes, digest (two with chunks) and write in line; resuming reads
// the part once, and chunks that came out of order are read again at the end.
Result<DownloadOutcome> Download(const DownloadRequest& request, const Surroundings& surroundings,
                                 const DownloadProgressFn& progress, const std::stop_token& stop);

// A corrupt chunk may have been a bad moment of the network; so many of one source are not.
inline constexpr int kMaxBadChunks = 3;

// How many chunks a file of `size_bytes` has.
uint64_t ChunkCount(uint64_t size_bytes, uint64_t chunk_bytes);

// Some process, or another call in this one, is writing this download.
bool PartIsBusy(const std::filesystem::path& part);

// Removes what an unfinished download left. Errors: kFailedPrecondition while a process writes it.
// Returns the bytes that were freed.
Result<uint64_t> RemovePart(const std::filesystem::path& part);

// The error for an HTTP status that is not a success, with the server's own words where it has any
// (X-Error-Message).
std::unexpected<Error> StatusError(const ReplyHead& head);

}  // namespace tandem::net
