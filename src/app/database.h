// The database of a node: a file below its data directory, or a PostgreSQL that nodes share.
#pragma once

#include <filesystem>
#include <memory>

#include "app/configuration.h"
#include "base/error.h"
#include "store/database.h"

namespace tandem::app {

// What belongs to a node and where it lies.
struct StatePlace {
  std::filesystem::path data_dir;  // what is never shared: models, and the keys that sign and hash
  StoreSettings store = {};
  std::filesystem::path directory = {};  // that store.password_file is relative to
};
// Of `tandem serve` and the commands beside it.
StatePlace PlaceOf(const Configuration& configuration, std::filesystem::path data_dir);

// Makes the data directory (mode 0700) where it is missing, and the file.
// Errors: kFailedPrecondition where the password is to come from a variable or file that does not
// hold it; the database's.
Result<std::unique_ptr<store::Database>> OpenDatabase(const StatePlace& place);

}  // namespace tandem::app
