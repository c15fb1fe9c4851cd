// Packages of the models below a data directory: each model file is packed once, the first time
// that it is run, and mapped ever after.
//
//   DATA_DIR/packages/FILE-CONTENT.tandem   FILE: digits of the model file's path; CONTENT: digits
//   of
//                                           what a package of it depends on
//   DATA_DIR/packages/lock                  held while a package is written or removed
//
// CONTENT changes with the packer, the length, the time of change and the first MiB of each file of
// the model, so that a model which was replaced is packed again; the package that it had before is
// then removed. docs/package.md says more.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <stop_token>
#include <string>

#include "app/engine_pool.h"
#include "base/error.h"
#include "engine/packing.h"

namespace tandem::app {

// Gets the bytes written so far and their total, while a model is packed.
using PackProgressFn = std::function<void(uint64_t done_bytes, uint64_t total_bytes)>;

// Thread: any; several processes may share a data directory.
class Packages {
 public:
  explicit Packages(const std::filesystem::path& data_dir) : directory_(data_dir / "packages") {}

  // The package of a model file, made where it is missing; a file that is a package already is
  // given back. Whoever comes while another one packs the same model waits for it.
  // Errors: those of engine::Pack; kIo, kPermissionDenied, ... for a directory that cannot be
  // written.
  Result<std::filesystem::path> Get(const std::filesystem::path& model,
                                    const PackProgressFn& progress,
                                    const std::stop_token& stop = {}) const;

  // Where the package of a model file is; empty where it was not packed yet.
  Result<std::filesystem::path> Find(const std::filesystem::path& model) const;

  // Removes the packages of a model file, which may be gone itself. Returns the bytes freed.
  Result<uint64_t> Remove(const std::filesystem::path& model) const;

 private:
  std::string FileDigits(const std::filesystem::path& model) const;
  Result<std::filesystem::path> PathFor(const std::filesystem::path& model) const;
  // Removes what stands for this model file, but for `kept`.
  Result<uint64_t> RemoveOthers(const std::filesystem::path& model,
                                const std::filesystem::path& kept) const;

  const std::filesystem::path directory_;
};

// What an engine pool loads models with: each from its package, which is made first where it is
// missing, and said so in the log. `packages` must outlive the loader.
EnginePool::Loader PackingLoader(const Packages* packages);

}  // namespace tandem::app
