// The tables of this room.
#pragma once

#include "base/error.h"
#include "store/database.h"

namespace tandem::gateway::auth {

// Makes or upgrades them. Errors: the database's; kFailedPrecondition where a newer Tandem made
// them.
Status MigrateAuth(store::Database* database);

}  // namespace tandem::gateway::auth
