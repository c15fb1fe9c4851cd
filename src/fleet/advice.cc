#include "fleet/advice.h"

#include <string>
#include <vector>

#include <fmt/ranges.h>

namespace tandem::fleet {
namespace {

constexpr double kGigabyte = 1e9;
constexpr size_t kMaxShown = 100;

}  // namespace

CatalogueStore OpenCatalogueStore(const std::filesystem::path& data_dir) {
  return CatalogueStore(data_dir / "catalogue");
}

DeviceFacts FactsOf(std::string_view soc, std::string_view platform) {
  DeviceFacts facts{.soc_name = std::string(soc.substr(0, kMaxShown)),
                    .platform = std::string(platform.substr(0, kMaxShown))};
  if (soc.empty() || soc == "none") return facts;
  const SocMatch match = DeviceDatabase::BuiltIn().Find(soc);
  facts.soc = match.soc;
  if (match.soc == nullptr) facts.soc_problem = match.Explain(soc);
  return facts;
}

DeviceFacts FactsOf(const DeviceProbe& probe) {
  DeviceFacts facts{.soc = probe.soc, .platform = probe.platform};
  if (probe.soc != nullptr) facts.soc_name = probe.soc->name;
  if (probe.memory) {
    facts.free_ram_gb = static_cast<double>(probe.memory->available_bytes) / kGigabyte;
  }
  return facts;
}

Result<const CatalogueEntry*> FindModel(const Catalogue& catalogue, std::string_view name) {
  if (const CatalogueEntry* entry = catalogue.Find(name)) return entry;
  std::vector<std::string> known;
  for (const CatalogueEntry& entry : catalogue.entries()) known.push_back(entry.name);
  return std::unexpected(
      Error{ErrorCode::kNotFound,
            fmt::format("the catalogue has no model '{}'; it has {}, and 'tandem catalogue add' "
                        "takes a manifest of another",
                        name.substr(0, kMaxShown), fmt::join(known, ", ")),
            "model"});
}

}  // namespace tandem::fleet
