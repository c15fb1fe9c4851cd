// The keys of a data directory: `tandem keys`, and what `tandem serve` checks calls against.
#pragma once

#include <memory>
#include <string>

#include "app/database.h"
#include "base/clock.h"
#include "base/error.h"
#include "gateway/auth/audit_log.h"
#include "gateway/auth/key_ring.h"
#include "gateway/auth/sql_key_store.h"
#include "store/database.h"

namespace tandem::app {

// Who runs this process, for the audit log: "local:ann", or "local:1000" for a user without a name.
std::string LocalActor();

// Owns the node's database, and the ring and the audit log over it.
class Keys {
 public:
  // Makes the directory and the database where they are missing. `clock` outlives the object.
  static Result<std::unique_ptr<Keys>> Open(const StatePlace& place, const Clock* clock);

  gateway::auth::KeyRing& ring() { return *ring_; }
  gateway::auth::AuditLog& audit() { return *audit_; }
  store::Database& database() { return *database_; }

 private:
  Keys() = default;

  // Each over the one before.
  std::unique_ptr<store::Database> database_;
  std::unique_ptr<gateway::auth::SqlKeyStore> store_;
  std::unique_ptr<gateway::auth::KeyRing> ring_;
  std::unique_ptr<gateway::auth::AuditLog> audit_;
};

}  // namespace tandem::app
