// What self-tests found, remembered on disk: an executor that hung, crashed or computed garbage is
// not tried again until its driver, its device, the system or the package changes.
//
//   DIR/verdicts.json  {"format":1,"verdicts":[{...}, ...]}, replaced as a whole
//   DIR/use-DIGITS     locked by the process in which that executor serves
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "os/file.h"

namespace tandem::fleet {

enum class Finding {
  kPassed,
  kWrong,      // finite, but too far from the known answers
  kNotFinite,  // not a number, or the wrong shape
  kSlow,       // right, and slower than the cores
  kHung,
  kCrashed,
  kOutOfMemory,    // took more memory than a self-test may
  kContextFailed,  // no context, after all attempts
  kUnsupported,    // no such device, or not this package
  kKilledProcess,  // the process died while it served
};

// "passed", "wrong_answers", ...: the names in files and answers.
std::string_view FindingName(Finding finding);
std::optional<Finding> ParseFinding(std::string_view name);

// What a verdict is about: everything whose change asks for another self-test.
struct VerdictKey {
  std::string device;         // its name
  std::string driver_digest;  // SHA-256 of the library
  std::string driver_version;
  std::string system;  // the operating system's release
  std::string package_digest;

  bool operator==(const VerdictKey&) const = default;
};

struct Verdict {
  VerdictKey key;
  std::string driver;  // its path, for people
  Finding finding = Finding::kPassed;
  std::string reason;  // a sentence
  double relative_error = 0;
  double error_bound = 0;
  double decode_tokens_per_second = 0;
  double cpu_decode_tokens_per_second = 0;
  int64_t at_s = 0;  // seconds since 1970
};

// Thread: any; several processes may share the file.
class Verdicts {
 public:
  // `directory` holds verdicts.json and the marks of executors that serve now; made when missing.
  // A file that cannot be read is kept aside as verdicts.json.damaged, and nothing is known: every
  // executor is tested again. Marks that a process left behind when it died become kKilledProcess.
  // Errors: kIo, kPermissionDenied.
  static Result<std::unique_ptr<Verdicts>> Open(std::filesystem::path directory, int64_t now_s);

  std::optional<Verdict> Find(const VerdictKey& key) const;
  std::vector<Verdict> List() const;
  // Replaces what is known about the same key. Errors: those of writing the file.
  Status Put(Verdict verdict);
  // Forgets what was found about a driver, so that it is tested again: after a reset that somebody
  // asked for. Returns how many verdicts there were.
  Result<int> Forget(const std::filesystem::path& driver);

  // An executor serves in this process while this lives.
  class Use {
   public:
    Use(Use&& other) noexcept = default;
    Use& operator=(Use&& other) noexcept;
    ~Use() { End(); }

   private:
    friend class Verdicts;
    Use(os::FileLock lock, std::filesystem::path mark)
        : lock_(std::move(lock)), mark_(std::move(mark)) {}
    void End();
    std::optional<os::FileLock> lock_;
    std::filesystem::path mark_;
  };
  // Should the process die while the Use lives, the next Open() finds its mark.
  // Errors: kAlreadyExists where another process uses the same; those of writing the mark.
  Result<Use> BeginUse(const VerdictKey& key, const std::filesystem::path& driver);

 private:
  explicit Verdicts(std::filesystem::path directory) : directory_(std::move(directory)) {}
  std::filesystem::path file() const { return directory_ / "verdicts.json"; }
  Status Load();
  Status TakeMarks(int64_t now_s);
  // Under the file's lock: reads what others wrote, changes it, writes it.
  template <typename Change>
  Status Update(Change change);

  const std::filesystem::path directory_;
  mutable std::mutex mutex_;
  std::vector<Verdict> verdicts_;  // guarded by mutex_
};

}  // namespace tandem::fleet
