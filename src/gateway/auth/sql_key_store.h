// Keys in the database, shared with other processes that open the same one.
#pragma once

#include <memory>

#include "gateway/auth/key_store.h"
#include "store/database.h"

namespace tandem::gateway::auth {

class SqlKeyStore final : public KeyStore {
 public:
  // Makes or upgrades the tables. `database` must outlive this object.
  // Errors: the database's; kFailedPrecondition where a newer Tandem made the tables.
  static Result<std::unique_ptr<SqlKeyStore>> Open(store::Database* database);

  Status Add(const KeyRecord& record) override;
  Result<std::vector<KeyRecord>> List() override;
  Status Revoke(std::string_view id, int64_t revoked_at) override;
  Result<int64_t> Version() override;

 private:
  explicit SqlKeyStore(store::Database* database) : database_(database) {}
  store::Database* const database_;
};

}  // namespace tandem::gateway::auth
