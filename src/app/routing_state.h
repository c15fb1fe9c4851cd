// What routing keeps in the node's database: the roll-out with the figures of every node, and
// strategies by digest, so that a restart loses neither and nodes that share the database follow
// one decision.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "gateway/dispatch/canary_store.h"
#include "gateway/dispatch/dispatcher.h"
#include "store/database.h"

namespace tandem::app {

// Makes or upgrades the tables of both below. Errors: the database's; kFailedPrecondition where a
// newer Tandem made them.
Status MigrateRoutingState(store::Database* database);

// Thread: one at a time.
class SqlCanaryStore final : public gateway::dispatch::CanaryStore {
 public:
  // After MigrateRoutingState. `database` outlives the object.
  explicit SqlCanaryStore(store::Database* database) : database_(database) {}

  Result<std::optional<gateway::dispatch::StoredCanary>> Read() override;
  Result<bool> Replace(const gateway::dispatch::StoredCanary& next) override;
  Status Publish(int64_t epoch, std::string_view node, std::string_view figures) override;
  Result<std::vector<std::string>> Figures(int64_t epoch) override;
  // The node that holds the database's lock of that name. It gives it up when it ends, and loses it
  // when its connection breaks; any other takes it then.
  Result<bool> Decides() override;

 private:
  store::Database* const database_;
  std::optional<store::NamedLock> lock_;
};

// Thread: any.
class SqlStrategyArchive final : public gateway::dispatch::StrategyArchive {
 public:
  // After MigrateRoutingState. Both outlive the object.
  SqlStrategyArchive(store::Database* database, const Clock* clock)
      : database_(database), clock_(clock) {}

  // Only the kMaxKept that were in force last are kept.
  Status Keep(std::string_view digest, std::string_view json) override;
  Result<std::optional<std::string>> Find(std::string_view digest) override;

  static constexpr int kMaxKept = 1000;

 private:
  store::Database* const database_;
  const Clock* const clock_;
};

}  // namespace tandem::app
