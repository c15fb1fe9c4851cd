#include "app/configuration_live.h"

#include <sys/stat.h>

#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "os/file.h"

namespace tandem::app {
namespace {

// Those of the file as it is, since it may be closed to others.
uint32_t PermissionsOf(const std::filesystem::path& path) {
  struct stat status{};
  return ::stat(path.c_str(), &status) == 0 ? status.st_mode & 0777U : 0644U;
}

}  // namespace

LiveConfiguration::LiveConfiguration(std::optional<std::filesystem::path> file,
                                     ConfigurationFlags flags, Configuration first)
    : file_(std::move(file)), flags_(std::move(flags)) {
  current_ = {1, ConfigurationDigest(first),
              std::make_shared<const Configuration>(std::move(first))};
}

Result<std::unique_ptr<LiveConfiguration>> LiveConfiguration::Open(
    std::optional<std::filesystem::path> file, ConfigurationFlags flags) {
  Configuration base = ShippedConfiguration();
  if (file) {
    TANDEM_ASSIGN_OR_RETURN(base, LoadConfiguration(*file));
  }
  TANDEM_ASSIGN_OR_RETURN(Configuration first, ApplyFlags(std::move(base), flags));
  return std::unique_ptr<LiveConfiguration>(
      new LiveConfiguration(std::move(file), std::move(flags), std::move(first)));
}

ConfigurationVersion LiveConfiguration::Current() const {
  std::lock_guard lock(mutex_);
  return current_;
}

void LiveConfiguration::Subscribe(Subscriber subscriber) {
  std::lock_guard lock(change_mutex_);
  subscribers_.push_back(std::move(subscriber));
}

Result<Configuration> LiveConfiguration::Parse(std::string_view text) const {
  const std::string name = file_ ? file_->string() : "configuration";
  TANDEM_ASSIGN_OR_RETURN(Configuration parsed, ParseConfiguration(text, name));
  if (file_) parsed.directory = file_->parent_path();
  return ApplyFlags(std::move(parsed), flags_);
}

Status LiveConfiguration::Adopt(Configuration next, const std::function<Status()>& write) {
  const ConfigurationVersion before = Current();
  ConfigurationVersion version{before.number, ConfigurationDigest(next),
                               std::make_shared<const Configuration>(std::move(next))};
  if (version.sha256 != before.sha256) ++version.number;
  std::vector<Commit> commits;
  for (Subscriber& subscriber : subscribers_) {
    TANDEM_ASSIGN_OR_RETURN(Commit commit, subscriber(version));
    commits.push_back(std::move(commit));
  }
  TANDEM_RETURN_IF_ERROR(write());
  {
    std::lock_guard lock(mutex_);
    current_ = version;
  }
  for (Commit& commit : commits) {
    if (commit) commit();
  }
  const std::vector<std::string> changed = ChangedPaths(*before.value, *version.value);
  std::vector<std::string_view> at_next_start;
  for (const std::string& path : changed) {
    if (path.starts_with("server.") || path.starts_with("store.")) at_next_start.push_back(path);
  }
  log::Info("configuration version {} ({}) is in force: {} values changed", version.number,
            version.sha256.substr(0, 12), changed.size());
  if (!at_next_start.empty()) {
    log::Warning("these take effect at the next start: {}", fmt::join(at_next_start, ", "));
  }
  return {};
}

Status LiveConfiguration::Reload() {
  std::lock_guard lock(change_mutex_);
  const auto reload = [&]() -> Status {
    if (!file_) {
      return Err(ErrorCode::kFailedPrecondition,
                 "there is no file to read again; start with --config FILE");
    }
    TANDEM_ASSIGN_OR_RETURN(const std::string text, os::ReadFile(*file_, kMaxDocumentBytes));
    TANDEM_ASSIGN_OR_RETURN(Configuration next, Parse(text));
    return Adopt(std::move(next), [] { return Status(); });
  };
  Status status = reload();
  if (!status) {
    log::Error("the configuration stays as it was: {}", status.error().message);
  }
  return status;
}

Status LiveConfiguration::Replace(std::string_view text, std::string_view expected_sha256) {
  std::lock_guard lock(change_mutex_);
  if (!expected_sha256.empty() && expected_sha256 != Current().sha256) {
    return Err(ErrorCode::kFailedPrecondition,
               "the configuration has changed since: {} is in force; read it again",
               Current().sha256);
  }
  TANDEM_ASSIGN_OR_RETURN(Configuration next, Parse(text));
  return Adopt(std::move(next), [&]() -> Status {
    if (!file_) return {};
    // A link stays a link: what it points to is replaced.
    std::error_code error;
    const std::filesystem::path target = std::filesystem::weakly_canonical(*file_, error);
    const std::filesystem::path& path = error ? *file_ : target;
    return os::WriteFileAtomic(path, text, PermissionsOf(path));
  });
}

}  // namespace tandem::app
