// Second door of the fleet wing: what a device can run, before anything is downloaded. Charter: it
// gathers what is known of a device (its own words, the database, a probe) and of a model (the
// table and a data directory's manifests) for fleet/compat, which decides. It may include base, os
// and the rooms of fleet/.
#pragma once

#include <filesystem>
#include <string_view>

#include "fleet/catalogue/catalogue_store.h"
#include "fleet/compat/compat.h"
#include "fleet/compat/npu.h"
#include "fleet/device/bandwidth.h"
#include "fleet/device/probe.h"

namespace tandem::fleet {

// What a data directory adds to the catalogue lies in DATA_DIR/catalogue.
CatalogueStore OpenCatalogueStore(const std::filesystem::path& data_dir);

// A device that is elsewhere. An empty `soc` is unknown, "none" is a device without a neural
// processor worth naming; neither is a problem.
DeviceFacts FactsOf(std::string_view soc, std::string_view platform);

// The device of a probe: its memory is what is free now.
DeviceFacts FactsOf(const DeviceProbe& probe);

// The entry of a model, by name or alias. Errors: kNotFound (param "model") naming the known ones.
Result<const CatalogueEntry*> FindModel(const Catalogue& catalogue, std::string_view name);

}  // namespace tandem::fleet
