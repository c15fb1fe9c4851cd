#include "app/keys.h"

#include <pwd.h>
#include <unistd.h>

#include <array>
#include <utility>

#include <fmt/format.h>

namespace tandem::app {

std::string LocalActor() {
  const uid_t user = ::getuid();
  std::array<char, 4096> buffer;
  passwd entry{};
  passwd* found = nullptr;
  // Any failure leaves the number, which is as good a name.
  if (::getpwuid_r(user, &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr) {
    return fmt::format("local:{}", found->pw_name);
  }
  return fmt::format("local:{}", user);
}

Result<std::unique_ptr<Keys>> Keys::Open(const StatePlace& place, const Clock* clock) {
  auto keys = std::unique_ptr<Keys>(new Keys());
  TANDEM_ASSIGN_OR_RETURN(keys->database_, OpenDatabase(place));
  store::Database* const database = keys->database_.get();
  TANDEM_ASSIGN_OR_RETURN(keys->store_, gateway::auth::SqlKeyStore::Open(database, clock));
  TANDEM_ASSIGN_OR_RETURN(keys->audit_, gateway::auth::AuditLog::Open(database, clock));
  TANDEM_ASSIGN_OR_RETURN(
      keys->ring_,
      gateway::auth::KeyRing::Open(keys->store_.get(), place.data_dir / "key-pepper", clock));
  return keys;
}

}  // namespace tandem::app
