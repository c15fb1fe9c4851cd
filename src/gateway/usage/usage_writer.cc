#include "gateway/usage/usage_writer.h"

#include <algorithm>
#include <iterator>
#include <span>
#include <utility>

#include "base/log.h"

namespace tandem::gateway::usage {
namespace {

constexpr std::string_view kRecordsName = "tandem_usage_records_total";
constexpr std::string_view kRecordsHelp =
    "Usage records by what became of them: written, duplicate, lost";

// What the same records will meet again, so that waiting does not help.
bool IsPermanent(ErrorCode code) {
  return code == ErrorCode::kInvalidArgument || code == ErrorCode::kInternal;
}

}  // namespace

std::chrono::milliseconds BackoffAfter(int n_failures, const UsageWriterOptions& options) {
  const int doublings = std::clamp(n_failures - 1, 0, 30);
  return std::min(options.max_backoff, options.min_backoff * (int64_t{1} << doublings));
}

UsageWriter::UsageWriter(UsageStore* store, metrics::Registry* registry, UsageWriterOptions options,
                         FinishRecords finish)
    : store_(store),
      options_(options),
      finish_(std::move(finish)),
      written_(registry->GetCounter(kRecordsName, kRecordsHelp, {{"result", "written"}})),
      duplicates_(registry->GetCounter(kRecordsName, kRecordsHelp, {{"result", "duplicate"}})),
      lost_(registry->GetCounter(kRecordsName, kRecordsHelp, {{"result", "lost"}})),
      trimmed_(registry->GetCounter("tandem_usage_trimmed_total",
                                    "Usage records kept without their decision's text")),
      failures_(registry->GetCounter("tandem_usage_write_failures_total",
                                     "Tries to write usage records that failed")),
      queue_length_(registry->GetGauge("tandem_usage_queue_records",
                                       "Usage records that wait to be written")),
      thread_([this] { Run(); }) {}

UsageWriter::~UsageWriter() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    stop_deadline_ = std::chrono::steady_clock::now() + options_.shutdown_timeout;
  }
  work_.notify_all();
  thread_.join();
}

bool UsageWriter::Submit(UsageRecord record) {
  bool wake = false;
  {
    std::lock_guard lock(mutex_);
    if (queue_.size() >= options_.capacity) {
      lost_.Add();
      // Not one line for each: there may be thousands a second.
      if (lost_.value() % 1000 == 1) {
        log::Error("the queue of usage records is full; {} are lost so far", lost_.value());
      }
      return false;
    }
    if (queue_.size() >= options_.capacity / 4 && !record.decision_json.empty()) {
      record.decision_json = std::string();
      record.trimmed = true;
      trimmed_.Add();
    }
    queue_.push_back(std::move(record));
    ++n_submitted_;
    queue_length_.Set(static_cast<double>(queue_.size()));
    wake = queue_.size() == 1 || queue_.size() == options_.max_batch;
  }
  if (wake) work_.notify_one();
  return true;
}

bool UsageWriter::Flush(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  const uint64_t wanted = n_submitted_;
  ++n_flushing_;
  work_.notify_one();
  const bool done = settled_.wait_for(lock, timeout, [&] { return n_settled_ >= wanted; });
  --n_flushing_;
  return done;
}

void UsageWriter::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    work_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    work_.wait_for(lock, options_.batch_interval, [&] {
      return stopping_ || n_flushing_ > 0 || queue_.size() >= options_.max_batch;
    });
    const size_t n = std::min(queue_.size(), options_.max_batch);
    const auto end = queue_.begin() + static_cast<ptrdiff_t>(n);
    std::vector<UsageRecord> batch(std::make_move_iterator(queue_.begin()),
                                   std::make_move_iterator(end));
    queue_.erase(queue_.begin(), end);
    queue_length_.Set(static_cast<double>(queue_.size()));
    lock.unlock();
    if (finish_) finish_(batch);
    Write(batch);
    lock.lock();
    n_settled_ += batch.size();
    settled_.notify_all();
  }
}

// Returns when every record of the batch is written, duplicate or lost.
void UsageWriter::Write(const std::vector<UsageRecord>& batch) {
  Status error;
  for (int n_failures = 1; !WriteOnce(batch, &error); ++n_failures) {
    if (IsPermanent(error.error().code)) return WriteSingly(batch);
    if (!WaitAfterFailure(n_failures)) return Lose(batch.size(), error.error());
  }
}

bool UsageWriter::WriteOnce(std::span<const UsageRecord> records, Status* error) {
  Result<std::vector<std::string>> duplicates = store_->Append(records);
  if (!duplicates) {
    failures_.Add();
    log::Warning("{} usage records are not written yet: {}", records.size(),
                 duplicates.error().message);
    *error = std::unexpected(std::move(duplicates).error());
    return false;
  }
  if (!duplicates->empty()) {
    log::Error("{} usage records are dropped since their requests have one already, {} the first",
               duplicates->size(), duplicates->front());
  }
  duplicates_.Add(duplicates->size());
  written_.Add(records.size() - duplicates->size());
  return true;
}

// One bad record must not take the others of its batch with it.
void UsageWriter::WriteSingly(const std::vector<UsageRecord>& batch) {
  for (const UsageRecord& record : batch) {
    Status error;
    for (int n_failures = 1; !WriteOnce(std::span(&record, 1), &error); ++n_failures) {
      if (IsPermanent(error.error().code) || !WaitAfterFailure(n_failures)) {
        Lose(1, error.error());
        break;
      }
    }
  }
}

// False: the writer is being destroyed and its time is over.
bool UsageWriter::WaitAfterFailure(int n_failures) {
  const SteadyTime retry_at = std::chrono::steady_clock::now() + BackoffAfter(n_failures, options_);
  std::unique_lock lock(mutex_);
  if (!work_.wait_until(lock, retry_at, [&] { return stopping_; })) return true;
  if (retry_at >= stop_deadline_) return false;
  // No notification is left that could end this one early.
  work_.wait_until(lock, retry_at, [] { return false; });
  return true;
}

void UsageWriter::Lose(size_t n_records, const Error& error) {
  lost_.Add(n_records);
  log::Error("{} usage records are lost: {}", n_records, error.message);
}

}  // namespace tandem::gateway::usage
