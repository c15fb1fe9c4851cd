// Where the roll-out is kept, so that it survives a restart and nodes share it: the interface, and
// one in memory for tests and for who needs neither.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "gateway/router/canary.h"

namespace tandem::gateway::dispatch {

struct CanaryPlan {
  CanaryOptions options;
  std::string target;         // the new one: a target's id
  std::string baseline;       // whose place it takes
  std::string strategy = {};  // whose targets these are; empty: the default one's

  friend bool operator==(const CanaryPlan&, const CanaryPlan&) = default;
};

struct StoredCanary {
  int64_t version = 0;  // one more with every change, over all roll-outs
  int64_t epoch = 0;    // the version at which its step began, to which figures belong
  CanaryPlan plan;
  Canary::Position position;
  std::string last_reason;  // of the last change

  friend bool operator==(const StoredCanary&, const StoredCanary&) = default;
};

// Thread: one at a time. Errors: the database's; kUnavailable where it is lost for now.
class CanaryStore {
 public:
  virtual ~CanaryStore() = default;
  // The one that runs or ran last.
  virtual Result<std::optional<StoredCanary>> Read() = 0;
  // In the place of the version before it; false where that is not the one in force any more, and
  // nothing is changed then.
  virtual Result<bool> Replace(const StoredCanary& next) = 0;
  // The figures of a node in an epoch, in place of those that it published before. Nothing happens
  // where the epoch is over.
  virtual Status Publish(int64_t epoch, std::string_view node, std::string_view figures) = 0;
  // Those of every node, also of nodes that are gone.
  virtual Result<std::vector<std::string>> Figures(int64_t epoch) = 0;
  // Whether this node is the one that looks at the figures and decides.
  virtual Result<bool> Decides() = 0;
};

// What several controls may share as nodes share a database. Thread: any.
class MemoryCanaryStore final : public CanaryStore {
 public:
  Result<std::optional<StoredCanary>> Read() override {
    std::lock_guard lock(mutex_);
    if (fail_) return std::unexpected(*fail_);
    return stored_;
  }
  Result<bool> Replace(const StoredCanary& next) override {
    std::lock_guard lock(mutex_);
    if (fail_) return std::unexpected(*fail_);
    if (next.version != (stored_ ? stored_->version : 0) + 1) return false;
    if (!stored_ || stored_->epoch != next.epoch) figures_.clear();
    stored_ = next;
    return true;
  }
  Status Publish(int64_t epoch, std::string_view node, std::string_view figures) override {
    std::lock_guard lock(mutex_);
    if (fail_) return std::unexpected(*fail_);
    if (stored_ && stored_->epoch == epoch) figures_[std::string(node)] = figures;
    return {};
  }
  Result<std::vector<std::string>> Figures(int64_t epoch) override {
    std::lock_guard lock(mutex_);
    if (fail_) return std::unexpected(*fail_);
    std::vector<std::string> all;
    if (!stored_ || stored_->epoch != epoch) return all;
    for (const auto& [node, figures] : figures_) all.push_back(figures);
    return all;
  }
  Result<bool> Decides() override { return true; }

  // Every call from now on; nothing: they work again.
  void FailWith(std::optional<Error> error) {
    std::lock_guard lock(mutex_);
    fail_ = std::move(error);
  }

 private:
  std::mutex mutex_;  // guards all below
  std::optional<StoredCanary> stored_;
  std::map<std::string, std::string> figures_;  // of the epoch in force, by node
  std::optional<Error> fail_;
};

}  // namespace tandem::gateway::dispatch
