#include "app/keys.h"

#include <utility>

#include "os/file.h"

namespace tandem::app {

Result<std::unique_ptr<Keys>> Keys::Open(const std::filesystem::path& data_dir,
                                         const Clock* clock) {
  // Other users of the machine have no business with keys, hashed or not.
  TANDEM_RETURN_IF_ERROR(os::MakeDirectories(data_dir, 0700));
  auto keys = std::unique_ptr<Keys>(new Keys());
  TANDEM_ASSIGN_OR_RETURN(keys->database_, store::Database::Open(data_dir / "tandem.db"));
  TANDEM_ASSIGN_OR_RETURN(keys->store_, gateway::auth::SqlKeyStore::Open(keys->database_.get()));
  TANDEM_ASSIGN_OR_RETURN(keys->ring_, gateway::auth::KeyRing::Open(
                                           keys->store_.get(), data_dir / "key-pepper", clock));
  return keys;
}

}  // namespace tandem::app
