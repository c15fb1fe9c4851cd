// Records in memory, for tests: fails when told to, and can be waited for.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "gateway/usage/usage_store.h"

namespace tandem::gateway::usage {

// Thread: any.
class FakeUsageStore final : public UsageStore {
 public:
  Result<std::vector<std::string>> Append(std::span<const UsageRecord> records) override {
    std::unique_lock lock(mutex_);
    ++n_calls_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return !held_; });
    if (error_) return std::unexpected(*error_);
    if (!errors_.empty()) {
      Error error = errors_.front();
      errors_.pop_front();
      return std::unexpected(std::move(error));
    }
    for (const UsageRecord& record : records) {
      if (record.request_id == poison_) {
        return Err(ErrorCode::kInvalidArgument, "the record '{}' cannot be kept", poison_);
      }
    }
    batches_.push_back(records.size());
    std::vector<std::string> duplicates;
    for (const UsageRecord& record : records) {
      if (!records_.emplace(record.request_id, record).second) {
        duplicates.push_back(record.request_id);
      }
    }
    return duplicates;
  }

  // From now on every call fails, or none.
  void FailAlways(std::optional<Error> error) {
    std::lock_guard lock(mutex_);
    error_ = std::move(error);
  }
  // The next calls fail, one after the other.
  void FailNext(std::deque<Error> errors) {
    std::lock_guard lock(mutex_);
    errors_ = std::move(errors);
  }
  void SetPoison(std::string request_id) {
    std::lock_guard lock(mutex_);
    poison_ = std::move(request_id);
  }
  // Calls wait until they are let go.
  void Hold(bool held) {
    std::lock_guard lock(mutex_);
    held_ = held;
    changed_.notify_all();
  }
  // False: they did not come within half a minute, so they never will.
  bool WaitForCalls(int n) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(30), [&] { return n_calls_ >= n; });
  }

  std::map<std::string, UsageRecord> records() const {
    std::lock_guard lock(mutex_);
    return records_;
  }
  std::vector<size_t> batches() const {
    std::lock_guard lock(mutex_);
    return batches_;
  }
  int n_calls() const {
    std::lock_guard lock(mutex_);
    return n_calls_;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, UsageRecord> records_;
  std::vector<size_t> batches_;  // sizes of the calls that went well
  std::optional<Error> error_;
  std::deque<Error> errors_;
  std::string poison_;
  bool held_ = false;
  int n_calls_ = 0;
};

}  // namespace tandem::gateway::usage
