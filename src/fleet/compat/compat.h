// Charter of fleet/compat: from facts about a device and a model to the variant that fits and the
// rate to expect, or to what is missing, in sentences that a developer can act on. Pure: it may
// include base, fleet/catalogue and fleet/device, and reads no file, clock or network. It decides
// before anything is downloaded.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fleet/catalogue/catalogue.h"
#include "fleet/compat/rate.h"
#include "fleet/device/device_database.h"

namespace tandem::fleet {

// What is known of a device. Everything may be unknown.
struct DeviceFacts {
  std::string soc_name = {};  // as the client wrote it; empty: nobody said
  const Soc* soc = nullptr;   // null: nobody said, or soc_problem says why not
  std::string soc_problem = {};
  std::string platform = {};               // "android", "android_arm64"; empty: unknown
  std::optional<double> free_ram_gb = {};  // for the model and its caches, 10^9 bytes
  std::optional<DriverVersion> npu_driver = {};
  std::optional<Bandwidth> bandwidth = {};          // measured; else the SoC's
  std::optional<uint64_t> memory_limit_bytes = {};  // what the application allows the model
  std::optional<uint64_t> free_disk_bytes = {};
};

struct VariantVerdict {
  const Variant* variant = nullptr;
  bool fits = false;  // nothing is unmet
  // Why it is not chosen by itself for deployment even where it fits; empty: it may be.
  std::string not_deployable = {};
  std::vector<std::string> unmet = {};  // sentences
  std::vector<std::string> notes = {};  // what is unknown, or good to know
  std::optional<MemoryNeeds> needs = {};
  std::optional<ExpectedRate> rate = {};  // empty: unknown, and a note says why
};

struct Compatibility {
  const CatalogueEntry* model = nullptr;
  int32_t context_tokens = 0;
  std::vector<VariantVerdict> variants = {};  // in the catalogue's order
  // The variant to take: the first that fits and may be deployed by itself, else the first that
  // fits; where none does, the one that lacks least. Empty for a model without variants.
  std::optional<size_t> chosen = {};
  std::vector<std::string> unmet = {};  // of the chosen one; or of the model itself

  bool compatible() const { return unmet.empty() && chosen.has_value(); }
  const VariantVerdict* choice() const { return chosen ? &variants[*chosen] : nullptr; }
};

// More memory never makes an incompatible device out of a compatible one.
Compatibility CheckCompatibility(const CatalogueEntry& model, const DeviceFacts& device,
                                 int32_t context_tokens = kDefaultContextTokens);

}  // namespace tandem::fleet
