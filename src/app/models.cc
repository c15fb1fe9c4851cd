#include "app/models.h"

#include <utility>

#include "app/packages.h"
#include "base/log.h"

namespace tandem::app {

Result<std::unique_ptr<fleet::Fleet>> OpenFleet(const std::filesystem::path& data_dir) {
  return fleet::Fleet::Open(fleet::DefaultFleetOptions(data_dir));
}

Result<std::filesystem::path> FindModelFile(const std::filesystem::path& data_dir,
                                            std::string_view word) {
  std::error_code ignored;
  const std::filesystem::path path(word);
  if (std::filesystem::is_regular_file(path, ignored)) return path;
  // A folder of a model's name must not hide the installed model.
  if (word.contains('/') && engine::IsModelFolder(path)) return path;
  TANDEM_ASSIGN_OR_RETURN(const auto models, OpenFleet(data_dir));
  TANDEM_ASSIGN_OR_RETURN(fleet::ResolvedModel resolved, models->Resolve(word));
  return std::move(resolved.path);
}

Result<fleet::RemovedModel> RemoveModel(const std::filesystem::path& data_dir,
                                        std::string_view reference) {
  TANDEM_ASSIGN_OR_RETURN(const auto models, OpenFleet(data_dir));
  const auto shown = models->Show(reference);
  TANDEM_ASSIGN_OR_RETURN(fleet::RemovedModel removed, models->Remove(reference));
  if (!shown || shown->path.empty()) return removed;
  // The model is gone; what is left of its package is no reason to call that a failure.
  const auto freed_bytes = Packages(data_dir).Remove(shown->path);
  if (freed_bytes) {
    removed.freed_bytes += *freed_bytes;
  } else {
    log::Warning("removing the package of {}: {}", removed.name, freed_bytes.error().message);
  }
  return removed;
}

Result<ModelDescription> DescribeModel(const fleet::Fleet& fleet, std::string_view reference,
                                       const engine::EngineOptions& options) {
  ModelDescription description;
  TANDEM_ASSIGN_OR_RETURN(description.installed, fleet.Show(reference));
  if (!description.installed.complete) return description;
  TANDEM_ASSIGN_OR_RETURN(description.model, engine::ReadModelInfo(description.installed.path));
  TANDEM_ASSIGN_OR_RETURN(description.memory,
                          engine::PlanMemory(description.installed.path, options));
  return description;
}

}  // namespace tandem::app
