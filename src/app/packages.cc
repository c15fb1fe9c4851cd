#include "app/packages.h"

#include <algorithm>
#include <memory>
#include <system_error>

#include "base/log.h"
#include "crypto/digest.h"
#include "os/file.h"

namespace tandem::app {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kExtension = ".tandem";
// Of a model file: its keys and the list of its tensors, or most of them.
constexpr size_t kDigestedBytes = size_t{1} << 20;
// Changes whenever the same model would give another package.
constexpr std::string_view kPackerVersion = "tandem package 3";
// Packing less takes well below a second.
constexpr uint64_t kWorthALine = uint64_t{100} << 20;
constexpr size_t kFileDigits = 16;
constexpr size_t kContentDigits = 32;

Status Digest(const fs::path& path, crypto::Sha256* sha256) {
  TANDEM_ASSIGN_OR_RETURN(const os::MappedFile mapped, os::MappedFile::Open(path));
  std::error_code error;
  const auto changed = fs::last_write_time(path, error);
  if (error) return ErrnoError(error.value(), "examining " + path.string());
  const auto bytes = mapped.bytes();
  sha256->Update(fmt::format("\n{} {}\n", bytes.size(), changed.time_since_epoch().count()));
  sha256->Update(bytes.first(std::min(bytes.size(), kDigestedBytes)));
  return {};
}

}  // namespace

std::string Packages::FileDigits(const fs::path& model) const {
  std::error_code ignored;
  fs::path absolute = fs::absolute(model, ignored);
  if (ignored) absolute = model;
  return crypto::Sha256Hex(absolute.lexically_normal().string()).substr(0, kFileDigits);
}

Result<fs::path> Packages::PathFor(const fs::path& model) const {
  crypto::Sha256 sha256;
  sha256.Update(kPackerVersion);
  TANDEM_ASSIGN_OR_RETURN(const auto files, engine::ModelFiles(model));
  for (const fs::path& file : files) TANDEM_RETURN_IF_ERROR(Digest(file, &sha256));
  return directory_ / fmt::format("{}-{}{}", FileDigits(model),
                                  crypto::Hex(sha256.Finish()).substr(0, kContentDigits),
                                  kExtension);
}

Result<fs::path> Packages::Find(const fs::path& model) const {
  TANDEM_ASSIGN_OR_RETURN(const bool is_package, engine::IsPackage(model));
  if (is_package) return model;
  TANDEM_ASSIGN_OR_RETURN(fs::path path, PathFor(model));
  std::error_code ignored;
  return fs::is_regular_file(path, ignored) ? path : fs::path();
}

Result<fs::path> Packages::Get(const fs::path& model, const PackProgressFn& progress,
                               const std::stop_token& stop) const {
  TANDEM_ASSIGN_OR_RETURN(fs::path found, Find(model));
  if (!found.empty()) return found;
  TANDEM_RETURN_IF_ERROR(os::MakeDirectories(directory_));
  TANDEM_ASSIGN_OR_RETURN(const os::FileLock lock, os::FileLock::Acquire(directory_ / "lock"));
  // Another process may have packed it while this one waited.
  TANDEM_ASSIGN_OR_RETURN(found, Find(model));
  if (!found.empty()) return found;
  TANDEM_ASSIGN_OR_RETURN(fs::path path, PathFor(model));
  TANDEM_ASSIGN_OR_RETURN(
      const engine::PackSummary summary,
      engine::Pack(model, path, {.scheme = "auto", .progress = progress, .stop = stop}));
  log::Info("packed {} into {} ({} bytes, {:.2f} bits a weight)", model.string(), path.string(),
            summary.file_bytes, summary.bits_per_weight);
  TANDEM_RETURN_IF_ERROR(RemoveOthers(model, path));
  return path;
}

Result<uint64_t> Packages::Remove(const fs::path& model) const {
  std::error_code ignored;
  if (!fs::is_directory(directory_, ignored)) return 0;
  TANDEM_ASSIGN_OR_RETURN(const os::FileLock lock, os::FileLock::Acquire(directory_ / "lock"));
  return RemoveOthers(model, {});
}

Result<uint64_t> Packages::RemoveOthers(const fs::path& model, const fs::path& kept) const {
  const std::string prefix = FileDigits(model) + "-";
  uint64_t freed_bytes = 0;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory_, error)) {
    const std::string name = entry.path().filename().string();
    // What a killed packer left goes too: whoever holds the lock packs nothing else.
    if (!name.starts_with(prefix) || entry.path() == kept) continue;
    std::error_code ignored;
    const uint64_t n_bytes = entry.file_size(ignored);
    // A process that has it mapped keeps its pages until it ends.
    if (fs::remove(entry.path(), ignored)) freed_bytes += n_bytes;
  }
  if (error) return ErrnoError(error.value(), "reading " + directory_.string());
  return freed_bytes;
}

EnginePool::Loader PackingLoader(const Packages* packages) {
  // The threads of the last model that was loaded; all of as many share them.
  struct Threads {
    int n = 0;
    std::shared_ptr<engine::ComputeThreads> pool;
  };
  return [packages, threads = std::make_shared<Threads>()](
             const std::filesystem::path& model,
             const engine::EngineOptions& wanted) -> Result<std::unique_ptr<engine::Engine>> {
    engine::EngineOptions options = wanted;
    if (threads->pool == nullptr || threads->n != options.n_threads) {
      TANDEM_ASSIGN_OR_RETURN(threads->pool, engine::StartComputeThreads(options.n_threads));
      threads->n = options.n_threads;
    }
    options.threads = threads->pool;
    int percent = -1;
    TANDEM_ASSIGN_OR_RETURN(
        const std::filesystem::path package,
        packages->Get(model, [&](uint64_t done_bytes, uint64_t total_bytes) {
          const int now = static_cast<int>(100 * done_bytes / std::max<uint64_t>(1, total_bytes));
          if (percent < 0 && total_bytes >= kWorthALine) {
            // Whoever runs the server should know why its first answer takes so long.
            log::Warning("packing {} ({} MB), once: requests for it wait until it is done",
                         model.filename().string(), total_bytes / 1'000'000);
          }
          if (now / 10 != percent / 10) {
            log::Info("packing {}: {} %", model.filename().string(), now);
          }
          percent = now;
        }));
    return engine::Engine::Load(package, options);
  };
}

}  // namespace tandem::app
