// The roll-out that runs, as this node knows it: who is in it, what its requests saw, and the
// orders of the people who watch it.
//
// Its state lies in a CanaryStore, which nodes share. Each node counts its own requests and
// publishes the figures; the one that decides sums them up, looks, and writes what follows; the
// others take over what they find there. So a change reaches every node within one round of Sync.
// While the store is lost nobody decides, and each node goes on with the state that it knows.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/error.h"
#include "gateway/dispatch/canary_store.h"
#include "gateway/router/canary.h"

namespace tandem::gateway::dispatch {

struct CanaryQuantiles {
  double p50 = 0;
  double p95 = 0;
  double p99 = 0;
};
struct CanaryArmStatus {
  uint64_t samples = 0;
  uint64_t errors = 0;
  uint64_t degenerate = 0;
  uint64_t engaged = 0;
  CanaryQuantiles ttft_ms;
  CanaryQuantiles total_ms;  // of whole answers, which differ in length
};

struct CanaryStatus {
  CanaryPlan plan;
  Canary::State state = Canary::State::kRunning;
  double share = 0;
  int step = 0;
  CanaryArmStatus canary;  // of this step, as far as it is known here
  CanaryArmStatus baseline;
  std::string last_reason;  // of the last change
  int64_t version = 0;      // of the state
  bool decides = false;     // this node
  std::string store_lost;   // why the state is an old one; empty: it is not
};

// Thread: any.
class CanaryControl {
 public:
  // Told of every change that was made here, by the thread that made it: for the audit log.
  //   action: "CANARY_START", "CANARY_STEP", "CANARY_HOLD", "CANARY_PROMOTE", "CANARY_ROLLBACK"
  using Audit = std::function<void(std::string_view action, std::string_view who,
                                   const CanaryStatus& status)>;
  // `store` null: one in memory. `clock` and `store` outlive the object; `node` names it among
  // those that share the store.
  CanaryControl(const Clock* clock, Audit audit, CanaryStore* store, std::string node);

  // By hand. Errors: those of Validate; the store's; kFailedPrecondition while another one runs or
  // is held, and where another node changed it at the same moment.
  Status Start(CanaryPlan plan, std::string_view who);
  // Errors: kNotFound where there is none; kFailedPrecondition where it is over. One that was
  // promoted can still be rolled back.
  Status Promote(bool completely, std::string_view who);
  Status Hold(std::string_view who);
  Status RollBack(std::string_view who);

  // One round: takes over what other nodes changed, publishes this one's figures, and looks at all
  // of them where this node decides. Meant to be called every kSyncInterval.
  // Errors: the store's, which are logged once. Waits for a database; a look costs some hundred
  // microseconds.
  Status Sync();
  static constexpr std::chrono::milliseconds kSyncInterval{500};

  // As of the last round. Null-like where there was never one.
  std::optional<CanaryStatus> Read() const;
  // With the figures of all nodes as they are now. Errors: the store's.
  Result<std::optional<CanaryStatus>> ReadAll();

  // What a request must know; nothing while there is no roll-out. A roll-out that was promoted
  // still stands in its baseline's place, for everybody, until the configuration says so; one that
  // was rolled back gets nothing.
  struct Assignment {
    std::string target;
    std::string baseline;
    std::string strategy;
    bool assigned = false;
  };
  std::optional<Assignment> Assign(std::string_view subject) const;

  // One finished request of either arm. Never waits.
  void Record(const CanarySample& sample);
  // The user made use of an answer: an engagement event of the application.
  void Engage(bool canary);

 private:
  struct Change {
    std::string action;
    std::string who;
    CanaryStatus status;
  };
  // Those below need sync_mutex_, which is never taken while mutex_ is held.
  Result<std::optional<StoredCanary>> Refresh();
  Status Write(StoredCanary next, std::string_view action, std::string_view who);
  Status Order(std::string_view action, std::string_view who, bool when_promoted,
               const std::function<Canary::Change(Canary*)>& order);
  Result<CanaryFigures> SumUp(int64_t epoch);
  Status PublishOwn();
  Status Round(bool decide);

  void Adopt(const StoredCanary& stored);
  CanaryStatus StatusLocked(const CanaryFigures& figures) const;

  const Clock* const clock_;
  const Audit audit_;
  MemoryCanaryStore own_store_;
  CanaryStore* const store_;
  const std::string node_;

  mutable std::mutex sync_mutex_;  // one round or order at a time; guards the store
  mutable std::mutex mutex_;       // guards all below; never held while the store is waited for
  std::optional<StoredCanary> stored_;
  std::unique_ptr<Canary> canary_;  // at its position, with this node's figures of the step
  bool unpublished_ = false;        // figures changed since they were
  CanaryFigures all_;               // of every node, as of the last time that they were summed up
  bool decides_ = false;
  std::string lost_;
};

}  // namespace tandem::gateway::dispatch
