// Models on this device, for the command line and for serving: the fleet wing's answers, and what
// the engine says about a model's file.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "engine/engine.h"
#include "fleet/fleet.h"

namespace tandem::app {

// The models below DATA_DIR, and those that came with the installation.
Result<std::unique_ptr<fleet::Fleet>> OpenFleet(const std::filesystem::path& data_dir);

// The file behind a word on the command line: a path where a file is, else a model reference.
// Errors: those of Fleet::Resolve.
Result<std::filesystem::path> FindModelFile(const std::filesystem::path& data_dir,
                                            std::string_view word);

// Removes a model and its package. Errors: those of Fleet::Remove.
Result<fleet::RemovedModel> RemoveModel(const std::filesystem::path& data_dir,
                                        std::string_view reference);

// Everything that `tandem show` prints.
struct ModelDescription {
  fleet::ModelInfo installed;
  std::optional<engine::ModelInfo> model;  // empty while the download is incomplete
  std::optional<engine::MemoryPlan> memory;
};
Result<ModelDescription> DescribeModel(const fleet::Fleet& fleet, std::string_view reference,
                                       const engine::EngineOptions& options);

}  // namespace tandem::app
