#include "net/download.h"

#include <algorithm>
#include <charconv>
#include <system_error>
#include <utility>
#include <vector>

#include <boost/json.hpp>

#include "base/check.h"
#include "net/internal/part_file.h"
#include "os/file.h"

namespace tandem::net {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

constexpr size_t kMaxSidecarBytes = 64UL * 1024;
constexpr std::chrono::milliseconds kLockPoll{500};
// A file that changes this often during one download, or a server that ignores ranges and cuts
// every reply, will not come to an end.
constexpr int kMaxRestarts = 4;
// A limit on the rate holds on average over about so long.
constexpr std::chrono::milliseconds kPaceMemory{1000};

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

std::string FormatSidecar(const Sidecar& sidecar) {
  return json::serialize(
      json::object{{"url", sidecar.url}, {"etag", sidecar.etag}, {"digest", sidecar.digest_hex}});
}

// The same bytes are promised: by digest where one is known, else by URL and a validator.
bool Continues(const Sidecar& sidecar, const DownloadRequest& request) {
  if (!request.digest_hex.empty()) return sidecar.digest_hex == request.digest_hex;
  return !sidecar.etag.empty() && std::ranges::find(request.sources, sidecar.url,
                                                    &DownloadSource::url) != request.sources.end();
}

// One download under its lock: the part file, what the server said, and which source is asked.
// It is the sink of each attempt's transfer.
class Downloading final : public ReplySink {
 public:
  Downloading(const DownloadRequest& request, const Surroundings& surroundings,
              const DownloadProgressFn& progress, const std::stop_token& stop)
      : request_(request),
        surroundings_(surroundings),
        progress_(progress),
        stop_(stop),
        sources_(request.sources.size()),
        total_(request.size_bytes) {}

  Result<DownloadOutcome> Run();

  Status OnHead(const ReplyHead& head) override;
  Status OnBody(std::string_view bytes) override;
  std::chrono::nanoseconds held_up() const override { return held_up_; }

 private:
  enum class Verdict { kGood, kTryAgain };

  struct SourceState {
    int failures = 0;  // since the last progress
    int bad_chunks = 0;
    bool given_up = false;
    std::optional<std::chrono::milliseconds> retry_after;
  };

  Status OpenPart();
  Status RunAttempts();
  Status RunAttempt();
  Status CheckEnd();
  Status ToNextSource(const Error& error, bool progressed);
  std::optional<size_t> PickSource() const;
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
  Status Take(std::string_view bytes);
  Status BlameForChunk(internal::PartFile::Verdict verdict);
  void Pace(uint64_t bytes);
  void Report(DownloadProgress::Stage stage, std::chrono::milliseconds pause = {},
              std::string_view problem = {}) const;
  std::function<void()> CheckingReport() const {
    return [this] { Report(DownloadProgress::Stage::kCheckingPart); };
  }

  const DownloadSource& source() const { return request_.sources[source_]; }
  bool complete() const { return part_->complete(total_); }
  bool sidecar_is_of_source() const { return sidecar_.url == source().url; }

  const DownloadRequest& request_;
  const Surroundings& surroundings_;
  const DownloadProgressFn& progress_;
  const std::stop_token& stop_;

  std::optional<internal::PartFile> part_;
  Sidecar sidecar_;
  std::vector<SourceState> sources_;  // of request_.sources
  size_t source_ = 0;                 // the one that is asked
  uint64_t received_ = 0;             // from the network, in this call
  std::optional<uint64_t> total_;
  bool ended_ = false;    // the server has sent, or said that we have, the last byte
  bool patched_ = false;  // the part was not written in one piece by one reply
  int restarts_ = 0;

  // Of the attempt that runs.
  bool asked_for_range_ = false;
  std::optional<uint64_t> asked_end_;  // where the bytes end that it is to bring
  uint64_t stream_offset_ = 0;         // where in the file the reply's next byte belongs
  bool enough_ = false;                // the rest of the reply is of no use
  std::optional<std::chrono::milliseconds> retry_after_;

  // For max_bytes_per_second.
  SteadyTime pace_start_{};
  uint64_t paced_bytes_ = 0;
  std::chrono::nanoseconds held_up_{0};
};

void Downloading::Report(DownloadProgress::Stage stage, std::chrono::milliseconds pause,
                         std::string_view problem) const {
  if (!progress_) return;
  progress_({.stage = stage,
             .done_bytes = part_ ? part_->done_bytes() : 0,
             .total_bytes = total_,
             .pause = pause,
             .problem = problem});
}

// Nothing is known about the bytes that an earlier process left: after a power loss even their
// length may be a promise of the file system only. So all of them are read.
Status Downloading::OpenPart() {
  const std::optional<Sidecar> sidecar = ReadSidecar(SidecarPath(request_.part));
  TANDEM_ASSIGN_OR_RETURN(auto part, internal::PartFile::Open(request_, *surroundings_.files));
  part_.emplace(std::move(part));
  if (request_.chunks != nullptr) return part_->Check(CheckingReport(), stop_);
  std::error_code error;
  const uintmax_t size = fs::file_size(request_.part, error);
  const bool usable =
      !error && sidecar && Continues(*sidecar, request_) && (!total_ || size <= *total_);
  if (!usable) return part_->Forget();
  sidecar_ = *sidecar;
  patched_ = size > 0;
  return part_->Check(CheckingReport(), stop_);
}

Status Downloading::CheckDisk() const {
  if (!total_) return {};
  const uint64_t missing = *total_ - std::min(*total_, part_->done_bytes());
  TANDEM_ASSIGN_OR_RETURN(const uint64_t free_bytes, surroundings_.files->FreeBytes(request_.part));
  if (missing <= free_bytes) return {};
  return Err(ErrorCode::kResourceExhausted,
             "'{}' needs {} more bytes of disk and {} are free; make room (tandem rm MODEL) or "
             "choose another --data-dir",
             request_.part.parent_path().string(), missing, free_bytes);
}

Status Downloading::ForgetPart() {
  ended_ = false;
  patched_ = false;
  sidecar_ = {};
  total_ = request_.size_bytes;
  return part_->Forget();
}

// The bytes so far belong to something else: begin again with the next attempt.
Status Downloading::Restart() {
  if (++restarts_ > kMaxRestarts) {
    return Err(ErrorCode::kCorrupt,
               "{} keeps changing, or starting over instead of going on, while it is downloaded",
               UrlForMessages(source().url));
  }
  return ForgetPart();
}

Status Downloading::Remember(const ReplyHead& head) {
  if (part_->chunked()) return {};
  sidecar_ = {.url = source().url,
              .etag = std::string(head.headers.Find("etag").value_or("")),
              .digest_hex = request_.digest_hex};
  return surroundings_.files->ReplaceFile(SidecarPath(request_.part), FormatSidecar(sidecar_));
}

Status Downloading::CheckTotal(uint64_t offered, const ReplyHead& head) const {
  if (!request_.size_bytes || offered == *request_.size_bytes) return {};
  return Err(ErrorCode::kCorrupt, "{} offers {} bytes where {} were promised",
             UrlForMessages(head.url), offered, *request_.size_bytes);
}

// 200: the whole file from its first byte, whatever range we asked for.
Status Downloading::AcceptWhole(const ReplyHead& head) {
  // With chunks, what is here already is skipped as it goes by.
  if (part_->next() > 0 && !part_->chunked()) TANDEM_RETURN_IF_ERROR(Restart());
  if (const auto length = head.headers.Find("content-length")) {
    if (const std::optional<uint64_t> total = ParseNumber(*length)) {
      TANDEM_RETURN_IF_ERROR(CheckTotal(*total, head));
      total_ = total;
    }
  }
  TANDEM_RETURN_IF_ERROR(CheckDisk());
  stream_offset_ = 0;
  asked_end_ = total_;
  return Remember(head);
}

// 206: bytes from where we are, if the server means the same file.
Status Downloading::AcceptRange(const ReplyHead& head) {
  const auto text = head.headers.Find("content-range");
  const std::optional<ContentRange> range = text ? ParseContentRange(*text) : std::nullopt;
  const auto etag = head.headers.Find("etag");
  // Chunks say for themselves whether they are of the same file.
  const bool changed = !part_->chunked() && sidecar_is_of_source() && etag &&
                       !sidecar_.etag.empty() && *etag != sidecar_.etag;
  const uint64_t next = part_->next();
  if (!range || range->first != next || range->total.value_or(next) < next || changed) {
    const std::string_view why = changed ? "changed since the download began"
                                         : "answered with another range than was asked for";
    if (!part_->chunked()) TANDEM_RETURN_IF_ERROR(Restart());
    return Err(ErrorCode::kUnavailable, "{} {}", UrlForMessages(head.url), why);
  }
  if (range->total) {
    TANDEM_RETURN_IF_ERROR(CheckTotal(*range->total, head));
    total_ = range->total;
  }
  patched_ = true;
  stream_offset_ = next;
  if (!part_->chunked()) asked_end_ = total_;
  return {};
}

// 416: the file ends where our part ends, or before.
Status Downloading::AcceptRangeBeyondEnd(const ReplyHead& head) {
  const auto text = head.headers.Find("content-range");
  const std::optional<ContentRange> range = text ? ParseContentRange(*text) : std::nullopt;
  const uint64_t next = part_->next();
  if (part_->chunked()) {
    if (range && range->total) TANDEM_RETURN_IF_ERROR(CheckTotal(*range->total, head));
  } else {
    if (range && range->total == next && (!request_.size_bytes || next == *request_.size_bytes)) {
      ended_ = true;
      total_ = next;
      return Err(ErrorCode::kUnavailable, "{} is complete already", UrlForMessages(head.url));
    }
    TANDEM_RETURN_IF_ERROR(Restart());
  }
  return Err(ErrorCode::kUnavailable, "{} refused to go on from byte {}", UrlForMessages(head.url),
             next);
}

Status Downloading::OnHead(const ReplyHead& head) {
  if (const auto value = head.headers.Find("retry-after")) {
    retry_after_ = ParseRetryAfter(*value, surroundings_.clock->SystemNow());
  }
  switch (head.status) {
    case 200:
      return AcceptWhole(head);
    case 206:
      if (asked_for_range_) return AcceptRange(head);
      break;  // a range that nobody asked for
    case 416:
      if (asked_for_range_) return AcceptRangeBeyondEnd(head);
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

Status Downloading::BlameForChunk(internal::PartFile::Verdict verdict) {
  if (verdict == internal::PartFile::Verdict::kFine) return {};
  const uint64_t first = part_->next();
  const std::string problem =
      fmt::format("the chunk from byte {} that came from {} is not what was promised", first,
                  UrlForMessages(source().url));
  if (verdict == internal::PartFile::Verdict::kBadChunk &&
      ++sources_[source_].bad_chunks >= kMaxBadChunks) {
    return Err(ErrorCode::kCorrupt, "{}, nor were {} before it", problem, kMaxBadChunks - 1);
  }
  return Err(ErrorCode::kUnavailable, "{}", problem);
}

// Bytes that belong at stream_offset_: what is missing goes into the part.
Status Downloading::Take(std::string_view bytes) {
  while (!bytes.empty()) {
    const uint64_t next = part_->next();
    if (part_->chunked() && (complete() || next < stream_offset_)) {
      // What is still missing stands before these bytes; or nothing is.
      enough_ = true;
      return Err(ErrorCode::kUnavailable, "the rest of {} is here already",
                 UrlForMessages(source().url));
    }
    const uint64_t skipped = std::min<uint64_t>(bytes.size(), next - stream_offset_);
    bytes.remove_prefix(skipped);
    stream_offset_ += skipped;
    const uint64_t taken = std::min<uint64_t>(bytes.size(), part_->BytesToChunkEnd());
    if (taken == 0) continue;
    TANDEM_ASSIGN_OR_RETURN(const auto verdict, part_->Append(bytes.substr(0, taken)));
    bytes.remove_prefix(taken);
    stream_offset_ += taken;
    TANDEM_RETURN_IF_ERROR(BlameForChunk(verdict));
  }
  return {};
}

Status Downloading::OnBody(std::string_view bytes) {
  const uint64_t room = total_ ? *total_ - std::min(*total_, stream_offset_) : UINT64_MAX;
  received_ += bytes.size();
  // Chunks that are right are welcome, whatever comes behind them.
  if (bytes.size() > room && part_->chunked()) TANDEM_RETURN_IF_ERROR(Take(bytes.substr(0, room)));
  if (bytes.size() > room) {
    enough_ = part_->chunked() && complete();
    return Err(ErrorCode::kCorrupt, "{} sent more than the {} bytes that were promised",
               UrlForMessages(source().url), *total_);
  }
  TANDEM_RETURN_IF_ERROR(Take(bytes));
  Report(DownloadProgress::Stage::kTransferring);
  Pace(bytes.size());
  return {};
}

// Waits until so many bytes were due.
void Downloading::Pace(uint64_t bytes) {
  if (request_.max_bytes_per_second == 0) return;
  const SteadyTime now = surroundings_.clock->Now();
  const std::chrono::duration<double> due(static_cast<double>(paced_bytes_) /
                                          static_cast<double>(request_.max_bytes_per_second));
  if (paced_bytes_ == 0 || now - pace_start_ > due + kPaceMemory) {
    pace_start_ = now;  // what a pause saved is not caught up with
    paced_bytes_ = 0;
  }
  paced_bytes_ += bytes;
  const auto until =
      pace_start_ +
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::duration<double>(
          static_cast<double>(paced_bytes_) / static_cast<double>(request_.max_bytes_per_second)));
  const auto pause = std::chrono::ceil<std::chrono::milliseconds>(until - now);
  if (pause <= std::chrono::milliseconds(0)) return;
  surroundings_.sleeper->SleepFor(pause, stop_);
  held_up_ += surroundings_.clock->Now() - now;
}

Status Downloading::RunAttempt() {
  retry_after_.reset();
  enough_ = false;
  held_up_ = {};
  part_->Break();
  TransferRequest transfer = request_.transfer;
  transfer.url = source().url;
  transfer.method = TransferRequest::Method::kGet;
  transfer.redirects = TransferRequest::Redirects::kAll;
  transfer.bearer_token = source().bearer_token;
  transfer.max_bytes_at_once = request_.max_bytes_per_second;
  const uint64_t next = part_->next();
  asked_end_ = part_->chunked() ? part_->gap_end() : total_;
  const bool to_the_end = asked_end_ == total_;
  asked_for_range_ = next > 0 || !to_the_end;
  if (asked_for_range_) {
    transfer.headers.Set("Range", to_the_end ? fmt::format("bytes={}-", next)
                                             : fmt::format("bytes={}-{}", next, *asked_end_ - 1));
    // Only a strong validator may stand in If-Range (RFC 9110, 13.1.5).
    if (!part_->chunked() && sidecar_is_of_source() && sidecar_.etag.starts_with('"')) {
      transfer.headers.Set("If-Range", sidecar_.etag);
    }
  }
  const Result<ReplyHead> head = RunTransfer(transfer, *surroundings_.clock, stop_, *this);
  if (!head) {
    if (ended_ || enough_) return {};
    return std::unexpected(head.error());
  }
  return CheckEnd();
}

// The reply ended in good order; whether it was all of the file is another question.
Status Downloading::CheckEnd() {
  if (asked_end_ && stream_offset_ < *asked_end_) {
    return Err(ErrorCode::kUnavailable, "{} ended after {} of {} bytes",
               UrlForMessages(source().url), stream_offset_, *asked_end_);
  }
  if (part_->chunked()) return {};
  ended_ = true;
  total_ = part_->next();
  return {};
}

// The source with the fewest failures, the ones behind the present one first.
std::optional<size_t> Downloading::PickSource() const {
  std::optional<size_t> best;
  for (size_t i = 1; i <= sources_.size(); ++i) {
    const size_t candidate = (source_ + i) % sources_.size();
    if (sources_[candidate].given_up) continue;
    if (!best || sources_[candidate].failures < sources_[*best].failures) best = candidate;
  }
  return best;
}

// The present source has failed. Errors: `error`, with what it means, where no source is left.
Status Downloading::ToNextSource(const Error& error, bool progressed) {
  SourceState& state = sources_[source_];
  std::unexpected<Error> last(error);
  if (error.code != ErrorCode::kUnavailable && error.code != ErrorCode::kDeadlineExceeded) {
    state.given_up = true;
  } else {
    state.failures = progressed ? 1 : state.failures + 1;
    state.retry_after = retry_after_;
    if (state.failures >= request_.retry.max_attempts) {
      state.given_up = true;
      last = Wrap(error, fmt::format("gave up after {} attempts; the same command goes on from "
                                     "here later",
                                     state.failures));
    } else if (retry_after_ && *retry_after_ > request_.retry.max_retry_after) {
      state.given_up = true;
      last = Wrap(error, fmt::format("the server asks to come back in {} seconds",
                                     retry_after_->count() / 1000));
    }
  }
  const std::optional<size_t> next = PickSource();
  if (!next) return last;
  source_ = *next;
  const SourceState& chosen = sources_[source_];
  if (chosen.failures == 0) return {};
  const auto pause =
      RetryDelay(request_.retry, chosen.failures, chosen.retry_after, surroundings_.uniform());
  Report(DownloadProgress::Stage::kRetrying, pause, error.message);
  surroundings_.sleeper->SleepFor(pause, stop_);
  return {};
}

Status Downloading::RunAttempts() {
  while (!ended_ && !complete()) {
    if (stop_.stop_requested()) return Err(ErrorCode::kCancelled, "cancelled");
    const uint64_t received_before = received_;
    const uint64_t done_before = part_->done_bytes();
    const Status attempt = RunAttempt();
    if (attempt) continue;
    switch (attempt.error().code) {
      case ErrorCode::kCancelled:
      case ErrorCode::kIo:
      case ErrorCode::kResourceExhausted:
      case ErrorCode::kInternal:
        return attempt;  // another source would not help
      default:
        break;
    }
    const bool progressed =
        part_->chunked() ? part_->done_bytes() > done_before : received_ > received_before;
    TANDEM_RETURN_IF_ERROR(ToNextSource(attempt.error(), progressed));
  }
  return {};
}

Result<Downloading::Verdict> Downloading::VerifyDigest() {
  TANDEM_ASSIGN_OR_RETURN(const std::string actual, part_->FinishDigest(CheckingReport(), stop_));
  sidecar_.digest_hex = actual;
  if (request_.digest_hex.empty() || actual == request_.digest_hex) return Verdict::kGood;
  if (part_->chunked()) {
    return Err(ErrorCode::kCorrupt,
               "the list of chunks does not belong to the file: each chunk is as it says, and the "
               "whole has the digest {} instead of {}; nothing was installed",
               actual, request_.digest_hex);
  }
  // Bytes that came in several pieces, or lay on a disk that lost power, deserve one clean try.
  if (patched_ && restarts_ == 0) {
    TANDEM_RETURN_IF_ERROR(Restart());
    return Verdict::kTryAgain;
  }
  const Error error{
      ErrorCode::kCorrupt,
      fmt::format("{} is damaged or not what was promised: its digest is {} instead of {}; nothing "
                  "was installed",
                  UrlForMessages(source().url), actual, request_.digest_hex)};
  TANDEM_RETURN_IF_ERROR(ToNextSource(error, false));
  TANDEM_RETURN_IF_ERROR(ForgetPart());
  return Verdict::kTryAgain;
}

Status Downloading::Publish() {
  Report(DownloadProgress::Stage::kFinishing);
  os::FileSystem& files = *surroundings_.files;
  TANDEM_RETURN_IF_ERROR(part_->SyncAndClose());
  TANDEM_RETURN_IF_ERROR(files.Rename(request_.part, request_.destination));
  TANDEM_RETURN_IF_ERROR(files.SyncDirectory(request_.destination.parent_path()));
  (void)files.Remove(SidecarPath(request_.part));  // a leftover is harmless: its part is gone
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
  return DownloadOutcome{.size_bytes = part_->done_bytes(),
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
  TANDEM_CHECK(!request.sources.empty());
  TANDEM_CHECK(request.digest_hex.empty() || request.make_digest);
  if (request.chunks != nullptr) {
    TANDEM_CHECK(request.size_bytes && request.make_digest && request.chunks->chunk_bytes > 0);
    TANDEM_CHECK(request.chunks->digests_hex.size() ==
                 ChunkCount(*request.size_bytes, request.chunks->chunk_bytes));
  }
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
  // Chunks that are right stay so, whatever the others are.
  const bool useless = !outcome && outcome.error().code == ErrorCode::kCorrupt;
  if (useless && request.chunks == nullptr) RemovePartFiles(request.part);
  return outcome;
}

uint64_t ChunkCount(uint64_t size_bytes, uint64_t chunk_bytes) {
  return size_bytes / chunk_bytes + (size_bytes % chunk_bytes != 0 ? 1 : 0);
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
