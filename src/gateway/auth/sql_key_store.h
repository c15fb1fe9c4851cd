// Keys in the database, shared with other processes that open the same one.
#pragma once

#include <memory>

#include "gateway/auth/key_store.h"
#include "store/database.h"

namespace tandem::gateway::auth {

class SqlKeyStore final : public KeyStore {
 public:
  // Makes or upgrades the tables. Both must outlive this object; the clock dates audit records.
  // Errors: the database's; kFailedPrecondition where a newer Tandem made the tables.
  static Result<std::unique_ptr<SqlKeyStore>> Open(store::Database* database, const Clock* clock);

  Status Add(const KeyRecord& record, const AuditEvent& event) override;
  Status Replace(std::string_view id, int64_t overlap_ends_at, const KeyRecord& next,
                 const AuditEvent& event) override;
  Result<std::vector<KeyRecord>> List() override;
  Status Revoke(std::span<const std::string> ids, int64_t revoked_at,
                std::span<const AuditEvent> events) override;
  Result<std::string> KeepPepperProof(std::string_view proof) override;
  Result<int64_t> Version() override;

 private:
  SqlKeyStore(store::Database* database, const Clock* clock) : database_(database), clock_(clock) {}
  Status Finish(store::Transaction transaction, std::span<const AuditEvent> events);

  store::Database* const database_;
  const Clock* const clock_;
};

}  // namespace tandem::gateway::auth
