// The configuration in force, and how it is replaced while requests run: all of it or nothing.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "app/configuration.h"
#include "base/error.h"

namespace tandem::app {

// One version of the configuration. Holders keep it alive as long as they need it.
struct ConfigurationVersion {
  uint64_t number = 0;  // 1 for the first; a change adds one
  std::string sha256;   // ConfigurationDigest
  std::shared_ptr<const Configuration> value;
};

// Thread: any, for every method.
class LiveConfiguration {
 public:
  // Reads the file, or takes the shipped configuration where there is none, and puts the flags over
  // it; they stay over every later version too. Errors: as LoadConfiguration and ApplyFlags.
  static Result<std::unique_ptr<LiveConfiguration>> Open(std::optional<std::filesystem::path> file,
                                                         ConfigurationFlags flags);

  // Cheap: a lock and two copies.
  ConfigurationVersion Current() const;
  // Empty: none.
  const std::optional<std::filesystem::path>& file() const { return file_; }

  // A subscriber looks at the next version before it is in force. It returns an error to refuse it,
  // or what makes the change in its own part, which is called once the version is in force and
  // every subscriber has agreed; a preparation of a version that another one refused is destroyed
  // uncalled. Subscribers are called one change at a time, in the order in which they subscribed,
  // on the thread of the change, and must not call Reload, Replace or Subscribe.
  using Commit = std::move_only_function<void()>;
  using Subscriber = std::move_only_function<Result<Commit>(const ConfigurationVersion& next)>;
  // `subscriber` and what it captures must outlive this object.
  void Subscribe(Subscriber subscriber);

  // Reads the file again (SIGHUP). One that says the same is no new version (number and digest
  // stay), but subscribers are asked as for any other: files that it names, such as an upstream's
  // key, may have changed.
  // Errors: kFailedPrecondition where there is no file; as Open; what a subscriber refused with.
  //   The version in force stays, and the error is logged.
  Status Reload();

  // Takes this text in the place of the file's (admin API), and writes it there, so that the next
  // start and the next Reload see it. Where there is no file it is in force until the next start.
  //   expected_sha256: empty, or the version that the caller has seen
  // Errors: as Reload, those of writing the file, and kFailedPrecondition where another version is
  //   in force than the caller expected; nothing has changed then.
  Status Replace(std::string_view text, std::string_view expected_sha256 = {});

 private:
  LiveConfiguration(std::optional<std::filesystem::path> file, ConfigurationFlags flags,
                    Configuration first);

  Result<Configuration> Parse(std::string_view text) const;
  // With change_mutex_ held. `write` runs when all have agreed, before the version is in force.
  Status Adopt(Configuration next, const std::function<Status()>& write);

  const std::optional<std::filesystem::path> file_;
  const ConfigurationFlags flags_;
  std::mutex change_mutex_;              // one change at a time
  std::vector<Subscriber> subscribers_;  // guarded by change_mutex_
  mutable std::mutex mutex_;
  ConfigurationVersion current_;  // guarded by mutex_
};

}  // namespace tandem::app
