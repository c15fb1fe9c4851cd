// Accelerators of this machine: their drivers, found and tested in child processes, and what was
// found out about each with each package.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "engine/accelerator.h"
#include "fleet/deploy/verdicts.h"

namespace tandem::app {

struct AcceleratorsOptions {
  std::filesystem::path data_dir;              // verdicts below executors/, drivers as drivers/*.so
  std::vector<std::filesystem::path> drivers;  // further ones
  // What is run as `PROGRAM driver ...`; empty: the program that runs now.
  std::filesystem::path program;
  std::chrono::milliseconds probe_timeout{10'000};
  std::chrono::milliseconds check_timeout{120'000};
  // What a self-test may allocate beside the package that it maps; 0: half of what this process
  // may use.
  uint64_t check_data_limit_bytes = 0;
};

// Thread: any. The clock must outlive it.
class Accelerators {
 public:
  // Errors: those of Verdicts::Open; kIo where the own program cannot be found.
  static Result<std::unique_ptr<Accelerators>> Open(AcceleratorsOptions options,
                                                    const Clock* clock);

  struct Found {
    std::filesystem::path driver;
    std::optional<engine::DeviceInfo> device;
    std::string problem;  // why there is none
  };
  // Every driver, asked in a child process; in the order of their paths, configured ones first.
  // Waits for each, at most probe_timeout.
  std::vector<Found> Probe() const;
  Found ProbeOne(const std::filesystem::path& driver) const;

  // Whether this driver may run this package: what is remembered, or the known-answer test in a
  // child process, whose verdict is then remembered. A context that could not be created is not
  // remembered: that passes.
  // Errors: what keeps the question from being asked (a package or driver that is not there, a
  // child process that cannot be started).
  Result<fleet::Verdict> Check(const Found& accelerator, const std::filesystem::path& package);

  // Tears the device's contexts down, in a child process, and forgets what was found about the
  // driver. Errors: the driver's.
  Status Reset(const std::filesystem::path& driver);

  // The executor serves in this process from now on; see Verdicts::Use. `package` was checked.
  Result<fleet::Verdicts::Use> BeginUse(const Found& accelerator,
                                        const std::filesystem::path& package);

  std::vector<fleet::Verdict> Remembered() const { return verdicts_->List(); }

 private:
  Accelerators(AcceleratorsOptions options, const Clock* clock,
               std::unique_ptr<fleet::Verdicts> verdicts)
      : options_(std::move(options)), clock_(clock), verdicts_(std::move(verdicts)) {}

  Result<fleet::VerdictKey> KeyOf(const Found& accelerator,
                                  const std::filesystem::path& package) const;
  fleet::Verdict Test(const std::filesystem::path& driver,
                      const std::filesystem::path& package) const;
  std::vector<std::filesystem::path> Drivers() const;
  int64_t NowSeconds() const;

  const AcceleratorsOptions options_;
  const Clock* const clock_;
  const std::unique_ptr<fleet::Verdicts> verdicts_;
};

// What the child processes do: `tandem driver probe|check|reset`. Each gives one line of JSON, also
// where the driver refuses: {"error":{"code":...,"message":...}}.
std::string ProbeDriverJson(const std::filesystem::path& driver);
std::string CheckDriverJson(const std::filesystem::path& driver,
                            const std::filesystem::path& package, const Clock& clock);
std::string ResetDriverJson(const std::filesystem::path& driver);

}  // namespace tandem::app
