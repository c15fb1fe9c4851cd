#include "os/paths.h"

#include <cstdlib>

namespace tandem::os {

std::optional<std::string> GetEnv(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return value;
}

Result<std::filesystem::path> DefaultDataDir() {
  // The specification says to ignore a relative XDG_DATA_HOME.
  if (const auto xdg = GetEnv("XDG_DATA_HOME"); xdg && xdg->starts_with('/')) {
    return std::filesystem::path(*xdg) / "tandem";
  }
  if (const auto home = GetEnv("HOME")) {
    return std::filesystem::path(*home) / ".local/share/tandem";
  }
  return Err(ErrorCode::kFailedPrecondition,
             "no data directory: set HOME or XDG_DATA_HOME, or give --data-dir");
}

Result<std::filesystem::path> ExecutablePath() {
  std::error_code error;
  auto path = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return ErrnoError(error.value(), "finding the running program");
  return path;
}

}  // namespace tandem::os
