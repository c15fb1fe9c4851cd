#include "app/database.h"

#include <string>
#include <utility>

#include "os/file.h"
#include "os/paths.h"

namespace tandem::app {
namespace {

constexpr size_t kMaxPasswordBytes = 4096;

Result<std::string> FindPassword(const StatePlace& place) {
  const StoreSettings& settings = place.store;
  if (!settings.password_env.empty()) {
    if (auto password = os::GetEnv(settings.password_env.c_str())) return *std::move(password);
    return Err(ErrorCode::kFailedPrecondition,
               "the password of the database is to come from {}, which is not set",
               settings.password_env);
  }
  if (settings.password_file.empty()) return std::string();
  const std::filesystem::path file = place.directory / settings.password_file;
  auto text = os::ReadFile(file, kMaxPasswordBytes);
  if (!text) return Wrap(std::move(text).error(), "the password of the database");
  std::string password = text->substr(0, text->find_first_of("\r\n"));
  if (password.empty()) {
    return Err(ErrorCode::kFailedPrecondition,
               "the password of the database: the first line of '{}' is empty", file.string());
  }
  return password;
}

}  // namespace

StatePlace PlaceOf(const Configuration& configuration, std::filesystem::path data_dir) {
  return {std::move(data_dir), configuration.store, configuration.directory};
}

Result<std::unique_ptr<store::Database>> OpenDatabase(const StatePlace& place) {
  // Other users of the machine have no business with keys, hashed or not.
  TANDEM_RETURN_IF_ERROR(os::MakeDirectories(place.data_dir, 0700));
  const store::DatabaseOptions options{.busy_timeout = place.store.busy_timeout,
                                       .statement_timeout = place.store.statement_timeout};
  if (place.store.url.empty()) {
    return store::Database::Open(place.data_dir / "tandem.db", options);
  }
  TANDEM_ASSIGN_OR_RETURN(std::string password, FindPassword(place));
  return store::Database::Connect({.url = place.store.url, .password = std::move(password)},
                                  options);
}

}  // namespace tandem::app
