// Brings records to their store without ever making a request wait for it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "gateway/usage/record.h"
#include "gateway/usage/usage_store.h"
#include "metrics/registry.h"

namespace tandem::gateway::usage {

struct UsageWriterOptions {
  // Records that wait. From a quarter of it on, new ones come without their decision's text, so
  // that more of them fit while a database is away: content goes before usage does. Beyond it
  // records are lost, which is counted and logged.
  size_t capacity = 8192;
  size_t max_batch = 512;                        // records in one transaction
  std::chrono::milliseconds batch_interval{75};  // how long the first of a batch waits for more
  // Between two tries of a failed batch: doubled from the first to the second.
  std::chrono::milliseconds min_backoff{100};
  std::chrono::milliseconds max_backoff{5000};
  std::chrono::milliseconds shutdown_timeout{5000};  // for what waits when the writer is destroyed
};

// The last work on records, once for each and together for all that are written together: what is
// cheaper for many than for one, such as a signature. Thread: the writer's.
using FinishRecords = std::function<void(std::span<UsageRecord>)>;

// The wait after so many failures in a row (1, 2, ...).
std::chrono::milliseconds BackoffAfter(int n_failures, const UsageWriterOptions& options);

// One thread over one store. What it did is in the registry: tandem_usage_records_total{result}
// with written, duplicate (a second record for a request id: a bug of ours), lost; _trimmed_total,
// _write_failures_total, and the gauge tandem_usage_queue_records.
// A crash of the process loses what was submitted in the last batch_interval and not yet written;
// what was written is whole.
class UsageWriter {
 public:
  // `store`, `registry` and what `finish` (may be empty) uses must outlive this object, and nobody
  // else writes through `store`.
  UsageWriter(UsageStore* store, metrics::Registry* registry, UsageWriterOptions options = {},
              FinishRecords finish = {});
  // Writes what waits, for at most shutdown_timeout where the store fails.
  ~UsageWriter();
  UsageWriter(const UsageWriter&) = delete;
  UsageWriter& operator=(const UsageWriter&) = delete;

  // Never waits for the store. False: the queue was full and the record is lost.
  // Thread: any. Cost: a move under a lock; the thread is woken once a batch.
  bool Submit(UsageRecord record);

  // Waits until all that was submitted before is written, duplicate or lost. False: not within
  // `timeout`. Thread: any.
  bool Flush(std::chrono::milliseconds timeout);

 private:
  void Run();
  void Write(const std::vector<UsageRecord>& batch);
  bool WriteOnce(std::span<const UsageRecord> records, Status* error);
  void WriteSingly(const std::vector<UsageRecord>& batch);
  bool WaitAfterFailure(int n_failures);
  void Lose(size_t n_records, const Error& error);

  UsageStore* const store_;
  const UsageWriterOptions options_;
  const FinishRecords finish_;
  metrics::Counter& written_;
  metrics::Counter& duplicates_;
  metrics::Counter& lost_;
  metrics::Counter& trimmed_;
  metrics::Counter& failures_;
  metrics::Gauge& queue_length_;

  std::mutex mutex_;  // guards all below
  std::condition_variable work_;
  std::condition_variable settled_;
  std::deque<UsageRecord> queue_;  // at most capacity
  uint64_t n_submitted_ = 0;       // accepted into the queue
  uint64_t n_settled_ = 0;         // of those: written, duplicate or lost
  int n_flushing_ = 0;             // callers of Flush that wait now
  bool stopping_ = false;
  SteadyTime stop_deadline_{};

  std::thread thread_;  // last: it uses all above
};

}  // namespace tandem::gateway::usage
