#include "net/download.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <system_error>
#include <utility>
#include <vector>

#include <boost/json.hpp>

#include "base/check.h"
#include "os/file.h"

namespace tandem::net {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

constexpr size_t kReadBufferBytes = 1UL << 20;
constexpr size_t kMaxSidecarBytes = 64UL * 1024;
constexpr std::chrono::milliseconds kLockPoll{500};
// A file that changes this often during one download, or a server that ignores ranges and cuts
// every reply, will not come to an end.
constexpr int kMaxRestarts = 4;

fs::path WithSuffix(const fs::path& path, const char* suffix) {
  fs::path longer = path;
  longer += suffix;
  return longer;
}
fs::path SidecarPath(const fs::path& part) { return WithSuffix(part, ".json"); }
fs::path LockPath(const fs::path& part) { return WithSuffix(part, ".lock"); }

std::optional<uint64_t> ParseNumber(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

struct ContentRange {
  std::optional<uint64_t>
      first;  // nothing in "bytes */TOTAL", the answer to a range beyond the end
  std::optional<uint64_t> total;  // nothing for "*"
};

// "bytes 100-199/1000" (RFC 9110, 14.4).
std::optional<ContentRange> ParseContentRange(std::string_view text) {
  if (!text.starts_with("bytes ")) return std::nullopt;
  text.remove_prefix(6);
  const size_t slash = text.find('/');
  if (slash == text.npos) return std::nullopt;
  ContentRange range;
  if (const std::string_view total = text.substr(slash + 1); total != "*") {
    range.total = ParseNumber(total);
    if (!range.total) return std::nullopt;
  }
  if (const std::string_view span = text.substr(0, slash); span != "*") {
    range.first = ParseNumber(span.substr(0, span.find('-')));
    if (!range.first) return std::nullopt;
  }
  return range;
}

// What the bytes of a part belong to.
struct Sidecar {
  std::string url;
  std::string etag;
  std::string digest_hex;
};

std::optional<Sidecar> ReadSidecar(const fs::path& path) {
  const Result<std::string> text = os::ReadFile(path, kMaxSidecarBytes);
  if (!text) return std::nullopt;
  std::error_code error;
  const json::value value = json::parse(*text, error);
  if (error || !value.is_object()) return std::nullopt;
  const auto field = [&](const char* name) -> std::string {
    const json::value* member = value.get_object().if_contains(name);
    return member != nullptr && member->is_string() ? std::string(member->get_string())
                                                    : std::string();
  };
  return Sidecar{.url = field("url"), .etag = field("etag"), .digest_hex = field("digest")};
}

Status WriteSidecar(const fs::path& path, const Sidecar& sidecar) {
  const json::object object = {
      {"url", sidecar.url}, {"etag", sidecar.etag}, {"digest", sidecar.digest_hex}};
  return os::WriteFileAtomic(path, json::serialize(object));
}

// The same bytes are promised: by digest where one is known, else by URL and a validator.
bool Continues(const Sidecar& sidecar, const DownloadRequest& request) {
  if (!request.digest_hex.empty()) return sidecar.digest_hex == request.digest_hex;
  return sidecar.url == request.url && !sidecar.etag.empty();
}

// One download under its lock: the part file, its digest so far, and what the server said.
// It is the sink of each attempt's transfer.
class Downloading final : public ReplySink {
 public:
  Downloading(const DownloadRequest& request, const Surroundings& surroundings,
              const DownloadProgressFn& progress, const std::stop_token& stop)
      : request_(request),
        surroundings_(surroundings),
        progress_(progress),
        stop_(stop),
        total_(request.size_bytes) {}

  Result<DownloadOutcome> Run();

  Status OnHead(const ReplyHead& head) override;
  Status OnBody(std::string_view bytes) override;

 private:
  enum class Verdict { kGood, kTryAgainFromTheStart };

  Status OpenPart();
  Status DigestPart();
  Status RunAttempts();
  Status RunAttempt();
  Status CheckEnd();
  Result<Verdict> VerifyDigest();
  Status Publish();
  Status Restart();
  Status ForgetPart();
  Status AcceptWhole(const ReplyHead& head);
  Status AcceptRange(const ReplyHead& head);
  Status AcceptRangeBeyondEnd(const ReplyHead& head);
  Status CheckTotal(uint64_t offered, const ReplyHead& head) const;
  Status CheckDisk() const;
  Status Remember(const ReplyHead& head);
  void Report(DownloadProgress::Stage stage, std::chrono::milliseconds pause = {},
              std::string_view problem = {}) const;

  bool complete() const { return total_ && have_ == *total_; }

  const DownloadRequest& request_;
  const Surroundings& surroundings_;
  const DownloadProgressFn& progress_;
  const std::stop_token& stop_;

  std::optional<os::OutputFile> file_;
  std::unique_ptr<ContentDigest> digest_;
  Sidecar sidecar_;
  uint64_t have_ = 0;      // bytes in the part, all of them in digest_
  uint64_t received_ = 0;  // from the network, in this call
  std::optional<uint64_t> total_;
  bool ended_ = false;    // the server has sent, or said that we have, the last byte
  bool patched_ = false;  // the part was not written in one piece by one reply
  int restarts_ = 0;
  std::optional<std::chrono::milliseconds> retry_after_;
};

void Downloading::Report(DownloadProgress::Stage stage, std::chrono::milliseconds pause,
                         std::string_view problem) const {
  if (!progress_) return;
  progress_({.stage = stage,
             .done_bytes = have_,
             .total_bytes = total_,
             .pause = pause,
             .problem = problem});
}

Status Downloading::OpenPart() {
  const std::optional<Sidecar> sidecar = ReadSidecar(SidecarPath(request_.part));
  TANDEM_ASSIGN_OR_RETURN(os::OutputFile file,
                          os::OutputFile::Open(request_.part, os::OutputFile::Mode::kKeep));
  file_ = std::move(file);
  if (request_.make_digest) digest_ = request_.make_digest();
  const bool usable =
      sidecar && Continues(*sidecar, request_) && (!total_ || file_->position() <= *total_);
  if (!usable) return file_->Truncate(0);
  sidecar_ = *sidecar;
  patched_ = file_->position() > 0;
  return DigestPart();
}

// Reads what an earlier process left. Nothing else is known about these bytes: after a power loss
// even their length may be a promise of the file system only.
Status Downloading::DigestPart() {
  std::ifstream in(request_.part, std::ios::binary);
  std::vector<char> buffer(kReadBufferBytes);
  while (have_ < file_->position()) {
    if (stop_.stop_requested()) return Err(ErrorCode::kCancelled, "cancelled");
    Report(DownloadProgress::Stage::kCheckingPart);
    in.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    const auto count = static_cast<size_t>(in.gcount());
    if (count == 0) {
      return Err(ErrorCode::kIo, "reading '{}' failed at byte {}", request_.part.string(), have_);
    }
    if (digest_) digest_->Update({buffer.data(), count});
    have_ += count;
  }
  return {};
}

Status Downloading::CheckDisk() const {
  if (!total_) return {};
  const uint64_t missing = *total_ - have_;
  TANDEM_ASSIGN_OR_RETURN(const uint64_t free_bytes, os::FreeDiskBytes(request_.part));
  if (missing <= free_bytes) return {};
  return Err(ErrorCode::kResourceExhausted,
             "'{}' needs {} more bytes of disk and {} are free; make room (tandem rm MODEL) or "
             "choose another --data-dir",
             request_.part.parent_path().string(), missing, free_bytes);
}

Status Downloading::ForgetPart() {
  have_ = 0;
  ended_ = false;
  patched_ = false;
  sidecar_ = {};
  total_ = request_.size_bytes;
  if (request_.make_digest) digest_ = request_.make_digest();
  return file_->Truncate(0);
}

// The bytes so far belong to something else: begin again with the next attempt.
Status Downloading::Restart() {
  if (++restarts_ > kMaxRestarts) {
    return Err(ErrorCode::kCorrupt,
               "{} keeps changing, or starting over instead of going on, while it is downloaded",
               UrlForMessages(request_.url));
  }
  return ForgetPart();
}

Status Downloading::Remember(const ReplyHead& head) {
  sidecar_ = {.url = request_.url,
              .etag = std::string(head.headers.Find("etag").value_or("")),
              .digest_hex = request_.digest_hex};
  return WriteSidecar(SidecarPath(request_.part), sidecar_);
}

Status Downloading::CheckTotal(uint64_t offered, const ReplyHead& head) const {
  if (!request_.size_bytes || offered == *request_.size_bytes) return {};
  return Err(ErrorCode::kCorrupt, "{} offers {} bytes where {} were promised",
             UrlForMessages(head.url), offered, *request_.size_bytes);
}

// 200: the whole file from its first byte, whatever range we asked for.
Status Downloading::AcceptWhole(const ReplyHead& head) {
  if (have_ > 0) TANDEM_RETURN_IF_ERROR(Restart());
  if (const auto length = head.headers.Find("content-length")) {
    if (const std::optional<uint64_t> total = ParseNumber(*length)) {
      TANDEM_RETURN_IF_ERROR(CheckTotal(*total, head));
      total_ = total;
    }
  }
  TANDEM_RETURN_IF_ERROR(CheckDisk());
  return Remember(head);
}

// 206: bytes from where we are, if the server means the same file.
Status Downloading::AcceptRange(const ReplyHead& head) {
  const auto text = head.headers.Find("content-range");
  const std::optional<ContentRange> range = text ? ParseContentRange(*text) : std::nullopt;
  const auto etag = head.headers.Find("etag");
  const bool changed = etag && !sidecar_.etag.empty() && *etag != sidecar_.etag;
  if (!range || range->first != have_ || range->total.value_or(have_) < have_ || changed) {
    const std::string_view why = changed ? "changed since the download began"
                                         : "answered with another range than was asked for";
    TANDEM_RETURN_IF_ERROR(Restart());
    return Err(ErrorCode::kUnavailable, "{} {}", UrlForMessages(head.url), why);
  }
  if (range->total) {
    TANDEM_RETURN_IF_ERROR(CheckTotal(*range->total, head));
    total_ = range->total;
  }
  patched_ = true;
  return {};
}

// 416: the file ends where our part ends, or before.
Status Downloading::AcceptRangeBeyondEnd(const ReplyHead& head) {
  const auto text = head.headers.Find("content-range");
  const std::optional<ContentRange> range = text ? ParseContentRange(*text) : std::nullopt;
  if (range && range->total == have_ && (!request_.size_bytes || have_ == *request_.size_bytes)) {
    total_ = have_;
    ended_ = true;
    return Err(ErrorCode::kUnavailable, "{} has no bytes beyond the last one that is here",
               UrlForMessages(head.url));
  }
  TANDEM_RETURN_IF_ERROR(Restart());
  return Err(ErrorCode::kUnavailable, "{} refused to go on from byte {}", UrlForMessages(head.url),
             have_);
}

Status Downloading::OnHead(const ReplyHead& head) {
  if (const auto value = head.headers.Find("retry-after")) {
    retry_after_ = ParseRetryAfter(*value, surroundings_.clock->SystemNow());
  }
  switch (head.status) {
    case 200:
      return AcceptWhole(head);
    case 206:
      if (have_ > 0) return AcceptRange(head);
      break;  // a range that nobody asked for
    case 416:
      if (have_ > 0) return AcceptRangeBeyondEnd(head);
      break;
    case 401:
    case 403:
    case 404:
    case 410:
      // Not the hub's verdict but a content server's, whose signed link has run out.
      if (head.left_origin) {
        return Err(ErrorCode::kUnavailable, "{} refused the link to it (HTTP {})",
                   UrlForMessages(head.url), head.status);
      }
      break;
    default:
      break;
  }
  return StatusError(head);
}

Status Downloading::OnBody(std::string_view bytes) {
  if (total_ && bytes.size() > *total_ - have_) {
    return Err(ErrorCode::kCorrupt, "{} sent more than the {} bytes that were promised",
               UrlForMessages(request_.url), *total_);
  }
  TANDEM_RETURN_IF_ERROR(file_->Append(bytes));
  if (digest_) digest_->Update(bytes);
  have_ += bytes.size();
  received_ += bytes.size();
  Report(DownloadProgress::Stage::kTransferring);
  return {};
}

Status Downloading::RunAttempt() {
  retry_after_.reset();
  TransferRequest transfer = request_.transfer;
  transfer.url = request_.url;
  transfer.method = TransferRequest::Method::kGet;
  transfer.redirects = TransferRequest::Redirects::kAll;
  transfer.bearer_token = request_.bearer_token;
  if (have_ > 0) {
    transfer.headers.Set("Range", fmt::format("bytes={}-", have_));
    // Only a strong validator may stand in If-Range (RFC 9110, 13.1.5).
    if (sidecar_.etag.starts_with('"')) transfer.headers.Set("If-Range", sidecar_.etag);
  }
  const Result<ReplyHead> head = RunTransfer(transfer, *surroundings_.clock, stop_, *this);
  if (!head) {
    if (ended_) return {};
    return std::unexpected(head.error());
  }
  return CheckEnd();
}

// The reply ended in good order; whether it was all of the file is another question.
Status Downloading::CheckEnd() {
  if (total_ && have_ < *total_) {
    return Err(ErrorCode::kUnavailable, "{} ended after {} of {} bytes",
               UrlForMessages(request_.url), have_, *total_);
  }
  ended_ = true;
  total_ = have_;
  return {};
}

Status Downloading::RunAttempts() {
  int failures = 0;
  while (!ended_ && !complete()) {
    if (stop_.stop_requested()) return Err(ErrorCode::kCancelled, "cancelled");
    const uint64_t received_before = received_;
    const Status attempt = RunAttempt();
    if (attempt) return {};
    const Error& error = attempt.error();
    const bool passing =
        error.code == ErrorCode::kUnavailable || error.code == ErrorCode::kDeadlineExceeded;
    if (!passing) return attempt;
    failures = received_ > received_before ? 1 : failures + 1;
    if (failures >= request_.retry.max_attempts) {
      return Wrap(error, fmt::format("gave up after {} attempts; the same command goes on from "
                                     "here later",
                                     failures));
    }
    if (retry_after_ && *retry_after_ > request_.retry.max_retry_after) {
      return Wrap(error, fmt::format("the server asks to come back in {} seconds",
                                     retry_after_->count() / 1000));
    }
    const auto pause = RetryDelay(request_.retry, failures, retry_after_, surroundings_.uniform());
    Report(DownloadProgress::Stage::kRetrying, pause, error.message);
    surroundings_.sleeper->SleepFor(pause, stop_);
  }
  return {};
}

Result<Downloading::Verdict> Downloading::VerifyDigest() {
  if (!digest_) return Verdict::kGood;
  const std::string actual = digest_->FinishHex();
  sidecar_.digest_hex = actual;
  if (request_.digest_hex.empty() || actual == request_.digest_hex) return Verdict::kGood;
  // Bytes that came in several pieces, or lay on a disk that lost power, deserve one clean try.
  if (patched_ && restarts_ == 0) {
    TANDEM_RETURN_IF_ERROR(Restart());
    return Verdict::kTryAgainFromTheStart;
  }
  return Err(ErrorCode::kCorrupt,
             "{} is damaged or not what was promised: its digest is {} instead of {}; nothing was "
             "installed",
             UrlForMessages(request_.url), actual, request_.digest_hex);
}

Status Downloading::Publish() {
  Report(DownloadProgress::Stage::kFinishing);
  TANDEM_RETURN_IF_ERROR(file_->Sync());
  TANDEM_RETURN_IF_ERROR(file_->Close());
  std::error_code error;
  fs::rename(request_.part, request_.destination, error);
  if (error) {
    return ErrnoError(error.value(), fmt::format("renaming '{}' to '{}'", request_.part.string(),
                                                 request_.destination.string()));
  }
  TANDEM_RETURN_IF_ERROR(os::SyncDirectory(request_.destination.parent_path()));
  fs::remove(SidecarPath(request_.part), error);  // a leftover is harmless: its part is gone
  return {};
}

Result<DownloadOutcome> Downloading::Run() {
  TANDEM_RETURN_IF_ERROR(OpenPart());
  TANDEM_RETURN_IF_ERROR(CheckDisk());
  while (true) {
    TANDEM_RETURN_IF_ERROR(RunAttempts());
    TANDEM_ASSIGN_OR_RETURN(const Verdict verdict, VerifyDigest());
    if (verdict == Verdict::kGood) break;
  }
  TANDEM_RETURN_IF_ERROR(Publish());
  return DownloadOutcome{.size_bytes = have_,
                         .digest_hex = sidecar_.digest_hex,
                         .received_bytes = received_,
                         .already_there = false};
}

Result<os::FileLock> LockPart(const DownloadRequest& request, const Surroundings& surroundings,
                              const DownloadProgressFn& progress, const std::stop_token& stop) {
  while (true) {
    Result<os::FileLock> lock = os::FileLock::TryAcquire(LockPath(request.part));
    if (lock || lock.error().code != ErrorCode::kUnavailable) return lock;
    if (progress) {
      progress({.stage = DownloadProgress::Stage::kWaitingForLock,
                .total_bytes = request.size_bytes,
                .problem = lock.error().message});
    }
    surroundings.sleeper->SleepFor(kLockPoll, stop);
    if (stop.stop_requested()) return Err(ErrorCode::kCancelled, "cancelled");
  }
}

// Bytes that went away. The caller holds the lock.
uint64_t RemovePartFiles(const fs::path& part) {
  std::error_code error;
  const uintmax_t size = fs::file_size(part, error);
  const bool existed = !error;
  fs::remove(part, error);
  fs::remove(SidecarPath(part), error);
  return existed ? size : 0;
}

}  // namespace

Result<DownloadOutcome> Download(const DownloadRequest& request, const Surroundings& surroundings,
                                 const DownloadProgressFn& progress, const std::stop_token& stop) {
  TANDEM_CHECK(request.digest_hex.empty() || request.make_digest);
  TANDEM_RETURN_IF_ERROR(os::MakeDirectories(request.destination.parent_path()));
  TANDEM_RETURN_IF_ERROR(os::MakeDirectories(request.part.parent_path()));
  TANDEM_ASSIGN_OR_RETURN(const os::FileLock lock, LockPart(request, surroundings, progress, stop));
  std::error_code error;
  const uintmax_t there = fs::file_size(request.destination, error);
  if (!error && (!request.size_bytes || there == *request.size_bytes)) {
    RemovePartFiles(request.part);
    return DownloadOutcome{.size_bytes = there,
                           .digest_hex = request.digest_hex,
                           .received_bytes = 0,
                           .already_there = true};
  }
  Downloading downloading(request, surroundings, progress, stop);
  Result<DownloadOutcome> outcome = downloading.Run();
  if (!outcome && outcome.error().code == ErrorCode::kCorrupt) RemovePartFiles(request.part);
  return outcome;
}

bool PartIsBusy(const fs::path& part) {
  std::error_code error;
  if (!fs::exists(LockPath(part), error)) return false;
  const Result<os::FileLock> lock = os::FileLock::TryAcquire(LockPath(part));
  return !lock && lock.error().code == ErrorCode::kUnavailable;
}

Result<uint64_t> RemovePart(const fs::path& part) {
  std::error_code error;
  if (!fs::exists(LockPath(part), error)) return 0;  // nobody ever began
  const Result<os::FileLock> lock = os::FileLock::TryAcquire(LockPath(part));
  if (!lock) {
    if (lock.error().code != ErrorCode::kUnavailable) return std::unexpected(lock.error());
    return Err(ErrorCode::kFailedPrecondition,
               "'{}' is being downloaded by another process; stop that first", part.string());
  }
  return RemovePartFiles(part);
}

std::unexpected<Error> StatusError(const ReplyHead& head) {
  const std::string_view target = UrlForMessages(head.url);
  const std::string said(head.headers.Find("x-error-message").value_or(""));
  const std::string words = said.empty() ? std::string() : ": " + said;
  ErrorCode code = ErrorCode::kUnsupported;
  if (head.status == 401) code = ErrorCode::kUnauthenticated;
  if (head.status == 403) code = ErrorCode::kPermissionDenied;
  if (head.status == 404 || head.status == 410) code = ErrorCode::kNotFound;
  if (IsRetryableStatus(head.status)) code = ErrorCode::kUnavailable;
  return Err(code, "{} answered HTTP {}{}", target, head.status, words);
}

}  // namespace tandem::net
