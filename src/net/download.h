// Downloads one file whole and verified, however often the connection, the server or this process
// breaks off: resumes by range, checks size and digest, and shows the file under its final name
// only when every byte is right.
//
// On disk, while a download is under way:
//   PART          the bytes so far; its length is the progress
//   PART.json     what they belong to: URL, ETag, size, digest (docs/model-store.md)
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

struct DownloadRequest {
  std::string url;                // each attempt starts here, so that a signed redirect may expire
  std::string bearer_token = {};  // as in TransferRequest; empty: none
  std::filesystem::path destination;
  std::filesystem::path part;               // on destination's file system
  std::optional<uint64_t> size_bytes = {};  // what the file must have, where known
  std::string digest_hex = {};              // what the file must have, lower case; empty: unknown
  std::function<std::unique_ptr<ContentDigest>()> make_digest = {};
  TransferRequest transfer = {};  // time limits; URL, method, headers and token are filled in here
  RetryPolicy retry = {};
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

// Downloads request.url to request.destination.
// Errors: kCorrupt when the bytes are not those that were promised (PART is then removed; a part
//   left by an earlier process that turns out bad is first tried again from the start);
//   kResourceExhausted when the disk is too small (checked before the first byte) or full;
//   kUnauthenticated (401), kPermissionDenied (403), kNotFound (404, 410); kUnavailable or
//   kDeadlineExceeded when the attempts are used up; kCancelled; kIo; as RunTransfer. After an
//   error other than kCorrupt the part stays, and the same call resumes.
// Thread: any; blocks the caller. `surroundings` gives clock, sleep and jitter.
// Cost: one pass over the network bytes, digest and write in line; resuming reads the part once.
Result<DownloadOutcome> Download(const DownloadRequest& request, const Surroundings& surroundings,
                                 const DownloadProgressFn& progress, const std::stop_token& stop);

// Some process, or another call in this one, is writing this download.
bool PartIsBusy(const std::filesystem::path& part);

// Removes what an unfinished download left. Errors: kFailedPrecondition while a process writes it.
// Returns the bytes that were freed.
Result<uint64_t> RemovePart(const std::filesystem::path& part);

// The error for an HTTP status that is not a success, with the server's own words where it has any
// (X-Error-Message).
std::unexpected<Error> StatusError(const ReplyHead& head);

}  // namespace tandem::net
