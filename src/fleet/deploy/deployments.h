// Which package and executor stand for each model name, and which did before.
//
//   FILE  {"format":1,"models":[{"model":"demo","current":{...},"previous":{...}}, ...]}
//
// It is replaced as a whole, so that a reader, or a process that died, sees the old or the new
// state of every model, never a mixture.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace tandem::fleet {

struct Deployment {
  std::string id;                   // "dep-" and 16 digits
  std::string model;                // the name that answers to it
  std::string package;              // its file
  std::string package_digest;       // of the content that was tested
  std::string executor = "cpu";     // "cpu", "gpu", "npu", "other"
  std::string driver;               // its library; empty on the cores
  std::string device_id;            // the client's name for the device
  bool software_fallback = false;   // the cores, in an accelerator's place
  int batch_size = 0;               // answers at the same time
  int attempts = 0;                 // at the accelerator
  uint64_t memory_bytes = 0;        // planned, with one full context
  uint64_t memory_limit_bytes = 0;  // 0: the server's own
  std::string reason;               // why this executor
  int64_t deployed_at_s = 0;

  bool operator==(const Deployment&) const = default;
};

// Thread: any; several processes may share the file, and see each other's changes at the next
// Refresh().
class Deployments {
 public:
  // Errors: kCorrupt for a file that is damaged: which package answers is not to be guessed.
  static Result<std::unique_ptr<Deployments>> Open(std::filesystem::path file);

  std::optional<Deployment> Current(std::string_view model) const;
  std::optional<Deployment> Previous(std::string_view model) const;
  // Of the package file: what stands for it now. For a loader that knows a file only.
  std::optional<Deployment> OfPackage(const std::filesystem::path& package) const;
  std::vector<Deployment> List() const;  // the current ones, by model

  // The model's deployment from now on; what it was before is kept as its previous one, unless it
  // is the same package on the same executor again. Errors: those of writing the file; nothing has
  // changed then.
  Status Activate(const Deployment& deployment);
  // Exchanges the current and the previous one. Errors: kNotFound for a model that was never
  // deployed, kFailedPrecondition where there is no previous one; those of writing the file.
  Result<Deployment> RollBack(std::string_view model, int64_t now_s);
  // The name stands for what is installed again. Errors: kNotFound; those of writing the file.
  Status Remove(std::string_view model);
  Status Refresh();

 private:
  struct Entry {
    Deployment current;
    std::optional<Deployment> previous;
  };
  explicit Deployments(std::filesystem::path file) : file_(std::move(file)) {}
  static Result<std::vector<Entry>> Read(const std::filesystem::path& file);
  template <typename Change>
  Status Update(Change change);

  const std::filesystem::path file_;
  mutable std::mutex mutex_;
  std::vector<Entry> entries_;  // guarded by mutex_; by model
};

}  // namespace tandem::fleet
